import { once } from "node:events";
import { describe, expect, test } from "vitest";
import type { EgressRequest } from "../src/gateway/index.ts";
import { DnsClient, type Host, parseAddress, type UdpSocket } from "../src/index.ts";
import { DNS_TYPE, dnsQuery, encodeDns, optRecord, parseDns } from "../src/wire/dns.ts";
import { dial, hostServer, outsideWith, setup, throughAlias } from "./guest.ts";

async function refusal(guest: Host, host: string, port: number): Promise<string> {
	const [error] = await once(dial(guest, host, port), "error");
	return error.code;
}

/** Sends one datagram; what came of it. */
function datagram(guest: Host, to: string, port: number, waitMs = 300): Promise<string> {
	return new Promise((resolve) => {
		const socket: UdpSocket = guest.udp.open({
			onMessage: (data) => resolve(Buffer.from(data).toString()),
			onError: (error) => resolve(error.code),
		});
		socket.connect(to, port);
		socket.send(Buffer.from("x"));
		guest.driver.wake();
		setTimeout(() => resolve("silence"), waitMs);
	});
}

describe("what is denied", () => {
	test("is refused at once, both families, with a line in the audit", async () => {
		const { guest, audit } = await setup({ policy: { allow: ["good.example:443"] } });
		await expect.poll(() => guest.stack.routes.lookup(parseAddress("2001:db8::1")!)?.origin).toBe("ra");
		const times: number[] = [];
		for (const host of [
			"192.0.2.66",
			"2001:4860::66",
			"169.254.169.254",
			"fd12::1",
			"64:ff9b::a9fe:a9fe",
			"2002:7f00:1::1",
		]) {
			const start = performance.now();
			expect(await refusal(guest, host, 443)).toBe("ECONNREFUSED");
			times.push(performance.now() - start);
			expect(audit.at(-1)).toMatchObject({ action: "deny", protocol: "tcp" });
			expect(audit.at(-1)!.destination).toContain(parseAddress(host)!.toString());
			expect(audit.at(-1)!.guest).toMatch(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
		}
		// The median: one pause of a loaded machine is not the gateway's.
		expect(times.sort((a, b) => a - b)[times.length >> 1]).toBeLessThan(100);
	});

	test("UDP hears of it by ICMP", async () => {
		const { guest, audit } = await setup({ policy: { allow: ["good.example"] } });
		expect(await datagram(guest, "192.0.2.66", 9)).toBe("EHOSTUNREACH");
		expect(audit.at(-1)).toMatchObject({ action: "deny", protocol: "udp", reason: "default" });
		await guest.resolve("good.example", 4);
		expect(await datagram(guest, "192.0.2.10", 443)).toBe("EHOSTUNREACH");
		expect(audit.at(-1)).toMatchObject({ protocol: "udp", reason: "quic", names: ["good.example"] });
		expect(await datagram(guest, "192.0.2.10", 853)).toBe("EHOSTUNREACH");
		expect(audit.at(-1)).toMatchObject({ protocol: "udp", reason: "encrypted-dns" });
	});

	test("an address that nobody resolved is not the name's, and a private answer opens nothing", async () => {
		const { guest, audit } = await setup({
			policy: { allow: ["good.example", "rebind.example", "rebind6.example", "mixed.example"] },
		});
		expect(await refusal(guest, "192.0.2.10", 443)).toBe("ECONNREFUSED");
		await expect(guest.resolve("rebind.example", 0)).rejects.toMatchObject({ code: "ENOTFOUND" });
		await expect(guest.resolve("rebind6.example", 0)).rejects.toMatchObject({ code: "ENOTFOUND" });
		expect((await guest.resolve("mixed.example", 4)).map(String)).toEqual(["192.0.2.20"]);
		for (const host of ["10.0.0.5", "169.254.169.254"]) expect(await refusal(guest, host, 443)).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ reason: "private" });
	});

	test("DNS over TCP to a server of the guest's own choice is the gateway's as well", async () => {
		const { guest, asked } = await setup({ policy: { allow: ["good.example"] } });
		for (const [name, rcode] of [
			["good.example", 0],
			["bad.example", 3],
		] as const) {
			const socket = dial(guest, "8.8.8.8", 53);
			const query = encodeDns(dnsQuery(7, name, DNS_TYPE.A))!;
			socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
			const [data] = await once(socket, "data");
			expect(parseDns(data.subarray(2))).toMatchObject({ id: 7, rcode });
			socket.destroy();
		}
		expect(asked).toEqual(["good.example"]);
	});
});

describe("decisions", () => {
	test("are asked with plain data, and time out as denials", async () => {
		const requests: EgressRequest[] = [];
		const { guest, audit, gateway } = await setup({
			...throughAlias(),
			decideTimeoutMs: 50,
			decide: (request) => {
				requests.push(structuredClone(request));
				return request.port === 1 ? new Promise(() => undefined) : Promise.reject(new Error("no"));
			},
		});
		await guest.resolve("good.example", 4);
		expect(await refusal(guest, "192.0.2.10", 1)).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ action: "deny", reason: "timeout" });
		expect(await refusal(guest, "192.0.2.10", 2)).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ action: "deny", reason: "hook", flow: requests.at(-1)!.flow });
		expect(requests[0]).toMatchObject({
			protocol: "tcp",
			guest: gateway.leases()[0]!.mac,
			source: gateway.leases()[0]!.address,
			address: "192.0.2.10",
			port: 1,
			names: ["good.example"],
		});
	});

	test("UDP waits for its decision, and a late yes lets it go", async () => {
		const { guest, gateway } = await setup({
			decide: () => new Promise((resolve) => setTimeout(() => resolve(true), 20)),
			outbound: {
				...outsideWith({}),
				datagrams: () => {
					const socket: ReturnType<ReturnType<typeof outsideWith>["datagrams"]> = {
						send: (bytes, address, port) => queueMicrotask(() => socket.onMessage?.(bytes, address, port)),
						close: () => undefined,
						onMessage: undefined,
						onError: undefined,
					};
					return socket;
				},
			},
		});
		expect(gateway.leases()).toHaveLength(1);
		expect(await datagram(guest, "192.0.2.44", 7, 5_000)).toBe("x");
	});
});

describe("while it runs", () => {
	test("the rules change, and bad ones leave the old in force", async () => {
		const { guest, gateway } = await setup({ ...throughAlias(), policy: { default: "deny" } });
		const port = await hostServer((socket) => socket.end("hello"));
		expect(await refusal(guest, "192.0.2.10", port)).toBe("ECONNREFUSED");
		gateway.setPolicy({ allow: [{ network: "192.0.2.10", ports: port }] });
		const [data] = await once(dial(guest, "192.0.2.10", port), "data");
		expect(String(data)).toBe("hello");
		expect(() => gateway.setPolicy({ allow: ["a b"] })).toThrow(expect.objectContaining({ code: "ERR_BAD_RULE" }));
		await once(dial(guest, "192.0.2.10", port), "data");
	});

	test("forwards come from the configuration and go by their number", async () => {
		const outside = await hostServer((socket) => socket.end("service"));
		const { guest, gateway } = await setup({
			publish: [{ hostPort: 0, guestPort: 8080 }],
			expose: [{ port: 9000, address: "127.0.0.1", hostPort: outside }],
		});
		const [published] = await gateway.ready;
		expect(published!.port).toBeGreaterThan(0);
		const [data] = await once(dial(guest, "10.0.2.2", 9000), "data");
		expect(String(data)).toBe("service");
		const more = gateway.expose({ port: 9001, address: "127.0.0.1", hostPort: outside });
		expect(() => gateway.expose({ port: 9001, address: "127.0.0.1", hostPort: outside })).toThrow(/9001/);
		expect(gateway.unpublish(more)).toBe(true);
		expect(gateway.unpublish(more.id)).toBe(false);
		expect(await refusal(guest, "10.0.2.2", 9001)).toBe("ECONNREFUSED");
	});

	test("limits on connections and on bytes a second", async () => {
		const { guest, gateway, audit } = await setup({ ...throughAlias(), limits: { connections: 1 } });
		const port = await hostServer((socket) => {
			socket.write(Buffer.alloc(200_000));
		});
		const first = dial(guest, "192.0.2.10", port);
		await once(first, "connect");
		await expect.poll(() => gateway.connections).toBe(1);
		const second = dial(guest, "192.0.2.10", port);
		await expect.poll(() => audit.some((event) => event.reason === "limit")).toBe(true);
		second.destroy();
		let got = 0;
		first.on("data", (chunk: Buffer) => (got += chunk.length));
		await expect.poll(() => got).toBe(200_000);
		first.destroy();
		gateway.setLimits({ bytesPerSecondIn: 100_000 });
		const slow = dial(guest, "192.0.2.10", port);
		let slowGot = 0;
		slow.on("data", (chunk: Buffer) => (slowGot += chunk.length));
		const start = performance.now();
		await expect.poll(() => slowGot, { timeout: 20_000 }).toBe(200_000);
		// The burst is 100,000; the rest takes a second.
		expect(performance.now() - start).toBeGreaterThan(800);
		slow.destroy();
	});

	test("questions a second", async () => {
		const { guest, audit } = await setup({ limits: { dnsPerSecond: 1 } });
		const client = new DnsClient(guest, { servers: ["10.0.2.2"], attempts: 1, timeoutMs: 500 });
		await client.query("good.example", DNS_TYPE.A);
		await expect(client.query("also-good.example", DNS_TYPE.A)).rejects.toMatchObject({ code: "EAI_AGAIN" });
		expect(audit.at(-1)).toMatchObject({ protocol: "dns", reason: "limit", destination: "also-good.example" });
	});
});

describe("the gateway's DNS", () => {
	const ask = (guest: Host, bytes: Uint8Array): Promise<Buffer> =>
		new Promise((resolve) => {
			const socket = guest.udp.open({ onMessage: (data) => resolve(Buffer.from(data)) });
			socket.send(bytes, "10.0.2.2", 53);
			guest.driver.wake();
		});

	test("says EDNS to who says it, cuts what is too long, and refuses what it cannot read", async () => {
		const { guest } = await setup({
			zones: { "many.internal": Array.from({ length: 60 }, (_, i) => `10.9.0.${i}`) },
			domain: "guests.internal",
		});
		const plain = dnsQuery(1, "many.internal", DNS_TYPE.A);
		const cut = parseDns(await ask(guest, encodeDns(plain)!))!;
		expect(cut).toMatchObject({ truncated: true, answers: [], additionals: [] });
		const wide = { ...plain, additionals: [optRecord(4_096, 0)] };
		const whole = parseDns(await ask(guest, encodeDns(wide)!))!;
		expect(whole.truncated).toBe(false);
		expect(whole.answers).toHaveLength(60);
		expect(whole.additionals).toMatchObject([{ type: DNS_TYPE.OPT, class: 1_232 }]);
		const future = { ...plain, additionals: [{ ...optRecord(4_096, 0), ttl: 1 << 16 }] };
		const bad = parseDns(await ask(guest, encodeDns(future)!))!;
		expect(bad.rcode).toBe(0);
		expect(bad.additionals[0]!.ttl >>> 24).toBe(1);
		const two = { ...plain, questions: [...plain.questions, ...plain.questions] };
		expect(parseDns(await ask(guest, encodeDns(two)!))).toMatchObject({ rcode: 1 });
		expect(parseDns(await ask(guest, encodeDns({ ...plain, opcode: 5 })!))).toMatchObject({ rcode: 4 });
		// By TCP it is whole, and our own client asks so.
		const client = new DnsClient(guest, { servers: ["10.0.2.2"] });
		expect(await client.lookup("many.internal", 4)).toHaveLength(60);
		expect((await client.lookup("guest.guests.internal", 4)).map(String)).toEqual([
			guest.stack.interfaces[1]!.addressOf(4)!.toString(),
		]);
	});

	test("zones have aliases, wildcards, texts and services, and end where they end", async () => {
		const { guest, asked, gateway } = await setup({
			zones: {
				"svc.internal": ["10.9.0.1"],
				"*.svc.internal": [{ type: "CNAME", value: "svc.internal" }],
				"www.internal": [{ type: "CNAME", value: "good.example" }],
				"info.internal": [
					{ type: "TXT", value: "v=1" },
					{ type: "MX", value: "10 mail.internal" },
				],
				"_http._tcp.internal": [{ type: "SRV", value: "0 5 8080 svc.internal", ttl: 5 }],
			},
		});
		const client = new DnsClient(guest, { servers: ["10.0.2.2"] });
		expect((await client.lookup("a.b.svc.internal", 4)).map(String)).toEqual(["10.9.0.1"]);
		expect((await client.lookup("www.internal", 4)).map(String)).toEqual(["192.0.2.10"]);
		expect((await client.query("info.internal", DNS_TYPE.TXT)).answers[0]!.data).toEqual(
			Uint8Array.from([3, ...Buffer.from("v=1")]),
		);
		expect((await client.query("info.internal", DNS_TYPE.A)).answers).toEqual([]);
		expect((await client.query("_http._tcp.internal", DNS_TYPE.SRV)).answers[0]).toMatchObject({ ttl: 5 });
		await expect(client.query("x.info.internal", DNS_TYPE.A)).rejects.toMatchObject({ code: "ENOTFOUND" });
		expect(asked).toEqual(["good.example"]);
		expect(() => gateway.dns.setZone("x.internal", ["nonsense"])).toThrow(/nonsense/);
		expect(() => gateway.dns.setZone("x.internal", [{ type: "MX", value: "mail" }])).toThrow(/mail/);
	});

	test("service records do not lead past name rules", async () => {
		const { guest, asked } = await setup({ policy: { allow: ["good.example"] } });
		const client = new DnsClient(guest, { servers: ["10.0.2.2"] });
		expect((await client.query("good.example", 65)).answers).toEqual([]);
		expect(asked).toEqual([]);
	});
});
