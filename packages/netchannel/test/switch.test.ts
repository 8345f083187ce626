import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	countFrames,
	createHub,
	createLinkPair,
	createSwitch,
	type Link,
	type Offload,
	type ShaperClock,
	segmentFrame,
	shapeFrames,
} from "../src/index.ts";
import { checksumsHold, makePacket } from "./support/packets.ts";

const mac = (station: number): number[] => [2, 0, 0, 0, station >> 8, station & 255];
const frame = (to: number[], from: number[], length = 60): Uint8Array => {
	const bytes = new Uint8Array(length);
	bytes.set([...to, ...from, 0x88, 0xb5]);
	return bytes;
};
const BROADCAST = [255, 255, 255, 255, 255, 255];

/** A clock that moves when told. */
function testClock(): ShaperClock & { advance(ms: number): void } {
	let time = 0;
	let timers: { at: number; callback: () => void }[] = [];
	return {
		now: () => time,
		after(ms, callback) {
			const timer = { at: time + ms, callback };
			timers.push(timer);
			return () => (timers = timers.filter((other) => other !== timer));
		},
		advance(ms) {
			const until = time + ms;
			for (;;) {
				const next = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
				if (next === undefined) break;
				timers = timers.filter((timer) => timer !== next);
				time = next.at;
				next.callback();
			}
			time = until;
		},
	};
}

describe("the switch", () => {
	const setup = (options: object = {}) => {
		let now = 0;
		const bridge = createSwitch({ now: () => now, agingMs: 1000, ...options });
		const got: number[] = [0, 0, 0];
		const hosts: Link[] = [0, 1, 2].map((index) => {
			const [inside, outside] = createLinkPair();
			bridge.add(inside);
			outside.onFrame = () => got[index]!++;
			return outside;
		});
		return { bridge, hosts, got, at: (time: number) => (now = time) };
	};

	test("floods what it does not know, then learns", () => {
		const { bridge, hosts, got } = setup();
		hosts[0]!.send(frame(mac(1), mac(0)));
		expect(got).toEqual([0, 1, 1]);
		hosts[1]!.send(frame(mac(0), mac(1)));
		expect(got).toEqual([1, 1, 1]);
		hosts[2]!.send(frame(BROADCAST, mac(2)));
		expect(got).toEqual([2, 2, 1]);
		expect(bridge.stations().map(({ address }) => address)).toEqual([
			"02:00:00:00:00:00",
			"02:00:00:00:00:01",
			"02:00:00:00:00:02",
		]);
	});

	test("follows a station that moves, forgets one that is silent, and one whose port is gone", () => {
		const { bridge, hosts, got, at } = setup();
		hosts[1]!.send(frame(BROADCAST, mac(1)));
		hosts[2]!.send(frame(BROADCAST, mac(1)));
		got.fill(0);
		hosts[0]!.send(frame(mac(1), mac(0)));
		expect(got).toEqual([0, 0, 1]);
		at(1500);
		hosts[0]!.send(frame(mac(1), mac(0)));
		expect(got).toEqual([0, 1, 2]);
		hosts[2]!.send(frame(BROADCAST, mac(1)));
		bridge.ports[2]!.remove();
		expect(bridge.stations().map(({ address }) => address)).toEqual(["02:00:00:00:00:00"]);
	});

	test("never forwards to where a frame came from, nor what is between neighbours only", () => {
		const { hosts, got } = setup();
		hosts[0]!.send(frame(BROADCAST, mac(0)));
		got.fill(0);
		hosts[0]!.send(frame(mac(0), mac(9)));
		hosts[0]!.send(frame([1, 0x80, 0xc2, 0, 0, 0], mac(9)));
		expect(got).toEqual([0, 0, 0]);
	});

	test("a flood of made-up addresses takes no more memory", () => {
		const { bridge, hosts } = setup({ stations: 10 });
		for (let station = 0; station < 1000; station++) hosts[0]!.send(frame(BROADCAST, mac(station)));
		expect(bridge.stations()).toHaveLength(10);
	});

	test("a port that fails unplugs itself, one whose MTU is smaller drops", () => {
		const { bridge, hosts, got } = setup();
		const [inside] = createLinkPair({ mtu: 100 });
		const small = bridge.add(inside);
		hosts[0]!.send(frame(BROADCAST, mac(0), 1000));
		expect([small.stats.dropped, got]).toEqual([1, [0, 1, 1]]);
		expect(() => bridge.add(createLinkPair({ medium: "ip" })[0])).toThrowError(
			expect.objectContaining({ code: "ERR_LINK_OPTION" }),
		);
		bridge.close();
		expect(bridge.ports).toHaveLength(0);
	});

	test("a hub repeats to all others", () => {
		const hub = createHub();
		let got = 0;
		const hosts = [0, 1, 2].map(() => {
			const [inside, outside] = createLinkPair();
			hub.add(inside);
			outside.onFrame = () => got++;
			return outside;
		});
		hosts[0]!.send(frame(mac(1), mac(0)));
		hosts[1]!.send(frame(mac(0), mac(1)));
		expect(got).toBe(4);
	});
});

describe("segmentation", () => {
	const offload = (gsoType: Offload["gsoType"], gsoSize: number, ecn = false): Offload => ({
		needsCsum: true,
		dataValid: false,
		csumStart: 34,
		csumOffset: 16,
		gsoType,
		gsoSize,
		hdrLen: 54,
		ecn,
	});

	test.each([
		["tcpv4", 6, "10.0.0.2", "10.0.0.1"],
		["tcpv6", 6, "2001:db8::2", "2001:db8::1"],
		["udp", 17, "10.0.0.2", "10.0.0.1"],
		["udp", 17, "2001:db8::2", "2001:db8::1"],
	] as const)("%s of protocol %i from %s: the parts are the whole, each valid", (type, protocol, src, dst) => {
		fc.assert(
			fc.property(
				fc.uint8Array({ minLength: 1, maxLength: 5000 }),
				fc.integer({ min: 100, max: 1448 }),
				(payload, size) => {
					const whole = makePacket({ protocol, src, dst, payload });
					const headers = whole.length - payload.length;
					if (protocol === 6) whole[headers - 20 + 13] = 0x99;
					const parts: Uint8Array[] = [];
					expect(segmentFrame(whole, "ethernet", offload(type, size, true), (part) => parts.push(part))).toBe(true);
					expect(Buffer.concat(parts.map((part) => part.subarray(headers)))).toEqual(Buffer.from(payload));
					for (const [index, part] of parts.entries()) {
						expect(part.length - headers).toBeLessThanOrEqual(size);
						expect(checksumsHold(part, src, dst)).toBe(true);
						if (protocol !== 6) continue;
						expect(new DataView(part.buffer).getUint32(headers - 16)).toBe(index * size);
						const flags = part[headers - 7]!;
						expect([(flags & 0x80) !== 0, (flags & 9) !== 0]).toEqual([index === 0, index === parts.length - 1]);
					}
				},
			),
			{ seed: 41, numRuns: 60 },
		);
	});

	test("what is not what it says is refused", () => {
		const emit = (): void => {
			throw new Error("nothing may be emitted");
		};
		expect(segmentFrame(makePacket(), "ethernet", offload("tcpv4", 100), emit)).toBe(false);
		expect(segmentFrame(makePacket({ protocol: 6 }), "ethernet", offload("tcpv6", 100), emit)).toBe(false);
		expect(segmentFrame(makePacket({ protocol: 6 }), "ethernet", offload("tcpv4", 0), emit)).toBe(false);
		expect(segmentFrame(new Uint8Array(20), "ethernet", offload("tcpv4", 100), emit)).toBe(false);
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
				segmentFrame(bytes, "ip", offload("tcpv4", 50), () => {});
			}),
			{ seed: 42, numRuns: 500 },
		);
	});

	test("the switch segments for ports that cannot, and passes whole to those that can", () => {
		const bridge = createSwitch({ now: () => 0 });
		const [big, sender] = createLinkPair({ features: { checksum: true, tso4: true } });
		const [capable, capableHost] = createLinkPair({ features: { checksum: true, tso4: true } });
		const [plain, plainHost] = createLinkPair();
		for (const link of [big, capable, plain]) bridge.add(link);
		const sizes: Record<string, number[]> = { capable: [], plain: [] };
		capableHost.onFrame = (bytes) => sizes["capable"]!.push(bytes.length);
		plainHost.onFrame = (bytes) => sizes["plain"]!.push(bytes.length);
		sender.send(makePacket({ protocol: 6, payload: new Uint8Array(3000) }), offload("tcpv4", 1400));
		expect(sizes).toEqual({ capable: [3054], plain: [1454, 1454, 254] });
	});
});

describe("shaping", () => {
	const setup = (options: object, seed = 1) => {
		const [a, b] = createLinkPair();
		const clock = testClock();
		const shaped = shapeFrames(a, { out: options, clock, seed });
		const arrivals: { at: number; value: number }[] = [];
		b.onFrame = (bytes) => arrivals.push({ at: clock.now(), value: bytes[20]! });
		const send = (value: number): boolean => {
			const bytes = frame(mac(1), mac(0), 125);
			bytes[20] = value;
			return shaped.send(bytes);
		};
		return { shaped, clock, arrivals, send };
	};

	test("a rate spaces frames out", () => {
		const { clock, arrivals, send } = setup({ rate: 1_000_000 });
		for (let value = 0; value < 5; value++) send(value);
		clock.advance(100);
		expect(arrivals.map(({ at }) => at)).toEqual([1, 2, 3, 4, 5]);
	});

	test("a delay delays, jitter keeps the order, and both are the same for the same seed", () => {
		const arrivalsOf = (seed: number): { at: number; value: number }[] => {
			const { clock, arrivals, send } = setup({ delayMs: 50, jitterMs: 20 }, seed);
			for (let value = 0; value < 50; value++) {
				send(value);
				clock.advance(1);
			}
			clock.advance(1000);
			return arrivals;
		};
		const first = arrivalsOf(7);
		expect(first).toHaveLength(50);
		expect(first.map(({ value }) => value)).toEqual(Array.from({ length: 50 }, (_, value) => value));
		expect(first.every(({ at, value }) => at >= value + 30 && at <= value + 71)).toBe(true);
		expect(new Set(first.map(({ at, value }) => at - value)).size).toBeGreaterThan(5);
		expect(arrivalsOf(7)).toEqual(first);
		expect(arrivalsOf(8)).not.toEqual(first);
	});

	test("loss, duplication, corruption and reordering happen as often as asked, and are counted", () => {
		const { shaped, clock, arrivals, send } = setup({
			delayMs: 5,
			loss: 0.1,
			duplicate: 0.1,
			corrupt: 0.1,
			reorder: 0.1,
			limit: 10,
		});
		for (let count = 0; count < 10_000; count++) {
			send(count & 127);
			clock.advance(1);
		}
		clock.advance(100);
		const { out } = shaped.counters;
		for (const [name, expected] of [
			["lost", 1000],
			["duplicated", 900],
			["corrupted", 990],
			["reordered", 990],
		] as const) {
			expect(Math.abs(out[name] - expected), name).toBeLessThan(130);
		}
		expect(arrivals).toHaveLength(10_000 - out.lost + out.duplicated - out.overflowed);
	});

	test("the queue is bounded, close empties it, and nonsense is refused", () => {
		const { shaped, clock, arrivals, send } = setup({ delayMs: 10, limit: 3 });
		for (let value = 0; value < 5; value++) send(value);
		expect(shaped.counters.out.overflowed).toBe(2);
		expect(() => shaped.send(new Uint8Array(2000))).toThrowError(
			expect.objectContaining({ code: "ERR_FRAME_TOO_LONG" }),
		);
		shaped.close();
		clock.advance(100);
		expect(arrivals).toEqual([]);
		expect(() => send(1)).toThrowError(expect.objectContaining({ code: "ERR_LINK_CLOSED" }));
		expect(() => setup({ loss: 2 })).toThrowError(expect.objectContaining({ code: "ERR_LINK_OPTION" }));
	});
});

test("counters count by size and type", () => {
	const [a, b] = createLinkPair();
	const counted = countFrames(a);
	counted.onFrame = () => {};
	b.send(makePacket());
	counted.send(makePacket({ payload: new Uint8Array(1000) }));
	counted.send(frame(mac(1), mac(0)));
	expect(counted.received).toMatchObject({ frames: 1, bytes: 60, sizes: [1, 0, 0, 0, 0, 0, 0] });
	expect(counted.sent).toMatchObject({ frames: 2, bytes: 1102, sizes: [1, 0, 0, 0, 0, 1, 0] });
	expect([...counted.sent.etherTypes]).toEqual([
		[0x0800, 1],
		[0x88b5, 1],
	]);
});
