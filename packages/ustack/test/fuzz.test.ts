import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseScript } from "../src/drill/index.ts";
import { seededRandom } from "../src/link/model.ts";
import { Cidr, ipv4FromNumber, parseAddress, readAddress } from "../src/wire/address.ts";
import { checksum, foldSum, sumBytes } from "../src/wire/checksum.ts";
import { DHCP, dhcpRequest, encodeDhcp, parseDhcp } from "../src/wire/dhcp.ts";
import { dnsQuery, encodeDns, parseDns } from "../src/wire/dns.ts";
import { parseTcpOptions, TcpOptions } from "../src/wire/tcp.ts";
import { feed, pattern, Sink, same, warm, world } from "./world.ts";

const runs = { numRuns: 300, seed: 20_060_609 };

/** Bytes in array buffers; a browser does not tell. */
function arrayBuffersHeld(): number {
	return typeof process === "undefined" ? 0 : process.memoryUsage().arrayBuffers;
}

describe("parsers", () => {
	test("the checksum is the sum of 16-bit words, at any alignment", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 400 }), fc.integer({ min: 0, max: 7 }), (bytes, shift) => {
				let plain = 0;
				for (let i = 0; i < bytes.length; i++) plain += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
				const moved = new Uint8Array(bytes.length + shift);
				moved.set(bytes, shift);
				expect(sumBytes(moved, shift, bytes.length) % 0xffff).toBe(plain % 0xffff);
				const whole = new Uint8Array(bytes.length + (bytes.length & 1) + 2);
				whole.set(bytes);
				const sum = checksum(whole, 0, whole.length);
				whole[whole.length - 2] = sum >>> 8;
				whole[whole.length - 1] = sum & 255;
				expect(foldSum(sumBytes(whole, 0, whole.length))).toBe(0xffff);
			}),
			runs,
		);
	});

	test("addresses survive text and bytes", () => {
		fc.assert(
			fc.property(
				fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 })),
				(bytes) => {
					const address = readAddress(bytes, 0, bytes.length === 4 ? 4 : 6);
					const text = address.toString();
					expect(parseAddress(text)?.equals(address)).toBe(true);
					if (address.family === 6) expect(parseAddress(text.toUpperCase())?.equals(address)).toBe(true);
				},
			),
			runs,
		);
	});

	test("a network contains its ends and nothing beside them", () => {
		fc.assert(
			fc.property(fc.integer(), fc.integer({ min: 1, max: 31 }), (word, prefix) => {
				const cidr = new Cidr(
					parseAddress(`${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`)!,
					prefix,
				);
				expect(cidr.contains(cidr.network)).toBe(true);
				expect(cidr.contains(cidr.broadcast)).toBe(true);
				const after = (cidr.broadcast.d + 1) | 0;
				expect(cidr.contains(ipv4FromNumber(after))).toBe(false);
			}),
			runs,
		);
	});

	test.each([
		"1.2.3",
		"1.2.3.4.5",
		"01.2.3.4",
		"1.2.3.256",
		"::1::",
		":1",
		"1:2:3:4:5:6:7:8:9",
		"g::",
		"1.2.3.4::",
		"",
	])("%j is no address", (text) => {
		expect(parseAddress(text)).toBeUndefined();
	});

	test("hostile bytes never throw", () => {
		const options = new TcpOptions();
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
				parseDns(bytes);
				parseDhcp(bytes);
				parseTcpOptions(bytes, 0, Math.min(40, bytes.length), options);
				expect(options.sackCount).toBeLessThanOrEqual(4);
			}),
			{ ...runs, numRuns: 2_000 },
		);
	});

	test("mutated messages never throw, and whole ones come back", () => {
		const dns = encodeDns(dnsQuery(7, "www.example.com", 28))!;
		const dhcp = encodeDhcp(dhcpRequest(99, Uint8Array.of(2, 0, 0, 0, 0, 1), DHCP.DISCOVER));
		expect(parseDns(dns)?.questions[0]).toEqual({ name: "www.example.com", type: 28, class: 1 });
		expect(parseDhcp(dhcp)?.xid).toBe(99);
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
				fc.nat(400),
				(changes, cut) => {
					for (const whole of [dns, dhcp]) {
						const bytes = whole.slice(0, Math.max(1, whole.length - (cut % whole.length)));
						for (const [at, value] of changes) bytes[at % bytes.length] = value;
						parseDns(bytes);
						parseDhcp(bytes);
					}
				},
			),
			{ ...runs, numRuns: 2_000 },
		);
	});

	test("a script that is none is refused with its line", () => {
		expect(() => parseScript("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 > Q nonsense\n")).toThrow(/line 2/);
	});
});

describe("a live stack", () => {
	test.each([1, 2])("takes mutated frames of its own traffic, and still works (seed %i)", (seed) => {
		const w = world({ delayMs: 1 }, {}, seed);
		warm(w);
		const frames: Uint8Array[] = [];
		w.b.iface.tap = (frame, outgoing) => {
			if (!outgoing && frames.length < 400) frames.push(frame.slice());
		};
		const got = new Sink();
		w.b.tcp.listen({ port: 80, onConnection: () => got.handlers });
		w.a.tcp.connect("10.0.0.2", 80, feed(new Sink(), pattern(200_000)));
		w.a.tcp.connect("fd00::2", 80, feed(new Sink(), pattern(200_000)));
		w.network.run(2_000);
		w.b.iface.tap = undefined;
		expect(frames.length).toBeGreaterThan(200);
		const random = seededRandom(seed);
		const before = arrayBuffersHeld();
		for (let i = 0; i < 40_000; i++) {
			let frame = frames[Math.floor(random() * frames.length)]!.slice();
			const changes = Math.floor(random() * 5);
			// Half of them keep the MAC, so that they get past the first check.
			for (let j = 0; j < changes; j++)
				frame[(random() < 0.5 ? 14 : 0) + Math.floor(random() * (frame.length - 14))] = random() * 256;
			if (random() < 0.2) frame = frame.subarray(0, Math.floor(random() * frame.length));
			const vouched =
				random() < 0.5
					? {
							needsCsum: false,
							dataValid: true,
							csumStart: 0,
							csumOffset: 0,
							gsoType: "none" as const,
							gsoSize: 0,
							hdrLen: 0,
							ecn: false,
						}
					: undefined;
			w.b.stack.input(frame, w.network.now, vouched, w.b.iface);
			if (i % 64 === 0) w.network.run(0.1);
		}
		w.network.run(100);
		expect(arrayBuffersHeld() - before).toBeLessThan(64 << 20);
		const again = new Sink();
		w.b.tcp.listen({ port: 81, onConnection: () => again.handlers });
		const data = pattern(100_000);
		warm(w);
		w.a.tcp.connect("10.0.0.2", 81, feed(new Sink(), data));
		expect(w.network.run(60_000, () => again.ended)).toBe(true);
		expect(same(again.bytes(), data)).toBe(true);
	});
});
