import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../src/link/model.ts";
import type { TcpConnection } from "../src/tcp/connection.ts";
import { put16, put32 } from "../src/wire/bytes.ts";
import { foldSum, sumBytes } from "../src/wire/checksum.ts";
import { parseDhcp } from "../src/wire/dhcp.ts";
import { parseDns } from "../src/wire/dns.ts";
import { feed, pattern, Sink, same, type World, warm, world } from "./world.ts";

/** USTACK_CAMPAIGN=1 runs the numbers; otherwise a sample of each. */
const FULL = process.env["USTACK_CAMPAIGN"] === "1";
const FRAMES = FULL ? 10_000_000 : 60_000;
const SYNS = FULL ? 1_000_000 : 20_000;
const CONNECTIONS = FULL ? 20_000 : 2_000;
const BYTES = FULL ? 1_000_000_000 : 60_000_000;
const LIMIT_MS = FULL ? 3_600_000 : 120_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Heap and buffers held after a full collection. */
function held(): number {
	collect();
	const { heapUsed, arrayBuffers } = process.memoryUsage();
	return heapUsed + arrayBuffers;
}

function transfers(w: World, data: Uint8Array, port: number, to = "10.0.0.2"): boolean {
	const got = new Sink();
	const listener = w.b.tcp.listen({ port, onConnection: () => got.handlers });
	w.a.tcp.connect(to, port, feed(new Sink(), data));
	const ended = w.network.run(60_000, () => got.ended);
	listener.close();
	return ended && same(got.bytes(), data);
}

/** A SYN as it leaves a wire, for its addresses, ports and numbers to be put in. */
function synFrame(w: World): Uint8Array {
	const frame = new Uint8Array(14 + 20 + 24);
	frame.set(w.b.iface.mac, 0);
	frame.set(w.a.iface.mac, 6);
	put16(frame, 12, 0x0800);
	frame[14] = 0x45;
	put16(frame, 16, 44);
	frame[22] = 64;
	frame[23] = 6;
	put32(frame, 30, 0x0a000002);
	put16(frame, 36, 80);
	frame[46] = 0x60;
	frame[47] = 2;
	put16(frame, 48, 65_535);
	put32(frame, 54, 0x020405b4);
	return frame;
}

function address(frame: Uint8Array, source: number, port: number, seq: number): void {
	put32(frame, 26, source);
	put16(frame, 24, 0);
	put16(frame, 24, ~foldSum(sumBytes(frame, 14, 20)));
	put16(frame, 34, port);
	put32(frame, 38, seq);
	put16(frame, 50, 0);
	put16(frame, 50, ~foldSum(sumBytes(frame, 34, 24) + sumBytes(frame, 26, 8) + 6 + 24));
}

describe("campaigns", () => {
	test(`${FRAMES} mutated frames neither throw nor leak`, { timeout: LIMIT_MS }, () => {
		const w = world({ delayMs: 1 }, { fastOpen: 0x207 }, 5);
		warm(w);
		const frames: Uint8Array[] = [];
		w.b.iface.tap = (frame, outgoing) => {
			if (!outgoing && frames.length < 600) frames.push(frame.slice());
		};
		const sink = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => ({ onReadable: (c) => c.consume(c.peek().length) }) });
		for (const to of ["10.0.0.2", "fd00::2"]) {
			for (let i = 0; i < 5; i++) w.a.tcp.connect(to, 80, feed(sink, pattern(60_000)));
		}
		w.network.run(300);
		w.b.iface.tap = undefined;
		const random = seededRandom(99);
		const vouched = {
			needsCsum: false,
			dataValid: true,
			csumStart: 0,
			csumOffset: 0,
			gsoType: "none" as const,
			gsoSize: 0,
			hdrLen: 0,
			ecn: false,
		};
		const scratch = new Uint8Array(2048);
		const before = held();
		for (let i = 0; i < FRAMES; i++) {
			const original = frames[Math.floor(random() * frames.length)]!;
			scratch.set(original);
			const changes = Math.floor(random() * 5);
			for (let j = 0; j < changes; j++) {
				// Headers more often than payload, and the MAC seldom.
				const span = random() < 0.8 ? Math.min(80, original.length) : original.length;
				scratch[(random() < 0.95 ? 14 : 0) + Math.floor(random() * (span - 14))] = random() * 256;
			}
			const length = random() < 0.2 ? Math.floor(random() * original.length) : original.length;
			const frame = scratch.subarray(0, length);
			w.b.stack.input(frame, w.network.now, random() < 0.5 ? vouched : undefined, w.b.iface);
			if (i % 64 === 0) w.network.run(0.1);
			if (i % 50 === 0) {
				parseDns(frame.subarray(Math.min(length, 42)));
				parseDhcp(frame.subarray(Math.min(length, 42)));
			}
		}
		w.network.run(100);
		expect(held() - before).toBeLessThan(64 << 20);
		warm(w);
		expect(transfers(w, pattern(100_000), 81)).toBe(true);
		expect(transfers(w, pattern(100_000), 82, "fd00::2")).toBe(true);
	});

	test(`a flood of ${SYNS} SYNs leaves room for the honest`, { timeout: LIMIT_MS }, () => {
		const w = world({ delayMs: 1 });
		warm(w);
		const got = new Sink();
		w.b.tcp.listen({ port: 80, backlog: 128, onConnection: () => got.handlers });
		// The answers go somewhere, and nobody there knows them.
		w.b.stack.addRoute("default", "10.0.0.1", w.b.iface);
		const frame = synFrame(w);
		const random = seededRandom(3);
		const before = held();
		const flood = (count: number) => {
			for (let i = 0; i < count; i++) {
				address(
					frame,
					0x0b000000 + Math.floor(random() * 0x00ffffff),
					1024 + Math.floor(random() * 60_000),
					random() * 2 ** 32,
				);
				w.b.stack.input(frame, w.network.now, undefined, w.b.iface);
				if (i % 100 === 0) w.network.run(0.2);
			}
		};
		flood(SYNS / 2);
		// In the middle of it.
		const data = pattern(50_000);
		w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		for (let i = 0; i < 200 && !got.ended; i++) {
			flood(Math.min(100, SYNS / 200));
			w.network.run(1);
		}
		expect(got.ended).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		flood(SYNS / 2);
		expect(w.b.tcp.stats.synCookiesSent).toBeGreaterThan(SYNS / 2);
		expect(held() - before).toBeLessThan(16 << 20);
	});

	test(`${CONNECTIONS} live connections take 4 KB of heap each at most`, { timeout: LIMIT_MS }, () => {
		const w = world({});
		warm(w);
		const kept: TcpConnection[] = [];
		w.b.tcp.listen({
			port: 80,
			backlog: 1024,
			onConnection: (c) => {
				kept.push(c);
				return undefined;
			},
		});
		const before = held();
		for (let i = 0; i < CONNECTIONS; i++) {
			kept.push(w.a.tcp.connect("10.0.0.2", 80, {}));
			if (i % 64 === 0) w.network.run(1);
		}
		w.network.run(1_000);
		expect(kept.length).toBe(2 * CONNECTIONS);
		expect(kept.every((c) => c.established)).toBe(true);
		const each = (held() - before) / kept.length;
		process.stdout.write(`${CONNECTIONS} live connections: ${Math.round(each)} bytes each end\n`);
		expect(each).toBeLessThan(4096);
	});

	test(`${BYTES / 1e6} MB through a connection never hold 16 MB more`, { timeout: LIMIT_MS }, () => {
		// A gigabit per second: what is on the wire counts as well.
		const w = world({ delayMs: 1, rate: 125_000 });
		warm(w);
		let received = 0;
		w.b.tcp.listen({
			port: 80,
			onConnection: () => ({
				onReadable: (c) => {
					while (c.readable > 0) {
						const { length } = c.peek();
						received += length;
						c.consume(length);
					}
				},
			}),
		});
		const block = pattern(65_536);
		let sent = 0;
		const push = (c: TcpConnection) => {
			while (sent < BYTES) {
				const count = c.write(block.subarray(0, Math.min(block.length, BYTES - sent)));
				sent += count;
				if (count === 0) return;
			}
		};
		const c = w.a.tcp.connect("10.0.0.2", 80, { onConnect: push, onWritable: push });
		w.network.run(60_000, () => received >= 20_000_000);
		const before = held();
		let most = 0;
		for (let at = received; received < BYTES; at = received) {
			w.network.run(60_000, () => received >= Math.min(BYTES, at + 100_000_000));
			most = Math.max(most, held() - before);
			expect(received).toBeGreaterThan(at);
		}
		process.stdout.write(
			`${BYTES / 1e6} MB through a connection: ${(most / 2 ** 20).toFixed(1)} MB more held at the most\n`,
		);
		expect(received).toBe(BYTES);
		expect(most).toBeLessThan(16 << 20);
		expect(c.error).toBeUndefined();
	});
});
