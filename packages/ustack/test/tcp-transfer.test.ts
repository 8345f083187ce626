import { describe, expect, test } from "vitest";
import type { WireOptions } from "../src/link/model.ts";
import type { TcpConnection } from "../src/tcp/connection.ts";
import { toAddress } from "../src/wire/address.ts";
import { feed, pattern, Sink, same, warm, world } from "./world.ts";

function transfer(wire: WireOptions, size: number, address = "10.0.0.2", config = {}, seed = 1, limitMs = 600_000) {
	const w = world(wire, config, seed);
	warm(w);
	const data = pattern(size, seed);
	const received = new Sink();
	let server: TcpConnection | undefined;
	w.b.tcp.listen({
		port: 80,
		onConnection: (c) => {
			server = c;
			return {
				...received.handlers,
				onEnd: (conn) => {
					received.drain(conn);
					received.ended = true;
					conn.end();
				},
			};
		},
	});
	const sender = new Sink();
	const client = w.a.tcp.connect(address, 80, feed(sender, data));
	const start = w.network.now;
	const done = w.network.run(limitMs, () => sender.closed && received.closed);
	return { w, done, data, received, sender, client, server: server!, took: w.network.now - start };
}

describe("a transfer", () => {
	for (const address of ["10.0.0.2", "fd00::2"]) {
		test(`over a clean wire to ${address}`, () => {
			const t = transfer({ delayMs: 5 }, 1_000_000, address);
			expect(t.done).toBe(true);
			expect(t.received.ended).toBe(true);
			expect(t.sender.error).toBeUndefined();
			expect(same(t.received.bytes(), t.data)).toBe(true);
			expect(t.client.totalRetrans).toBe(0);
		});
	}

	test.each([1, 2, 3, 4, 5, 6])(
		"with loss, duplication, reordering and corruption at 15 in 100 each, seed %i",
		(seed) => {
			const t = transfer(
				{ delayMs: 10, loss: 0.15, duplicate: 0.15, reorder: 0.15, corrupt: 0.15, reorderMs: 20 },
				200_000,
				seed % 2 ? "10.0.0.2" : "fd00::2",
				{},
				seed,
				3_600_000,
			);
			expect(t.done).toBe(true);
			expect(same(t.received.bytes(), t.data)).toBe(true);
		},
	);

	test.each([
		{ sack: false },
		{ timestamps: false },
		{ windowScaling: false },
		{ rack: false },
		{ tlp: false },
		{ congestion: "reno" as const },
		{ sack: false, timestamps: false, congestion: "reno" as const },
		{ ecn: "request" as const },
		{ frto: false },
	])("with loss and %o", (config) => {
		const t = transfer({ delayMs: 10, loss: 0.03 }, 500_000, "10.0.0.2", config, 7);
		expect(t.done).toBe(true);
		expect(same(t.received.bytes(), t.data)).toBe(true);
	});

	test.each([1, 3, 4])("one in twenty reordered makes no timeout, seed %i", (seed) => {
		const t = transfer({ delayMs: 20, reorder: 0.05, reorderMs: 4 }, 4_000_000, "10.0.0.2", {}, seed);
		expect(t.done).toBe(true);
		expect(same(t.received.bytes(), t.data)).toBe(true);
		expect(t.client.rackReordered).toBe(true);
		expect(t.client.totalRetrans).toBeLessThan(20);
		expect(t.client.timeouts).toBe(0);
	});

	test("fills a long path", () => {
		const t = transfer({ delayMs: 20, rate: 12_500 }, 20_000_000);
		expect(t.done).toBe(true);
		// 12.5 MB/s and slow start: 1.6 s of sending, some for the start.
		expect(t.took).toBeLessThan(2_600);
	});

	test("goes on with a slow reader and a closed window", () => {
		const w = world({ delayMs: 5 });
		const data = pattern(3_000_000);
		const received = new Sink();
		received.paused = true;
		let server!: TcpConnection;
		w.b.tcp.listen({
			port: 80,
			onConnection: (c) => {
				server = c;
				return received.handlers;
			},
		});
		const sender = new Sink();
		const client = w.a.tcp.connect("10.0.0.2", 80, feed(sender, data));
		w.network.run(20_000);
		expect(client.sndWnd).toBe(0);
		expect(client.info().backoff).toBeGreaterThan(2);
		expect(server.readable).toBeLessThan(600_000);
		expect(client.stateName).toBe("ESTABLISHED");
		received.paused = false;
		received.drain(server);
		expect(w.network.run(60_000, () => received.ended)).toBe(true);
		expect(same(received.bytes(), data)).toBe(true);
	});
});

describe("opening", () => {
	test("a closed port refuses at once", () => {
		const w = world({ delayMs: 1 });
		const sink = new Sink();
		w.a.tcp.connect("10.0.0.2", 81, sink.handlers);
		expect(w.network.run(50, () => sink.closed)).toBe(true);
		expect(sink.error).toBe("ECONNREFUSED");
	});

	test("a host that is not there: EHOSTUNREACH after address resolution gave up", () => {
		const w = world();
		const sink = new Sink();
		w.a.tcp.connect("10.0.0.77", 81, sink.handlers);
		expect(w.network.run(3_100, () => sink.closed)).toBe(true);
		expect(sink.error).toBe("EHOSTUNREACH");
	});

	test("no route: thrown", () => {
		const w = world();
		expect(() => w.a.tcp.connect("192.0.2.1", 80)).toThrow(expect.objectContaining({ code: "ENETUNREACH" }));
	});

	test("a silent host: ETIMEDOUT", () => {
		const w = world();
		const sink = new Sink();
		w.network.run(10);
		w.a.tcp.connect("10.0.0.2", 80, new Sink().handlers);
		w.network.run(10);
		w.wire.filter = () => false;
		w.a.tcp.connect("10.0.0.2", 80, sink.handlers);
		expect(w.network.run(200_000, () => sink.closed)).toBe(true);
		expect(["ETIMEDOUT", "EHOSTUNREACH"]).toContain(sink.error);
	});

	test("both sides at once", () => {
		const w = world({ delayMs: 10 });
		const a = new Sink();
		const b = new Sink();
		const ca = w.a.tcp.connect("10.0.0.2", 5001, a.handlers, { localPort: 5000 });
		const cb = w.b.tcp.connect("10.0.0.1", 5000, b.handlers, { localPort: 5001 });
		expect(w.network.run(1_000, () => a.connected && b.connected)).toBe(true);
		expect(ca.stateName).toBe("ESTABLISHED");
		ca.write(pattern(1000));
		w.network.run(100);
		expect(b.length).toBe(1000);
		cb.end();
		ca.end();
		expect(w.network.run(1_000, () => a.closed && b.closed)).toBe(true);
		expect(a.error).toBeUndefined();
	});

	test("to itself", () => {
		const w = world();
		const got = new Sink();
		w.a.tcp.listen({ port: 9, onConnection: () => got.handlers });
		const data = pattern(100_000);
		w.a.tcp.connect("127.0.0.1", 9, feed(new Sink(), data));
		expect(w.network.run(1_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
	});

	test("a SYN flood leaves room for the honest", () => {
		const w = world({ delayMs: 1 });
		const got = new Sink();
		w.b.tcp.listen({ port: 80, backlog: 16, onConnection: () => got.handlers });
		w.network.run(10);
		for (let i = 0; i < 200; i++) {
			w.a.tcp.connect("10.0.0.2", 80).close();
			w.network.settle();
		}
		const spoof = w.a.tcp.connect("10.0.0.2", 80);
		w.network.settle();
		spoof.close();
		w.network.run(10);
		// Half-open for good: nobody answers their SYN-ACKs.
		w.a.stack.addAddress(w.a.iface, "10.0.0.99/24");
		for (let i = 0; i < 64; i++) w.a.tcp.connect("10.0.0.2", 80, undefined, { localAddress: "10.0.0.99" });
		w.network.settle();
		w.a.stack.removeAddress(w.a.iface, toAddress("10.0.0.99"));
		w.network.run(20);
		expect(w.b.tcp.stats.synCookiesSent).toBeGreaterThan(0);
		const data = pattern(50_000);
		w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		expect(w.network.run(5_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(w.b.tcp.stats.synCookiesTaken).toBeGreaterThan(0);
	});
});

describe("closing", () => {
	test("half-close lets the other side go on", () => {
		const w = world({ delayMs: 1 });
		const got = new Sink();
		const answer = pattern(300_000, 3);
		w.b.tcp.listen({
			port: 80,
			onConnection: () => {
				let at = 0;
				const push = (c: TcpConnection) => {
					at += c.write(answer.subarray(at));
					if (at === answer.length) c.end();
				};
				return { ...got.handlers, onEnd: push, onWritable: push };
			},
		});
		const back = new Sink();
		const c = w.a.tcp.connect("10.0.0.2", 80, back.handlers);
		c.end();
		expect(w.network.run(5_000, () => back.ended && back.closed)).toBe(true);
		expect(same(back.bytes(), answer)).toBe(true);
	});

	test("close() flushes what was written", () => {
		const w = world({ delayMs: 10 });
		const got = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const c = w.a.tcp.connect("10.0.0.2", 80);
		w.network.run(100);
		const data = pattern(200_000);
		expect(c.write(data)).toBe(data.length);
		c.close();
		expect(w.network.run(5_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
	});

	test("an abort resets the peer", () => {
		const w = world({ delayMs: 1 });
		const got = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const c = w.a.tcp.connect("10.0.0.2", 80);
		w.network.run(100);
		c.abort();
		w.network.run(100);
		expect(got.error).toBe("ECONNRESET");
	});

	test("a dead peer is found by keepalive", () => {
		const w = world({ delayMs: 1 });
		const sink = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => ({}) });
		const c = w.a.tcp.connect("10.0.0.2", 80, sink.handlers);
		w.network.run(100);
		c.keepAliveIntervalMs = 1000;
		c.keepAliveProbes = 3;
		c.setKeepAlive(true, 5_000);
		w.network.run(30_000);
		expect(sink.closed).toBe(false);
		w.wire.filter = () => false;
		expect(w.network.run(20_000, () => sink.closed)).toBe(true);
		expect(["ETIMEDOUT", "EHOSTUNREACH"]).toContain(sink.error);
	});
});

test("a callback that throws costs the other connections nothing", () => {
	const w = world();
	const got = [new Sink(), new Sink()];
	let accepted = 0;
	w.b.tcp.listen({ port: 80, onConnection: () => got[accepted++]!.handlers });
	let thrown = false;
	const bad = w.a.tcp.connect("10.0.0.2", 80, {
		onConnect: () => {
			throw new Error("mine");
		},
	});
	w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), pattern(10_000)));
	for (let i = 0; i < 3 && !thrown; i++) {
		try {
			w.network.run(10);
		} catch (error) {
			thrown = (error as Error).message === "mine";
		}
	}
	expect(thrown).toBe(true);
	expect(w.network.run(1_000, () => got.some((sink) => sink.ended))).toBe(true);
	expect(bad.stateName).toBe("ESTABLISHED");
});

describe("path MTU probing (RFC 4821)", () => {
	test.each([
		["nothing in the way", 0, 1_440, 1_448],
		["a black hole above 1280 bytes", 1_280 + 14, 1_218, 1_228],
	])("finds the largest size with %s", (_name, blackhole, least, most) => {
		const w = world({ delayMs: 5, ...(blackhole > 0 ? { blackhole } : {}) }, { mtuProbing: "always", baseMss: 536 });
		warm(w);
		const got = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(2_000_000);
		const c = w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		expect(w.network.run(60_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.mss).toBeGreaterThanOrEqual(least);
		expect(c.mss).toBeLessThanOrEqual(most);
		// Lost probes are no congestion.
		expect(c.ssthresh).toBeGreaterThan(1_000);
	});

	test("a black hole met under way is survived, and searched around", () => {
		const wire = { delayMs: 5 } as { delayMs: number; blackhole?: number };
		const w = world(wire);
		warm(w);
		const got = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		const data = pattern(3_000_000);
		const c = w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), data));
		w.network.run(100, () => got.length > 300_000);
		wire.blackhole = 1_340 + 14;
		expect(w.network.run(120_000, () => got.ended)).toBe(true);
		expect(same(got.bytes(), data)).toBe(true);
		expect(c.mss).toBeGreaterThanOrEqual(1_280);
		expect(c.mss).toBeLessThanOrEqual(1_288);
	});
});
