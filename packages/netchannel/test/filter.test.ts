import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
	CaptureReader,
	compileFilter,
	createLinkPair,
	createPcapHeader,
	encodePcapHeader,
	encodePcapPacket,
	FilterError,
	filterFrames,
} from "../src/index.ts";
import { makePacket } from "./support/packets.ts";
import { missing, run } from "./support/tools.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-filter-"));
afterAll(() => rmSync(folder, { recursive: true }));

const frames: Uint8Array[] = [];
for (const [src, dst] of [
	["10.0.0.2", "10.0.0.1"],
	["10.0.0.1", "10.0.0.2"],
	["192.168.1.9", "10.9.0.1"],
	["2001:db8::1", "2001:db8::2"],
	["fe80::1", "2001:db8::1"],
] as const) {
	for (const protocol of [1, 6, 17, 58, 132]) {
		for (const [sport, dport] of [
			[53, 1000],
			[1000, 53],
			[8080, 443],
		] as const) {
			for (const vlan of [undefined, 7]) {
				const payload = Uint8Array.from([
					sport >> 8,
					sport & 255,
					dport >> 8,
					dport & 255,
					...new Array<number>(dport % 90).fill(1),
				]);
				frames.push(makePacket({ src, dst, protocol, sport, dport, payload, ...(vlan === undefined ? {} : { vlan }) }));
			}
		}
	}
}
frames.push(makePacket({ fragment: 0x2000 }), makePacket({ fragment: 5 }));
const arp = new Uint8Array(60);
arp.set([
	255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0,
	0, 0, 0, 10, 0, 0, 1,
]);
frames.push(arp);
const group = makePacket({ dst: "224.0.0.1" });
group.set([1, 0, 0x5e, 0, 0, 1]);
frames.push(group);

const EXPRESSIONS = [
	"",
	"ip",
	"ip6",
	"arp",
	"tcp",
	"udp",
	"icmp",
	"icmp6",
	"sctp",
	"not tcp",
	"tcp or udp",
	"tcp and port 53",
	"port 53",
	"src port 53",
	"dst port 53",
	"src or dst port 443",
	"src and dst port 53",
	"udp port 53",
	"tcp dst port 443",
	"sctp port 8080",
	"portrange 50-60",
	"udp src portrange 1000-8080",
	"host 10.0.0.1",
	"src host 10.0.0.1",
	"dst 10.0.0.1",
	"host 2001:db8::1",
	"dst host 2001:db8::1",
	"net 10.0.0.0/8",
	"src net 192.168.0.0/16",
	"dst net 10.8.0.0/13",
	"net 2001:db8::/32",
	"ip6 src net fe80::/10",
	"ip host 10.0.0.1",
	"arp host 10.0.0.1",
	"ether host 02:00:00:00:00:01",
	"ether dst 02:00:00:00:00:01",
	"ether src 02:00:00:00:00:02",
	"ether proto 0x0800",
	"ether proto 0x0806",
	"ip proto 6",
	"ip6 proto 17",
	"proto 17",
	"broadcast",
	"multicast",
	"less 100",
	"greater 100",
	"vlan",
	"vlan 7",
	"vlan 8",
	"vlan and udp port 53",
	"not (tcp or udp) and ip",
	"tcp or udp and port 53",
	"(tcp or (udp and port 53)) and not host 10.0.0.1",
	"! arp && (port 53 || port 443)",
];

const noDump = missing("tcpdump");
describe.skipIf(noDump !== undefined)(
	`selects what tcpdump selects${noDump === undefined ? "" : ` (${noDump})`}`,
	() => {
		const input = join(folder, "in.pcap");
		const header = createPcapHeader(1);
		writeFileSync(
			input,
			Buffer.concat([
				encodePcapHeader(header),
				...frames.map((frame, index) => encodePcapPacket(header, BigInt(index), frame)),
			]),
		);
		const theirs = (expression: string): number[] => {
			const output = join(folder, "out.pcap");
			try {
				run("tcpdump", "--nano", "-r", input, "-w", output, expression);
			} catch (error) {
				// Its optimiser notices when nothing can match, and calls that an error.
				if ((error as Error).message.includes("rejects all packets")) return [];
				throw error;
			}
			const picked: number[] = [];
			const reader = new CaptureReader();
			reader.push(readFileSync(output), ({ timestampNs }) => picked.push(Number(timestampNs)));
			return picked;
		};
		const ours = (expression: string): number[] => {
			const program = compileFilter(expression);
			return frames.flatMap((frame, index) => (program.matches(frame) ? [index] : []));
		};

		test.each(EXPRESSIONS)("%s", (expression) => {
			expect(ours(expression)).toEqual(theirs(expression));
		});

		test("and for random combinations", () => {
			const atoms = EXPRESSIONS.filter(
				(expression) => expression !== "" && !expression.includes("vlan") && !/ or | and |\|\|/.test(expression),
			);
			const { tree } = fc.letrec<{ tree: string; leaf: string; join: string; not: string }>((tie) => ({
				tree: fc.oneof({ depthSize: "small", withCrossShrink: true }, tie("leaf"), tie("join"), tie("not")),
				leaf: fc.constantFrom(...atoms),
				join: fc
					.tuple(tie("tree"), fc.constantFrom("and", "or"), tie("tree"))
					.map(([a, word, b]) => `(${a}) ${word} (${b})`),
				not: tie("tree").map((of) => `not (${of})`),
			}));
			fc.assert(
				fc.property(tree, (expression) => {
					expect(ours(expression)).toEqual(theirs(expression));
				}),
				{ seed: 31, numRuns: 40 },
			);
		});
	},
);

test("long programs jump further than 255 instructions", () => {
	const many = Array.from({ length: 120 }, (_, index) => `host 10.1.0.${index}`).join(" or ");
	const program = compileFilter(`(${many} or host 10.0.0.1) and udp`);
	expect(program.instructions.length).toBeGreaterThan(255);
	expect(program.instructions.every(({ jt, jf }) => jt < 256 && jf < 256)).toBe(true);
	expect(program.matches(makePacket())).toBe(true);
	expect(program.matches(makePacket({ dst: "10.0.0.9" }))).toBe(false);
	expect(program.matches(makePacket({ protocol: 6 }))).toBe(false);
});

test("what is no filter is told with its place", () => {
	for (const [expression, at, message] of [
		["tcp and", 7, /the end/],
		["port 70000", 5, /65535/],
		["host 1.2.3", 5, /address/],
		["(tcp", 4, /\)/],
		["tcp $", 4, /unexpected/],
		["icmp port 5", 0, /no ports/],
		["portrange 9-5", 10, /LOW-HIGH/],
		["frobnicate", 0, /expected/],
		["ip host ::1", 8, /IPv4/],
		["constructor", 0, /expected/],
	] as const) {
		try {
			compileFilter(expression);
			throw new Error(`${expression} was accepted`);
		} catch (error) {
			expect(error, expression).toBeInstanceOf(FilterError);
			expect((error as FilterError).message).toMatch(message);
			expect((error as FilterError).at, expression).toBe(at);
		}
	}
	expect(() => compileFilter("vlan", { medium: "ip" })).toThrow(FilterError);
	expect(() => compileFilter("(".repeat(500))).toThrow(FilterError);
});

test("any text is a filter or a FilterError, and any filter runs over any bytes", () => {
	const word = fc.constantFrom(
		"tcp",
		"udp",
		"port",
		"53",
		"host",
		"10.0.0.1",
		"and",
		"or",
		"not",
		"(",
		")",
		"vlan",
		"net",
		"::1/64",
		"src",
		"dst",
		"ether",
		"less",
		"proto",
		"ip6",
	);
	fc.assert(
		fc.property(
			fc.oneof(
				fc.string(),
				fc.array(word, { maxLength: 8 }).map((words) => words.join(" ")),
			),
			fc.uint8Array({ maxLength: 80 }),
			(expression, frame) => {
				try {
					compileFilter(expression).matches(frame);
				} catch (error) {
					expect(error).toBeInstanceOf(FilterError);
				}
			},
		),
		{ seed: 32, numRuns: 3000 },
	);
});

test("works on bare IP, and around a link", () => {
	const program = compileFilter("udp dst port 53 and src 10.0.0.2", { medium: "ip" });
	expect(program.matches(makePacket({ medium: "ip" }))).toBe(true);
	expect(program.matches(makePacket({ medium: "ip", dport: 54 }))).toBe(false);
	const [a, b] = createLinkPair();
	const filtered = filterFrames(a, compileFilter("udp"), "in");
	let received = 0;
	filtered.onFrame = () => received++;
	b.send(makePacket());
	b.send(makePacket({ protocol: 6 }));
	expect(filtered.send(makePacket({ protocol: 6 }))).toBe(true);
	expect([received, filtered.dropped]).toEqual([1, { sent: 0, received: 1 }]);
});
