import { describe, expect, test } from "vitest";
import { connectStreams, toAddress } from "../src/index.ts";
import { hosts } from "./hosts.ts";
import { pattern } from "./world.ts";

describe("hosts in real time", () => {
	test.each(["10.0.0.2", "fd00::2"])("a datagram of 20,000 bytes comes back from %s", async (address) => {
		const { a, b, close } = hosts();
		b.udp.open({ port: 7, onMessage: (data, from, socket) => socket.send(data, from.address, from.port) });
		const back = await new Promise<Uint8Array>((resolve) => {
			a.udp.open({ onMessage: (data) => resolve(data.slice()) }).send(pattern(20_000), address, 7);
		});
		expect(back).toEqual(pattern(20_000));
		close();
	});

	test.each(["10.0.0.2", "fd00::2"])("a closed port of %s is told to a connected datagram socket", async (address) => {
		const { a, close } = hosts();
		const code = await new Promise<string>((resolve) => {
			const socket = a.udp.open({ onError: (error) => resolve(error.code) });
			socket.connect(toAddress(address), 8);
			socket.send(Uint8Array.of(1));
		});
		expect(code).toBe("ECONNREFUSED");
		close();
	});

	test("a refused connection rejects", async () => {
		const { a, close } = hosts();
		await expect(connectStreams(a, "10.0.0.2", 8)).rejects.toMatchObject({ code: "ECONNREFUSED" });
		close();
	});
});
