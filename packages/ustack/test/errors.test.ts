import { describe, expect, test } from "vitest";
import type { TcpHandlers } from "../src/tcp/connection.ts";
import { UdpLayer } from "../src/udp/layer.ts";
import { toAddress } from "../src/wire/address.ts";
import { type World, warm, world } from "./world.ts";

/** An application must hear of an error this soon after the packet that causes it. */
const SOON_MS = 50;

interface Told {
	code: string | undefined;
	at: number;
}

/** Handlers that note when and with what a connection ended. */
function watch(w: World): { told: Told; handlers: TcpHandlers } {
	const told: Told = { code: undefined, at: Number.NaN };
	return {
		told,
		handlers: {
			onClose: (_c, error) => {
				told.code = error?.code;
				told.at = w.network.now;
			},
		},
	};
}

/** The latest moment at which a frame reached host a. */
function arrivals(w: World): { last: number; count: number } {
	const seen = { last: Number.NaN, count: 0 };
	w.a.iface.tap = (_frame, outgoing) => {
		if (outgoing) return;
		seen.last = w.network.now;
		seen.count++;
	};
	return seen;
}

/** An ICMP destination-unreachable from b about whatever a sent last. */
function answerUnreachable(w: World, code: number): { at: number } {
	const sent = { at: Number.NaN };
	w.b.iface.tap = (frame, outgoing) => {
		if (outgoing || frame[12] !== 8 || frame[13] !== 0 || frame[23] !== 6 || !Number.isNaN(sent.at)) return;
		const body = new Uint8Array(8 + 28);
		body[0] = 3;
		body[1] = code;
		body.set(frame.subarray(14, 42), 8);
		let sum = 0;
		for (let i = 0; i < body.length; i += 2) sum += (body[i]! << 8) | body[i + 1]!;
		sum = (sum & 0xffff) + (sum >>> 16);
		sum = ~(sum + (sum >>> 16)) & 0xffff;
		body[2] = sum >>> 8;
		body[3] = sum & 0xff;
		const reply = new Uint8Array(14 + 20 + body.length);
		reply.set(frame.subarray(6, 12), 0);
		reply.set(frame.subarray(0, 6), 6);
		reply[12] = 8;
		const header = Uint8Array.of(0x45, 0, 0, 20 + body.length, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1);
		let headerSum = 0;
		for (let i = 0; i < 20; i += 2) headerSum += (header[i]! << 8) | header[i + 1]!;
		headerSum = ~((headerSum & 0xffff) + (headerSum >>> 16)) & 0xffff;
		header[10] = headerSum >>> 8;
		header[11] = headerSum & 0xff;
		reply.set(header, 14);
		reply.set(body, 34);
		sent.at = w.network.now;
		w.b.stack.sendLater(w.b.iface, reply);
	};
	return sent;
}

describe("an error is told within 50 ms of what causes it", () => {
	test.each(["10.0.0.2", "fd00::2"])("ECONNREFUSED: a closed port of %s", (host) => {
		const w = world({ delayMs: 20 });
		warm(w);
		const seen = arrivals(w);
		const { told, handlers } = watch(w);
		w.a.tcp.connect(host, 4, handlers);
		expect(w.network.run(5_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe("ECONNREFUSED");
		expect(told.at - seen.last).toBeLessThanOrEqual(SOON_MS);
	});

	test.each([
		[0, "ENETUNREACH"],
		[1, "EHOSTUNREACH"],
		[13, "EHOSTUNREACH"],
		[3, "ECONNREFUSED"],
	])("ICMP unreachable, code %i, while connecting: %s", (code, expected) => {
		const w = world({ delayMs: 20, filter: (frame, from) => from === 0 || frame[23] !== 6 });
		warm(w);
		const sent = answerUnreachable(w, code);
		const seen = arrivals(w);
		const { told, handlers } = watch(w);
		w.a.tcp.connect("10.0.0.2", 4, handlers);
		expect(w.network.run(5_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe(expected);
		expect(sent.at).toBeGreaterThan(0);
		expect(told.at - seen.last).toBeLessThanOrEqual(SOON_MS);
	});

	test("EHOSTUNREACH: nobody answers the neighbour's solicitation, when the last one is given up", () => {
		const w = world();
		let last = Number.NaN;
		w.a.iface.tap = (_frame, outgoing) => {
			if (outgoing) last = w.network.now;
		};
		const { told, handlers } = watch(w);
		w.a.tcp.connect("10.0.0.77", 4, handlers);
		expect(w.network.run(10_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe("EHOSTUNREACH");
		// RFC 4861 10: RETRANS_TIMER after the last solicitation.
		expect(told.at - last).toBeLessThanOrEqual(1_000 + SOON_MS);
	});

	test("ENETUNREACH, EADDRNOTAVAIL, EADDRINUSE, EMSGSIZE: at the call", () => {
		const w = world();
		const udp = new UdpLayer(w.a.stack);
		expect(() => w.a.tcp.connect("203.0.113.1", 4)).toThrow(expect.objectContaining({ code: "ENETUNREACH" }));
		expect(() => w.a.tcp.connect("10.0.0.2", 4, undefined, { localAddress: "10.0.0.9" })).toThrow(
			expect.objectContaining({ code: "EADDRNOTAVAIL" }),
		);
		w.a.tcp.listen({ port: 80 });
		expect(() => w.a.tcp.listen({ port: 80 })).toThrow(expect.objectContaining({ code: "EADDRINUSE" }));
		expect(() => udp.open().send(new Uint8Array(65_508), "10.0.0.2", 9)).toThrow(
			expect.objectContaining({ code: "EMSGSIZE" }),
		);
	});

	test("ECONNRESET: the peer's reset", () => {
		const w = world({ delayMs: 20 });
		warm(w);
		const { told, handlers } = watch(w);
		w.b.tcp.listen({ port: 7, onConnection: (c) => ({ onReadable: () => c.abort() }) });
		w.a.tcp.connect("10.0.0.2", 7, { ...handlers, onConnect: (c) => void c.write(Uint8Array.of(1)) });
		const seen = arrivals(w);
		expect(w.network.run(5_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe("ECONNRESET");
		expect(told.at - seen.last).toBeLessThanOrEqual(SOON_MS);
	});

	test("ETIMEDOUT: the user timeout's end", () => {
		const wire = { delayMs: 5, loss: 0 };
		const w = world(wire);
		warm(w);
		const { told, handlers } = watch(w);
		w.b.tcp.listen({ port: 7, onConnection: (c) => c.handlers });
		let lostAt = Number.NaN;
		w.a.tcp.connect("10.0.0.2", 7, {
			...handlers,
			onConnect: (c) => {
				c.userTimeoutMs = 3_000;
				wire.loss = 1;
				c.write(Uint8Array.of(1));
				lostAt = w.network.now;
			},
		});
		expect(w.network.run(60_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe("ETIMEDOUT");
		expect(told.at - lostAt).toBeGreaterThanOrEqual(3_000);
		// The timer is looked at when it fires, and backs off to the deadline itself.
		expect(told.at - lostAt).toBeLessThanOrEqual(3_000 + 400);
	});

	test("ECONNREFUSED of a connected datagram socket", () => {
		const w = world({ delayMs: 20 });
		warm(w);
		const udp = new UdpLayer(w.a.stack);
		new UdpLayer(w.b.stack);
		const told: Told = { code: undefined, at: Number.NaN };
		const socket = udp.open({
			onError: (error) => {
				told.code = error.code;
				told.at = w.network.now;
			},
		});
		socket.connect(toAddress("10.0.0.2"), 9);
		const seen = arrivals(w);
		socket.send(Uint8Array.of(1));
		expect(w.network.run(5_000, () => told.code !== undefined)).toBe(true);
		expect(told.code).toBe("ECONNREFUSED");
		expect(told.at - seen.last).toBeLessThanOrEqual(SOON_MS);
	});
});
