import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { prefixMask } from "../src/channel/address.ts";
import { FlowTable } from "../src/channel/flow-table.ts";
import { writeKeyWords } from "../src/channel/match.ts";
import {
	createClassifier,
	type FlowPattern,
	formatAddress,
	PacketKey,
	parseAddress,
	parsePacket,
} from "../src/index.ts";
import { makePacket } from "./support/packets.ts";

/** Small deterministic generator (mulberry32), for volumes fast-check is too slow for. */
function generator(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return (t ^ (t >>> 14)) >>> 0;
	};
}

test("addresses: text and words are the same thing", () => {
	fc.assert(
		fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
			const { words } = parseAddress(text);
			const again = formatAddress(words);
			expect(parseAddress(again).words).toEqual(words);
			if (text.includes(":")) expect(again).toBe(new URL(`http://[${text}]`).hostname.slice(1, -1));
		}),
		{ seed: 3, numRuns: 500 },
	);
	for (const wrong of [
		"",
		"1.2.3",
		"1.2.3.256",
		"01.2.3.4",
		"::1::",
		"1:2:3:4:5:6:7",
		"12345::",
		":1",
		"1::2:3:4:5:6:7:8",
		"fe80::1%eth0",
	]) {
		expect(() => parseAddress(wrong), wrong).toThrowError(expect.objectContaining({ code: "EINVAL" }));
	}
});

test("the flow table is a map, whatever is added and removed", () => {
	const key = fc.tuple(...Array.from({ length: 4 }, () => fc.integer({ min: 0, max: 3 })));
	const step = fc.record({ key, remove: fc.boolean(), value: fc.nat(1000) });
	fc.assert(
		fc.property(fc.array(step, { maxLength: 300 }), fc.integer(), (steps, seed) => {
			const table = new FlowTable(4, seed);
			const map = new Map<string, number>();
			for (const { key, remove, value } of steps) {
				const words = Int32Array.from(key);
				if (remove) expect(table.delete(words)).toBe(map.delete(key.join()));
				else {
					expect(table.insert(words, value)).toBe(!map.has(key.join()));
					if (!map.has(key.join())) map.set(key.join(), value);
				}
			}
			expect(table.size).toBe(map.size);
			for (const { key } of steps) {
				expect(table.find(Int32Array.from(key))).toBe(map.get(key.join()) ?? -1);
				expect(table.find4(key[0]!, key[1]!, key[2]!, key[3]!)).toBe(map.get(key.join()) ?? -1);
			}
		}),
		{ seed: 9, numRuns: 200 },
	);
});

/** Random rules and packets, 400 of each a generation; NETCHANNEL_CLASSIFIER=250 is the full proof, a minute. */
const GENERATIONS = Number(process.env["NETCHANNEL_CLASSIFIER"] ?? 50);

test(
	`equals a linear search over ${GENERATIONS * 400} random rules and packets, through removals`,
	() => {
		const next = generator(2026);
		const pick = (count: number): number => next() % count;
		const classifier = createClassifier({ seed: 99 });
		interface Known {
			id: number;
			pattern: FlowPattern;
			priority: number;
			serial: number;
			weight: number;
		}
		// A linear search over 100,000 rules for each of 100,000 packets is 10^10 steps; rules come and go in generations of
		// 400, each checked with 400 packets, which compares 100,000 rules and packets all the same.
		const protocols = [1, 6, 17];
		let rules = 0;
		let packets = 0;
		const bits = (mask: Int32Array): number =>
			[...mask].reduce((sum, word) => sum + (word >>> 0).toString(2).replaceAll("0", "").length, 0);
		const key = new PacketKey();
		const words = new Int32Array(10);
		for (let generation = 0; generation < GENERATIONS; generation++) {
			const known: Known[] = [];
			for (let index = 0; index < 400; index++, rules++) {
				const family = pick(4) === 0 ? 6 : 4;
				const each = family === 4 ? 1 : 4;
				const mask = new Int32Array(family === 4 ? 4 : 10);
				mask.set(prefixMask([0, 8, 24, 31, 32, 32][pick(6)]! + (family === 6 ? 96 : 0), each), 0);
				mask.set(prefixMask([0, 16, 32, 32][pick(4)]! + (family === 6 ? 96 : 0), each), each);
				mask[2 * each] = [0, -1, 0xffff, 0xffff0000, -1][pick(5)]!;
				mask[2 * each + 1] = [0, 0xff, 0xff, 0x1fffff][pick(4)]!;
				const data = new Int32Array(mask.length);
				if (family === 6) data[0] = data[4] = 0x20010db8;
				data[each - 1]! |= 0x0a000000 | pick(4);
				data[2 * each - 1]! |= 0x0a000100 | pick(4);
				data[2 * each] = (pick(3) << 16) | pick(3);
				data[2 * each + 1] = protocols[pick(3)]! | (pick(2) === 0 ? 0 : (0x1000 | pick(3)) << 8);
				const pattern: FlowPattern = { family, mask, data: data.map((word, at) => word & mask[at]!) };
				const priority = pick(3);
				try {
					known.push({ id: classifier.add([pattern], priority), pattern, priority, serial: rules, weight: bits(mask) });
				} catch (error) {
					expect(error).toMatchObject({ code: "EEXIST" });
					expect(
						known.some(
							(other) => other.pattern.mask.join() === mask.join() && other.pattern.data.join() === pattern.data.join(),
						),
					).toBe(true);
				}
				if (pick(5) === 0 && known.length > 0) {
					const [gone] = known.splice(pick(known.length), 1);
					expect(classifier.remove(gone!.id)).toBe(true);
				}
			}
			for (let index = 0; index < 400; index++, packets++) {
				const six = pick(4) === 0;
				const prefix = six ? "2001:db8::a00:" : "10.0.";
				const tag = pick(3);
				const frame = makePacket({
					dst: six ? `${prefix}${pick(4)}` : `${prefix}0.${pick(4)}`,
					src: six ? `${prefix}10${pick(4)}` : `${prefix}1.${pick(4)}`,
					protocol: protocols[pick(3)]!,
					dport: pick(3),
					sport: pick(3),
					...(tag === 0 ? {} : { vlan: pick(3) }),
				});
				parsePacket(key, frame, "ethernet");
				writeKeyWords(words, key);
				const best = known
					.filter(({ pattern }) => pattern.family === key.family)
					.filter(({ pattern }) => key.hasPorts || pattern.mask[pattern.family === 4 ? 2 : 8] === 0)
					.filter(({ pattern }) => pattern.data.every((word, at) => word === (words[at]! & pattern.mask[at]!)))
					.sort((a, b) => b.priority - a.priority || b.weight - a.weight || a.serial - b.serial)[0];
				expect(classifier.classify(frame, "ethernet")).toBe(best?.id ?? -1);
			}
			for (const { id } of known) classifier.remove(id);
			expect(classifier.size).toBe(0);
		}
		expect([rules, packets]).toEqual([GENERATIONS * 400, GENERATIONS * 400]);
	},
	60_000 + 2000 * GENERATIONS,
);

describe("packets", () => {
	test("local is where a received packet goes", () => {
		const classifier = createClassifier();
		const mine = classifier.add({
			local: "10.0.0.1",
			localPort: 53,
			remote: "10.0.0.2",
			remotePort: 1000,
			protocol: "udp",
		});
		expect(classifier.classify(makePacket(), "ethernet")).toBe(mine);
		expect(classifier.classify(makePacket({ medium: "ip" }), "ip")).toBe(mine);
		expect(
			classifier.classify(makePacket({ src: "10.0.0.1", dst: "10.0.0.2", sport: 53, dport: 1000 }), "ethernet"),
		).toBe(-1);
		expect(classifier.countersOf(mine)).toEqual({ packets: 2, bytes: 60 + 46 });
	});

	test("bytes where ports would be are none in a protocol without", () => {
		const classifier = createClassifier();
		const mine = classifier.add({ family: 4, localPort: 53 });
		const frame = makePacket();
		expect(classifier.classify(frame, "ethernet")).toBe(mine);
		frame[23] = 1;
		expect(classifier.classify(frame, "ethernet")).toBe(-1);
		expect([classifier.key.hasPorts, classifier.key.ports]).toEqual([false, 0]);
		const everything = classifier.add({ local: "10.0.0.1" });
		expect(classifier.classify(frame, "ethernet")).toBe(everything);
	});

	test("a VLAN is looked through, or matched where the rule says so", () => {
		const classifier = createClassifier();
		const any = classifier.add({ localPort: 53 });
		const seven = classifier.add({ localPort: 53, vlan: 7 });
		const untagged = classifier.add({ localPort: 53, vlan: 0 }, -1);
		expect(classifier.classify(makePacket({ vlan: 7 }), "ethernet")).toBe(seven);
		expect(classifier.classify(makePacket({ vlan: 8 }), "ethernet")).toBe(any);
		classifier.remove(any);
		expect(classifier.classify(makePacket({ vlan: 8 }), "ethernet")).toBe(-1);
		expect(classifier.classify(makePacket(), "ethernet")).toBe(untagged);
	});

	test("fragments follow their first, for a while", () => {
		const classifier = createClassifier({ fragmentTimeoutMs: 100, fragmentLimit: 2 });
		const dns = classifier.add({ localPort: 53, protocol: "udp" });
		const all = classifier.add({ local: "10.0.0.1" }, -1);
		const first = (identification: number): Uint8Array => makePacket({ fragment: 0x2000, identification });
		const later = (identification: number): Uint8Array => makePacket({ fragment: 3, identification });
		expect(classifier.classify(later(1), "ethernet", 0)).toBe(all);
		expect(classifier.classify(first(1), "ethernet", 0)).toBe(dns);
		expect(classifier.classify(later(1), "ethernet", 50)).toBe(dns);
		expect(classifier.classify(later(2), "ethernet", 50)).toBe(all);
		expect(classifier.classify(later(1), "ethernet", 101)).toBe(all);
		for (const identification of [5, 6, 7]) classifier.classify(first(identification), "ethernet", 200);
		expect([5, 6, 7].map((identification) => classifier.classify(later(identification), "ethernet", 200))).toEqual([
			all,
			dns,
			dns,
		]);
	});

	test("other EtherTypes have rules of their own", () => {
		const classifier = createClassifier();
		const arp = classifier.add({ etherType: 0x0806 });
		const frame = new Uint8Array(60);
		frame.set([8, 6], 12);
		expect(classifier.classify(frame, "ethernet")).toBe(arp);
		expect(() => classifier.add({ etherType: 0x0806, localPort: 1 })).toThrowError(
			expect.objectContaining({ code: "EINVAL" }),
		);
	});

	test("IPv6 extension headers are walked, and never past the end", () => {
		const frame = makePacket({ src: "2001:db8::2", dst: "2001:db8::1", protocol: 6 });
		const hop = Uint8Array.from([...frame.slice(0, 54), 6, 0, 1, 4, 0, 0, 0, 0, ...frame.slice(54)]);
		hop[20] = 0;
		const key = new PacketKey();
		parsePacket(key, hop, "ethernet");
		expect([key.family, key.protocol, key.hasPorts, key.ports]).toEqual([6, 6, true, (53 << 16) | 1000]);
		hop[55] = 255;
		parsePacket(key, hop, "ethernet");
		expect(key.family).toBe(0);
	});

	test("any bytes at all are parsed without reading outside them", () => {
		const key = new PacketKey();
		const classifier = createClassifier();
		const whole = fc.constantFrom(makePacket(), makePacket({ src: "::1", dst: "::2" }), makePacket({ vlan: 3 }));
		const mutated = fc
			.tuple(whole, fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 }), fc.nat(90))
			.map(([frame, changes, length]) => {
				const copy = frame.slice(0, length);
				for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
				return copy;
			});
		fc.assert(
			fc.property(
				fc.oneof(fc.uint8Array({ maxLength: 100 }), mutated),
				fc.constantFrom("ethernet" as const, "ip" as const),
				(frame, medium) => {
					parsePacket(key, frame, medium);
					if (key.family !== 0) expect(key.transport).toBeLessThanOrEqual(frame.length);
					if (key.hasPorts) expect(Number.isInteger(key.ports)).toBe(true);
					expect(classifier.classify(frame, medium)).toBe(-1);
					// A later fragment's ports are those of its first, which parsing alone does not know.
					if (!key.laterFragment) expect(classifier.key).toEqual(key);
					else Object.assign(classifier.key, { ports: key.ports, hasPorts: key.hasPorts });
				},
			),
			{ seed: 11, numRuns: 5000 },
		);
	});
});
