import { describe, expect, test } from "vitest";
import { Stack } from "../src/ip/stack.ts";
import { seededBytes, VirtualNetwork } from "../src/link/model.ts";
import { UdpLayer } from "../src/udp/layer.ts";
import { parseAddress, toAddress } from "../src/wire/address.ts";
import { put16 } from "../src/wire/bytes.ts";
import { foldSum, sumBytes } from "../src/wire/checksum.ts";
import { feed, pattern, Sink, same, warm, world } from "./world.ts";

function ping(w: ReturnType<typeof world>, to: string, size: number, hopLimit = 0): string[] {
	const got: string[] = [];
	const { icmp } = w.a.stack;
	const id = icmp.openEcho(
		{
			onReply: (packet, reply) => got.push(`${packet.source()} ${reply.payload.length}`),
			onError: (kind) => got.push(kind),
		},
		1,
	);
	icmp.sendEcho(undefined, w.a.stack.path(toAddress(to)), id, 1, pattern(size), hopLimit);
	w.network.run(3_500);
	icmp.closeEcho(id);
	return got;
}

describe("ping", () => {
	test.each([
		["10.0.0.2", 56],
		["fd00::2", 56],
		["10.0.0.2", 20_000],
		["fd00::2", 20_000],
		["127.0.0.1", 100],
	])("%s with %i bytes", (to, size) => {
		expect(ping(world({ delayMs: 1 }), to, size)).toEqual([`${to} ${size}`]);
	});

	test("fragments in any order", () => {
		const w = world({ delayMs: 1, reorder: 1, reorderMs: 20 });
		warm(w);
		expect(ping(w, "10.0.0.2", 30_000)).toEqual(["10.0.0.2 30000"]);
	});

	test("a lost fragment: nothing, and Time Exceeded once the time is over", () => {
		const w = world({ delayMs: 1 });
		warm(w);
		let count = 0;
		w.wire.filter = (_frame, from) => from === 1 || ++count !== 3;
		const errors: string[] = [];
		const { icmp } = w.a.stack;
		const id = icmp.openEcho({ onReply: () => errors.push("reply"), onError: (kind) => errors.push(kind) }, 1);
		icmp.sendEcho(undefined, w.a.stack.path(toAddress("10.0.0.2")), id, 1, pattern(6_000), 0);
		w.network.run(40_000);
		expect(errors).toEqual(["reassembly-timeout"]);
	});
});

describe("fragments", () => {
	/** An IPv4 fragment of a UDP datagram to B. */
	function fragment(offset: number, length: number, more: boolean, fill: number): Uint8Array {
		const bytes = new Uint8Array(20 + length);
		bytes[0] = 0x45;
		put16(bytes, 2, bytes.length);
		put16(bytes, 4, 77);
		put16(bytes, 6, (offset >> 3) | (more ? 0x2000 : 0));
		bytes[8] = 64;
		bytes[9] = 17;
		bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 12);
		put16(bytes, 10, ~foldSum(sumBytes(bytes, 0, 20)));
		bytes.fill(fill, 20);
		return bytes;
	}

	test("overlaps give the datagram up (RFC 5722)", () => {
		const network = new VirtualNetwork(1);
		const [, end] = network.wire({ medium: "ip" });
		const stack = new Stack({ random: seededBytes(1) });
		network.add(stack);
		const iface = network.attach(stack, end);
		stack.addAddress(iface, "10.0.0.2/24");
		const received: number[] = [];
		new UdpLayer(stack).open({ port: 0x0101, onMessage: (data) => received.push(data.length) });
		for (const frame of [fragment(0, 800, true, 1), fragment(400, 800, true, 2), fragment(1200, 100, false, 3)])
			stack.input(frame, network.now, undefined, iface);
		expect(stack.stats.reasons["fragment-dropped"]).toBe(1);
		expect(received).toEqual([]);
	});

	test("memory for them is bounded", () => {
		const network = new VirtualNetwork(1);
		const [, end] = network.wire({ medium: "ip" });
		const stack = new Stack({ random: seededBytes(1) });
		const iface = network.attach(stack, end);
		stack.addAddress(iface, "10.0.0.2/24");
		for (let id = 0; id < 5_000; id++) {
			const frame = fragment(0, 1_400, true, 1);
			put16(frame, 4, id);
			put16(frame, 10, 0);
			put16(frame, 10, ~foldSum(sumBytes(frame, 0, 20)));
			stack.input(frame, 1_000, undefined, iface);
		}
		const held = stack.fragments!.reassembler.bytesHeld;
		expect(held).toBeGreaterThan(1_000_000);
		expect(held).toBeLessThanOrEqual(4 << 20);
	});
});

describe("a router between", () => {
	function routed(mtu: number) {
		const network = new VirtualNetwork(3);
		const make = (seed: number, forwarding = false) => {
			const stack = new Stack({ random: seededBytes(seed), forwarding });
			network.add(stack);
			return stack;
		};
		const [left, router, right] = [make(1), make(2, true), make(3)];
		const [a, ra] = network.wire({ delayMs: 1 });
		const [rb, b] = network.wire({ delayMs: 1, mtu });
		const ifaceA = network.attach(left, a);
		left.addAddress(ifaceA, "10.1.0.1/24");
		left.addAddress(ifaceA, "fd01::1/64");
		const ra0 = network.attach(router, ra);
		const rb0 = network.attach(router, rb);
		router.addAddress(ra0, "10.1.0.254/24");
		router.addAddress(rb0, "10.2.0.254/24");
		router.addAddress(ra0, "fd01::ff/64");
		router.addAddress(rb0, "fd02::ff/64");
		const ifaceB = network.attach(right, b);
		right.addAddress(ifaceB, "10.2.0.1/24");
		right.addAddress(ifaceB, "fd02::1/64");
		left.addRoute("default", "10.1.0.254");
		left.addRoute("default", "fd01::ff");
		right.addRoute("default", "10.2.0.254");
		right.addRoute("default", "fd02::ff");
		return { network, left, router, right };
	}

	test.each(["10.2.0.1", "fd02::1"])("path MTU discovery shrinks TCP's segments to %s", async (to) => {
		const { TcpLayer } = await import("../src/tcp/layer.ts");
		const { network, left, right } = routed(1300);
		const client = new TcpLayer(left);
		const server = new TcpLayer(right, { maxSegmentSize: 1460 });
		const got = new Sink();
		server.listen({
			port: 80,
			onConnection: (c) => {
				// The far side does not know the bottleneck: it announces what an Ethernet would carry.
				c.peerMss = 1460;
				return got.handlers;
			},
			configure: (c) => {
				c.advertisedMss = 1460;
			},
		});
		const data = pattern(300_000);
		const c = client.connect(to, 80, feed(new Sink(), data));
		expect(network.run(30_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.path.mtu).toBe(1300);
	});

	test("the hop limit runs out on the way", () => {
		const { network, left, right } = routed(1500);
		expect(right.interfaces).toHaveLength(2);
		const seen: string[] = [];
		const id = left.icmp.openEcho({ onReply: () => seen.push("reply"), onError: (kind) => seen.push(kind) }, 1);
		left.icmp.sendEcho(undefined, left.path(parseAddress("10.2.0.1")!), id, 1, new Uint8Array(8), 1);
		network.run(100);
		left.icmp.sendEcho(undefined, left.path(parseAddress("10.2.0.1")!), id, 2, new Uint8Array(8), 2);
		network.run(100);
		expect(seen).toEqual(["time-exceeded", "reply"]);
	});

	test("an IPv4 datagram without DF is cut on the way", () => {
		const { network, left, right } = routed(600);
		const got: Uint8Array[] = [];
		new UdpLayer(right).open({ port: 9, onMessage: (data) => got.push(data.slice()) });
		const data = pattern(1_400);
		new UdpLayer(left).open().send(data, "10.2.0.1", 9);
		network.run(100);
		expect(got).toHaveLength(1);
		expect(same(got[0]!, data)).toBe(true);
	});
});

describe("duplicate addresses", () => {
	test("a tentative address somebody has is given up", () => {
		const network = new VirtualNetwork(4);
		const [left, right] = network.wire({ delayMs: 1 });
		const stacks = [left, right].map((link, i) => {
			const stack = new Stack({ random: seededBytes(i + 1) });
			network.add(stack);
			return { stack, iface: network.attach(stack, link, { dadTransmits: i }) };
		});
		stacks[0]!.stack.addAddress(stacks[0]!.iface, "fd00::1/64");
		network.run(10);
		const events: string[] = [];
		stacks[1]!.stack.onEvent = (event) => events.push(`${event.kind} ${event.detail}`);
		stacks[1]!.stack.addAddress(stacks[1]!.iface, "fd00::1/64");
		stacks[1]!.stack.addAddress(stacks[1]!.iface, "fd00::2/64");
		network.run(3_000);
		expect(stacks[1]!.iface.addresses.map((entry) => `${entry.address} ${entry.state}`)).toEqual(["fd00::2 preferred"]);
		expect(events).toContain("conflict duplicate fd00::1");
	});
});
