import { compileFilter } from "@x/netchannel";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openPacketSocket } from "../src/raw/packet-socket.ts";
import { RawLayer } from "../src/raw/socket.ts";
import { UdpLayer } from "../src/udp/layer.ts";
import { foldSum, sumBytes } from "../src/wire/checksum.ts";
import { warm, world } from "./world.ts";

/** An echo request with its checksum, for ICMP over IPv4. */
function echo(payload: number): Uint8Array {
	const bytes = new Uint8Array(8 + payload).fill(0x5a, 8);
	bytes.set([8, 0, 0, 0, 0x12, 0x34, 0, 1]);
	const sum = ~foldSum(sumBytes(bytes, 0, bytes.length)) & 0xffff;
	bytes[2] = sum >>> 8;
	bytes[3] = sum & 0xff;
	return bytes;
}

/** An IPv4 header with what a kernel fills in left at zero. */
function header(protocol: number, to: number[], rest: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(20 + rest.length);
	bytes.set([0x45, 0, 0, 0, 0, 0, 0, 0, 17, protocol, 0, 0, 0, 0, 0, 0, ...to]);
	bytes.set(rest, 20);
	return bytes;
}

describe("a raw socket", () => {
	test("of ICMP pings, and sees the reply with its IP header", () => {
		const w = world();
		warm(w);
		const socket = new RawLayer(w.a.stack).open({ family: 4, protocol: 1 });
		socket.send(echo(32), "10.0.0.2");
		w.network.run(100);
		const reply = socket.receive()!;
		expect(reply.source.toString()).toBe("10.0.0.2");
		expect(reply.data[0]! >>> 4).toBe(4);
		expect(reply.data.length).toBe(20 + 8 + 32);
		expect([...reply.data.subarray(20, 22), ...reply.data.subarray(24, 28)]).toEqual([0, 0, 0x12, 0x34, 0, 1]);
		expect(socket.receive()).toBeUndefined();
	});

	test("of ICMPv6 has its checksum filled in, and sees no IP header", () => {
		const w = world();
		warm(w);
		const socket = new RawLayer(w.a.stack).open({ family: 6, protocol: 58 });
		socket.send(Uint8Array.of(128, 0, 0xde, 0xad, 0, 7, 0, 1, 65), "fd00::2");
		w.network.run(100);
		const replies = [];
		for (let next = socket.receive(); next !== undefined; next = socket.receive()) replies.push(next);
		const reply = replies.find(({ data }) => data[0] === 129)!;
		expect([...reply.data.subarray(4)]).toEqual([0, 7, 0, 1, 65]);
	});

	test("with the header included: length, identification, source and checksum are filled in", () => {
		const w = world();
		warm(w);
		const sender = new RawLayer(w.a.stack).open({ family: 4, protocol: 255 });
		const receiver = new RawLayer(w.b.stack).open({ family: 4, protocol: 253 });
		sender.send(header(253, [10, 0, 0, 2], Uint8Array.of(1, 2, 3)));
		w.network.run(100);
		const got = receiver.receive()!;
		expect(got.source.toString()).toBe("10.0.0.1");
		expect(got.hopLimit).toBe(17);
		expect([...got.data.subarray(20)]).toEqual([1, 2, 3]);
		expect(foldSum(sumBytes(got.data, 0, 20))).toBe(0xffff);
	});

	test("keeps an unknown protocol from being answered, and only its own comes in", () => {
		const w = world();
		warm(w);
		const icmp = new RawLayer(w.a.stack);
		const sender = icmp.open({ family: 4, protocol: 254 });
		const errors = icmp.open({ family: 4, protocol: 1 });
		const layer = new RawLayer(w.b.stack);
		const receiver = layer.open({ family: 4, protocol: 254 });
		const other = layer.open({ family: 4, protocol: 253 });
		sender.send(Uint8Array.of(9), "10.0.0.2");
		w.network.run(100);
		expect(receiver.receive()).toBeDefined();
		expect(other.receive()).toBeUndefined();
		expect(errors.receive()).toBeUndefined();
		receiver.close();
		sender.send(Uint8Array.of(9), "10.0.0.2");
		w.network.run(100);
		expect(errors.receive()!.data[20]).toBe(3);
	});

	test("sees datagrams put together from fragments", () => {
		const w = world();
		warm(w);
		const receiver = new RawLayer(w.b.stack).open({ family: 4, protocol: 254 });
		new RawLayer(w.a.stack).open({ family: 4, protocol: 254 }).send(new Uint8Array(5000).fill(3), "10.0.0.2");
		w.network.run(100);
		const { data } = receiver.receive()!;
		expect(data.subarray(data.length - 5000).every((byte) => byte === 3)).toBe(true);
	});

	test("holds no more than its queue, and says what it dropped", () => {
		const w = world();
		warm(w);
		const receiver = new RawLayer(w.b.stack).open({ family: 4, protocol: 254, queueBytes: 10_000 });
		const sender = new RawLayer(w.a.stack).open({ family: 4, protocol: 254 });
		for (let i = 0; i < 100; i++) {
			sender.send(new Uint8Array(1000), "10.0.0.2");
			w.network.run(1);
		}
		let count = 0;
		while (receiver.receive() !== undefined) count++;
		expect(count).toBe(8);
		expect(receiver.dropped).toBe(92);
	});

	test("refuses what cannot be sent", () => {
		const w = world();
		const layer = new RawLayer(w.a.stack);
		const whole = layer.open({ family: 4, protocol: 255 });
		for (const bad of [
			new Uint8Array(19),
			new Uint8Array(40),
			header(1, [10, 0, 0, 2], new Uint8Array(0)).fill(0x41, 0, 1),
		])
			expect(() => whole.send(bad)).toThrow(expect.objectContaining({ code: "EINVAL" }));
		expect(() => whole.send(header(1, [10, 0, 0, 2], new Uint8Array(1500)))).toThrow(
			expect.objectContaining({ code: "EMSGSIZE" }),
		);
		const socket = layer.open({ family: 4, protocol: 1 });
		expect(() => socket.send(echo(0))).toThrow(expect.objectContaining({ code: "EDESTADDRREQ" }));
		expect(() => socket.send(echo(0), "203.0.113.1")).toThrow(expect.objectContaining({ code: "ENETUNREACH" }));
		expect(() => socket.send(echo(0), "fd00::2")).toThrow(expect.objectContaining({ code: "EAFNOSUPPORT" }));
		expect(() => layer.open({ family: 4, protocol: 256 })).toThrow(expect.objectContaining({ code: "EINVAL" }));
	});

	test("survives anything as a whole packet", () => {
		const w = world();
		warm(w);
		const sender = new RawLayer(w.a.stack).open({ family: 4, protocol: 255 });
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
				try {
					sender.send(bytes, "10.0.0.2");
				} catch (error) {
					expect(error).toMatchObject({ code: "EINVAL" });
				}
				w.network.run(1);
			}),
			{ seed: 5, numRuns: 500 },
		);
	});
});

describe("a packet socket", () => {
	test("sees frames both ways, and only its type", () => {
		const w = world();
		// Both have announced their addresses.
		w.network.run(5_000);
		const all = openPacketSocket(w.a.iface);
		const arp = openPacketSocket(w.a.iface, { etherType: 0x0806 });
		const udp = new UdpLayer(w.a.stack);
		new UdpLayer(w.b.stack);
		udp.open().send(Uint8Array.of(1), "10.0.0.2", 9);
		w.network.run(100);
		const types = [];
		for (let next = all.receive(); next !== undefined; next = all.receive())
			types.push([(next.data[12]! << 8) | next.data[13]!, next.outgoing]);
		expect(types[0]).toEqual([0x0806, true]);
		expect(types).toContainEqual([0x0806, false]);
		// The datagram, and the port's refusal.
		expect(types.filter(([type]) => type === 0x0800)).toEqual([
			[0x0800, true],
			[0x0800, false],
		]);
		let answers = 0;
		for (let next = arp.receive(); next !== undefined; next = arp.receive()) {
			expect([next.outgoing, next.data[13]]).toEqual([false, 6]);
			answers++;
		}
		expect(answers).toBeGreaterThan(0);
	});

	test("asks a filter", () => {
		const w = world();
		warm(w);
		const socket = openPacketSocket(w.a.iface, { filter: compileFilter("udp dst port 53") });
		const udp = new UdpLayer(w.a.stack).open();
		for (const port of [9, 53, 54]) udp.send(Uint8Array.of(1), "10.0.0.2", port);
		w.network.run(100);
		const frame = socket.receive()!;
		expect((frame.data[36]! << 8) | frame.data[37]!).toBe(53);
		expect(socket.receive()).toBeUndefined();
	});

	test("sends a frame as it is; closed ones in any order see no more", () => {
		const w = world();
		const near = openPacketSocket(w.a.iface);
		const first = openPacketSocket(w.b.iface, { etherType: 0x88b5 });
		const second = openPacketSocket(w.b.iface, { etherType: 0x88b5 });
		const frame = new Uint8Array(60).fill(7);
		frame.set(w.b.iface.mac, 0);
		frame.set(w.a.iface.mac, 6);
		frame.set([0x88, 0xb5], 12);
		near.send(frame);
		w.network.run(10);
		expect([...first.receive()!.data]).toEqual([...frame]);
		first.close();
		near.send(frame);
		w.network.run(10);
		expect([second.receive(), second.receive()].every((each) => each !== undefined)).toBe(true);
		second.close();
		expect(() => near.send(new Uint8Array(14))).toThrow(expect.objectContaining({ code: "EINVAL" }));
		expect(() => near.send(new Uint8Array(1515))).toThrow(expect.objectContaining({ code: "EMSGSIZE" }));
	});
});
