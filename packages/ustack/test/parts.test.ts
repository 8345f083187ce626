import { describe, expect, test } from "vitest";
import { StackCore } from "../src/ip/core.ts";
import { Ethernet } from "../src/ip/ethernet.ts";
import { seededBytes, VirtualNetwork } from "../src/link/model.ts";
import { TcpCore } from "../src/tcp/core.ts";
import { tcpInfo } from "../src/tcp/info.ts";
import { SACK_RECOVERY } from "../src/tcp/recovery.ts";
import { toAddress } from "../src/wire/address.ts";
import { feed, pattern, Sink, same } from "./world.ts";

function bare(network: VirtualNetwork, seed: number, address: string, link: Parameters<VirtualNetwork["attach"]>[1]) {
	const stack = new StackCore({ random: seededBytes(seed) });
	network.add(stack);
	stack.addAddress(network.attach(stack, link), address);
	return { stack, tcp: new TcpCore(stack) };
}

describe("the core alone", () => {
	test("carries TCP over IPv4 with loss", () => {
		const network = new VirtualNetwork(4);
		const [left, right] = network.wire({ medium: "ip", delayMs: 5, loss: 0.02 });
		const a = bare(network, 1, "10.0.0.1/24", left);
		const b = bare(network, 2, "10.0.0.2/24", right);
		const got = new Sink();
		b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(300_000);
		const c = a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data), { fastOpen: new Uint8Array(0) });
		expect(network.run(120_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.congestion.name).toBe("reno");
		expect(tcpInfo(c).bytesSent).toBeGreaterThanOrEqual(data.length);
		expect(() => c.info()).toThrow(/info module/);
	});

	test.each([1, 2, 3, 4])("every byte is right however the wire treats frames (seed %i)", (seed) => {
		const network = new VirtualNetwork(seed);
		const rules = { medium: "ip" as const, delayMs: 5, loss: 0.08, duplicate: 0.08, reorder: 0.08, corrupt: 0.05 };
		const [left, right] = network.wire(rules);
		const a = bare(network, 1, "10.0.0.1/24", left);
		const b = bare(network, 2, "10.0.0.2/24", right);
		const got = new Sink();
		b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(200_000);
		const c = a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		expect(network.run(600_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.sackOk).toBe(false);
	});

	test("repairs a single loss by three duplicate acknowledgements, without a timeout", () => {
		const network = new VirtualNetwork(4);
		let big = 0;
		const [left, right] = network.wire({
			medium: "ip",
			delayMs: 20,
			filter: (frame) => frame.length < 1000 || ++big !== 20,
		});
		const a = bare(network, 1, "10.0.0.1/24", left);
		const b = bare(network, 2, "10.0.0.2/24", right);
		const got = new Sink();
		b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(200_000);
		const c = a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		expect(network.run(5_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect([c.timeouts, c.totalRetrans]).toEqual([0, 1]);
	});

	test("does without Ethernet, and says so", () => {
		const network = new VirtualNetwork(4);
		const [left] = network.wire();
		const stack = new StackCore({ random: seededBytes(1) });
		expect(() => stack.attach(left)).toThrow(expect.objectContaining({ code: "ENOPROTOOPT" }));
	});

	test("takes Ethernet and SACK's recovery where they are named", () => {
		const network = new VirtualNetwork(4);
		const [left, right] = network.wire({ delayMs: 5, loss: 0.02 });
		const [a, b] = [left, right].map((link, i) => {
			const stack = new StackCore({ random: seededBytes(i) }, { ethernet: (core) => new Ethernet(core) });
			network.add(stack);
			stack.addAddress(network.attach(stack, link), `10.0.0.${i + 1}/24`);
			return new TcpCore(stack, {}, { recovery: SACK_RECOVERY });
		});
		const got = new Sink();
		b!.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(100_000);
		const c = a!.connect("10.0.0.2", 80, feed(new Sink(), data));
		expect(network.run(60_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.sackOk).toBe(true);
	});

	test("does without IPv6, and says so", () => {
		const network = new VirtualNetwork(4);
		const [left] = network.wire({ medium: "ip" });
		const a = bare(network, 1, "10.0.0.1/24", left);
		expect(() => a.tcp.connect("fd00::1", 80)).toThrow(expect.objectContaining({ code: "ERR_BAD_ADDRESS" }));
		expect(() => a.tcp.connect(toAddress("fd00::1"), 80)).toThrow(expect.objectContaining({ code: "ENETUNREACH" }));
		const frame = new Uint8Array(40);
		frame[0] = 0x60;
		a.stack.input(frame, network.now);
		expect(a.stack.stats.reasons["ethertype-unknown"]).toBe(1);
	});

	test("a full backlog drops SYNs where there are no cookies", () => {
		const network = new VirtualNetwork(4);
		const [left, right] = network.wire({ medium: "ip" });
		const a = bare(network, 1, "10.0.0.1/24", left);
		const b = bare(network, 2, "10.0.0.2/24", right);
		b.tcp.listen({ port: 80, backlog: 1 });
		for (let i = 0; i < 20; i++) a.tcp.connect("10.0.0.2", 80);
		network.run(10);
		expect(b.tcp.stats.synDropped).toBeGreaterThan(0);
		expect(b.tcp.stats.synCookiesSent).toBe(0);
	});
});
