import { describe, expect, test } from "vitest";
import type { StackError } from "../src/errors.ts";
import { RawLayer } from "../src/raw/socket.ts";
import type { TcpConnection, TcpHandlers } from "../src/tcp/connection.ts";
import { UdpLayer, type UdpOptions } from "../src/udp/layer.ts";
import { checksum } from "../src/wire/checksum.ts";
import { type World, warm, world } from "./world.ts";

/** An application must hear of an error this soon after what causes it: a packet, or a deadline that passes. */
const SOON_MS = 50;

/** What an application heard, and when its cause was: both in virtual time. */
interface Story {
	code: string | undefined;
	at: number;
	cause: number;
}

const V4 = "10.0.0.2";
const V6 = "fd00::2";

/** Every way an error comes to an application after the call has returned. `run` arranges it; the story is told by then. */
interface Case {
	code: string;
	by: string;
	run(w: World, story: Story): void;
}

/** The latest frame to reach host a is the cause. */
function byArrival(w: World, story: Story): void {
	w.a.iface.tap = (_frame, outgoing) => {
		if (!outgoing) story.cause = w.network.now;
	};
}

function told(w: World, story: Story): (error: StackError | undefined) => void {
	return (error) => {
		story.code = error?.code;
		story.at = w.network.now;
	};
}

/** Handlers that note when and with what a connection ended. */
function watch(w: World, story: Story, onConnect?: (c: TcpConnection) => void): TcpHandlers {
	const tell = told(w, story);
	return { onClose: (_c, error) => tell(error), ...(onConnect && { onConnect }) };
}

/** Host b answers the first packet of a protocol from a with an ICMP error that quotes it. */
function answerByIcmp(w: World, protocol: number, type: number, code: number, mtu = 0): void {
	let answered = false;
	w.b.iface.tap = (frame, outgoing) => {
		const v6 = frame[12] === 0x86;
		if (outgoing || answered || frame[v6 ? 20 : 23] !== protocol) return;
		answered = true;
		const quote = frame.subarray(14, Math.min(frame.length, 14 + 64));
		const header = v6 ? 40 : 20;
		const reply = new Uint8Array(14 + header + 8 + quote.length);
		reply.set(frame.subarray(6, 12), 0);
		reply.set(frame.subarray(0, 6), 6);
		reply.set(frame.subarray(12, 14), 12);
		const view = new DataView(reply.buffer);
		const body = 14 + header;
		view.setUint8(body, type);
		view.setUint8(body + 1, code);
		view.setUint32(body + 4, mtu);
		reply.set(quote, body + 8);
		const length = 8 + quote.length;
		if (v6) {
			reply.set([0x60, 0, 0, 0, length >> 8, length & 255, 58, 64], 14);
			reply.set(frame.subarray(14 + 24, 14 + 40), 14 + 8);
			reply.set(frame.subarray(14 + 8, 14 + 24), 14 + 24);
			let pseudo = 58 + length;
			for (let at = 14 + 8; at < 14 + 40; at += 2) pseudo += view.getUint16(at);
			view.setUint16(body + 2, checksum(reply, body, length, pseudo));
		} else {
			reply.set([0x45, 0, 0, 20 + length, 0, 1, 0, 0, 64, 1, 0, 0], 14);
			reply.set(frame.subarray(14 + 16, 14 + 20), 14 + 12);
			reply.set(frame.subarray(14 + 12, 14 + 16), 14 + 16);
			view.setUint16(14 + 10, checksum(reply, 14, 20));
			view.setUint16(body + 2, checksum(reply, body, length));
		}
		w.b.stack.sendLater(w.b.iface, reply);
	};
}

function connected(w: World, story: Story, host: string, options: UdpOptions = {}) {
	const socket = new UdpLayer(w.a.stack).open({ ...options, onError: told(w, story) });
	socket.connect(host, 9);
	return socket;
}

function isTcp(frame: Uint8Array): boolean {
	return frame[12] === 8 && frame[13] === 0 && frame[23] === 6;
}

/** No segment gets through any more, from now on; neighbours still hear each other. */
function cut(w: World): void {
	w.wire.filter = (frame) => !isTcp(frame);
}

const refusals: Case[] = [V4, V6].flatMap((host): Case[] => [
	{
		code: "ECONNREFUSED",
		by: `the reset of a closed port of ${host}`,
		run(w, story) {
			byArrival(w, story);
			w.a.tcp.connect(host, 4, watch(w, story));
		},
	},
	{
		code: "ECONNREFUSED",
		by: `ICMP port unreachable from ${host} for a connected datagram socket`,
		run(w, story) {
			new UdpLayer(w.b.stack);
			byArrival(w, story);
			connected(w, story, host).send(Uint8Array.of(1));
		},
	},
	{
		code: "ECONNRESET",
		by: `the reset of ${host} in a connection`,
		run(w, story) {
			w.b.tcp.listen({ port: 7, onConnection: () => ({ onReadable: (c) => c.abort() }) });
			byArrival(w, story);
			w.a.tcp.connect(
				host,
				7,
				watch(w, story, (c) => void c.write(Uint8Array.of(1))),
			);
		},
	},
	{
		code: "EMSGSIZE",
		by: `a router of too small an MTU before ${host}, for a datagram socket that sends no fragments`,
		run(w, story) {
			const v6 = host === V6;
			answerByIcmp(w, 17, v6 ? 2 : 3, v6 ? 0 : 4, 1300);
			byArrival(w, story);
			const socket = connected(w, story, host);
			socket.dontFragment = true;
			socket.send(new Uint8Array(1400));
		},
	},
	{
		code: "EMSGSIZE",
		by: `a router of too small an MTU before ${host}, for a raw socket`,
		run(w, story) {
			const v6 = host === V6;
			answerByIcmp(w, 253, v6 ? 2 : 3, v6 ? 0 : 4, 1300);
			byArrival(w, story);
			const socket = new RawLayer(w.a.stack).open({
				family: v6 ? 6 : 4,
				protocol: 253,
				dontFragment: true,
				onError: told(w, story),
			});
			socket.connect(host);
			socket.send(new Uint8Array(1400));
			w.network.run(1_000, () => story.code !== undefined);
			// What was learned counts at the call from now on.
			expect(() => socket.send(new Uint8Array(1400))).toThrow(expect.objectContaining({ code: "EMSGSIZE" }));
		},
	},
]);

const unreachable: Case[] = (
	[
		["ENETUNREACH", V4, 3, 0],
		["ENETUNREACH", V6, 1, 0],
		["EHOSTUNREACH", V4, 3, 1],
		["EHOSTUNREACH", V4, 3, 13],
		["EHOSTUNREACH", V6, 1, 3],
		["EHOSTUNREACH", V6, 1, 1],
		["ECONNREFUSED", V4, 3, 3],
		["ECONNREFUSED", V6, 1, 4],
	] as const
).flatMap(([code, host, type, of]): Case[] => [
	{
		code,
		by: `ICMP type ${type} code ${of} from ${host} while connecting`,
		run(w, story) {
			w.wire.filter = (frame, from) => from === 0 || frame[frame[12] === 0x86 ? 20 : 23] !== 6;
			answerByIcmp(w, 6, type, of);
			byArrival(w, story);
			w.a.tcp.connect(host, 4, watch(w, story));
		},
	},
	{
		code,
		by: `ICMP type ${type} code ${of} from ${host} for a connected datagram socket`,
		run(w, story) {
			answerByIcmp(w, 17, type, of);
			byArrival(w, story);
			connected(w, story, host).send(Uint8Array.of(1));
		},
	},
]);

const deadlines: Case[] = [
	{
		code: "EHOSTUNREACH",
		by: "a neighbour that does not answer the last solicitation for its RETRANS_TIMER (RFC 4861 10)",
		run(w, story) {
			w.a.iface.tap = (_frame, outgoing) => {
				if (outgoing) story.cause = w.network.now + 1_000;
			};
			w.a.tcp.connect("10.0.0.77", 4, watch(w, story));
		},
	},
	{
		code: "ETIMEDOUT",
		by: "the last SYN's retransmission time, doubled by each before",
		run(w, story) {
			cut(w);
			let syns = 0;
			w.a.iface.tap = (frame, outgoing) => {
				// RFC 6298 5.5: one second for the first, two for the second, four for the third.
				if (outgoing && isTcp(frame)) story.cause = w.network.now + 1_000 * 2 ** syns++;
			};
			const c = w.a.tcp.connect(V4, 4, watch(w, story));
			c.synRetries = 2;
		},
	},
	...[100, 3_000, 20_000].map(
		(timeout): Case => ({
			code: "ETIMEDOUT",
			by: `a user timeout of ${timeout} ms, from the write nobody acknowledges (RFC 5482)`,
			run(w, story) {
				w.b.tcp.listen({ port: 7, onConnection: (c) => c.handlers });
				w.a.tcp.connect(
					V4,
					7,
					watch(w, story, (c) => {
						c.userTimeoutMs = timeout;
						cut(w);
						c.write(Uint8Array.of(1));
						story.cause = w.network.now + timeout;
					}),
				);
			},
		}),
	),
	{
		code: "ETIMEDOUT",
		by: "the last retransmission's time",
		run(w, story) {
			let last: TcpConnection | undefined;
			w.b.tcp.listen({ port: 7, onConnection: (c) => c.handlers });
			w.a.tcp.config.retries = 3;
			w.a.iface.tap = (frame, outgoing) => {
				// A probe of the tail comes first; then each retransmission doubles the time.
				if (outgoing && isTcp(frame) && last !== undefined && last.retransmits > 0)
					story.cause = w.network.now + last.rto * 2 ** last.retransmits;
			};
			w.a.tcp.connect(
				V4,
				7,
				watch(w, story, (c) => {
					last = c;
					cut(w);
					c.write(Uint8Array.of(1));
				}),
			);
		},
	},
	{
		code: "ETIMEDOUT",
		by: "the interval after the last keepalive probe",
		run(w, story) {
			w.b.tcp.listen({ port: 7, onConnection: (c) => c.handlers });
			w.a.tcp.connect(
				V4,
				7,
				watch(w, story, (c) => {
					c.keepAliveIntervalMs = 1_000;
					c.keepAliveProbes = 3;
					c.setKeepAlive(true, 5_000);
					w.network.at(w.network.now + 1_000, () => {
						cut(w);
						w.a.iface.tap = (frame, outgoing) => {
							// The reset that goes with the error is none of them.
							if (outgoing && isTcp(frame) && (frame[47]! & 4) === 0) story.cause = w.network.now + 1_000;
						};
					});
				}),
			);
		},
	},
];

/** What the call itself says, without a packet. */
const atCall: [string, string, (w: World) => void][] = [
	["ENETUNREACH", "no route", (w) => w.a.tcp.connect("203.0.113.1", 4)],
	[
		"ENETUNREACH",
		"no route for a datagram",
		(w) => new UdpLayer(w.a.stack).open().send(Uint8Array.of(1), "203.0.113.1", 4),
	],
	[
		"EADDRNOTAVAIL",
		"a source that is not ours",
		(w) => w.a.tcp.connect(V4, 4, undefined, { localAddress: "10.0.0.9" }),
	],
	[
		"EADDRINUSE",
		"a port somebody listens on",
		(w) => {
			w.a.tcp.listen({ port: 80 });
			w.a.tcp.listen({ port: 80 });
		},
	],
	[
		"EADDRINUSE",
		"a connection's own two ends",
		(w) => {
			w.a.tcp.connect(V4, 4, undefined, { localPort: 5 });
			w.a.tcp.connect(V4, 4, undefined, { localPort: 5 });
		},
	],
	[
		"EADDRINUSE",
		"a bound datagram port",
		(w) => {
			const udp = new UdpLayer(w.a.stack);
			udp.open({ port: 9 });
			udp.open({ port: 9 });
		},
	],
	["EMSGSIZE", "no datagram is so long", (w) => new UdpLayer(w.a.stack).open().send(new Uint8Array(65_508), V4, 9)],
	[
		"EMSGSIZE",
		"the interface's MTU, where nothing goes in fragments",
		(w) => {
			const socket = new UdpLayer(w.a.stack).open();
			socket.dontFragment = true;
			socket.send(new Uint8Array(1473), V4, 9);
		},
	],
];

const table: Case[] = [...refusals, ...unreachable, ...deadlines];

describe("an error is told within 50 ms of what causes it", () => {
	test.each(table)("$code: $by", ({ code, run }) => {
		const w = world({ delayMs: 20 });
		warm(w);
		const story: Story = { code: undefined, at: Number.NaN, cause: Number.NaN };
		run(w, story);
		w.network.run(3_600_000, () => story.code !== undefined);
		expect(story.code).toBe(code);
		expect(story.at - story.cause).toBeGreaterThanOrEqual(-1);
		expect(story.at - story.cause).toBeLessThanOrEqual(SOON_MS);
	});

	test.each(atCall)("%s at the call: %s", (code, _why, call) => {
		expect(() => call(world())).toThrow(expect.objectContaining({ code }));
	});

	test("each code of the list is among them", () => {
		expect(new Set([...table.map(({ code }) => code), ...atCall.map(([code]) => code)])).toEqual(
			new Set([
				...["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ECONNRESET"],
				...["ETIMEDOUT", "EADDRINUSE", "EADDRNOTAVAIL", "EMSGSIZE"],
			]),
		);
	});

	test("TCP is told nothing of a small MTU: it sends smaller segments", () => {
		const w = world({ delayMs: 20 });
		warm(w);
		let got = 0;
		w.b.tcp.listen({
			port: 7,
			onConnection: () => ({
				onReadable: (c) => {
					got += c.readable;
					c.consume(c.readable);
				},
			}),
		});
		const story: Story = { code: undefined, at: Number.NaN, cause: Number.NaN };
		const c = w.a.tcp.connect(
			V4,
			7,
			watch(w, story, (open) => void open.write(new Uint8Array(100_000))),
		);
		w.network.run(100);
		w.a.stack.paths.learnMtu(c.remoteAddress, 1300);
		w.network.run(60_000, () => got === 100_000);
		expect(got).toBe(100_000);
		expect(story.code).toBeUndefined();
	});
});
