import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { openLink } from "../src/index.node.ts";
import {
	BLOCK,
	BlockReader,
	type CapturedPacket,
	CaptureError,
	CaptureReader,
	createCapture,
	createLinkPair,
	createPcapHeader,
	encodeBlock,
	encodeOptions,
	encodePcapHeader,
	encodePcapPacket,
	PcapngReader,
	PcapngWriter,
	PcapReader,
	readOptions,
} from "../src/index.ts";
import { makePacket } from "./support/packets.ts";
import { missing, run } from "./support/tools.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-pcap-"));
afterAll(() => rmSync(folder, { recursive: true }));
const concat = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const START = 1_700_000_000_123_456_789n;

function samplePcapng(count: number, interfaces = 2): Uint8Array {
	const parts: Uint8Array[] = [];
	let now = START;
	const capture = createCapture({ write: (bytes) => parts.push(bytes) < 0, now: () => (now += 1001n) });
	const [a, b] = createLinkPair();
	const tee = capture.tee(a, { name: "wire0" });
	if (interfaces > 1) capture.tee(createLinkPair({ medium: "ip" })[0], { name: "wire1" });
	b.onFrame = () => {};
	tee.onFrame = () => {};
	for (let index = 0; index < count; index++) {
		const frame = makePacket({ payload: new Uint8Array(index % 50).fill(index) });
		if (index % 2 === 0) tee.send(frame);
		else b.send(frame);
	}
	capture.close();
	return concat(parts);
}

function readAll(bytes: Uint8Array, pieces = 1): CapturedPacket[] {
	const reader = new CaptureReader();
	const packets: CapturedPacket[] = [];
	const step = Math.ceil(bytes.length / pieces);
	for (let at = 0; at < bytes.length; at += step) {
		reader.push(bytes.slice(at, at + step), (packet) => packets.push({ ...packet, bytes: packet.bytes.slice() }));
	}
	reader.end();
	return packets;
}

test("a tee records both directions, one interface per link, and its own drops", () => {
	const packets = readAll(samplePcapng(10), 7);
	expect(packets.map(({ direction }) => direction)).toEqual([
		"out",
		"in",
		"out",
		"in",
		"out",
		"in",
		"out",
		"in",
		"out",
		"in",
	]);
	expect(packets[0]).toMatchObject({
		timestampNs: START + 1001n,
		interfaceName: "wire0",
		interfaceId: 0,
		linkType: 1,
		originalLength: 42,
	});
	let full = false;
	const parts: Uint8Array[] = [];
	const capture = createCapture({ write: (bytes) => parts.push(bytes) > 0 && full, now: () => START });
	const [a] = createLinkPair();
	const tee = capture.tee(a);
	tee.send(makePacket());
	full = true;
	for (let count = 0; count < 3; count++) tee.send(makePacket());
	full = false;
	capture.resume();
	tee.send(makePacket());
	capture.close();
	expect(readAll(concat(parts))).toHaveLength(3);
	const blocks: { received: bigint; dropped: bigint }[] = [];
	new PcapngReader().push(
		concat(parts),
		() => {},
		(block) => {
			if (block.type !== BLOCK.statistics) return;
			const [received, dropped] = readOptions(block, 12).map(({ value }) =>
				new DataView(value.buffer, value.byteOffset).getBigUint64(0, true),
			);
			blocks.push({ received: received!, dropped: dropped! });
		},
	);
	expect(blocks).toEqual([{ received: 5n, dropped: 2n }]);
});

test("pcap: any packets, any cuts, both resolutions and byte orders", () => {
	const packet = fc.record({
		bytes: fc.uint8Array({ maxLength: 100 }),
		ns: fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n }),
	});
	fc.assert(
		fc.property(
			fc.array(packet, { maxLength: 10 }),
			fc.boolean(),
			fc.boolean(),
			fc.integer({ min: 1, max: 30 }),
			(packets, littleEndian, nanoseconds, pieces) => {
				const header = { ...createPcapHeader(1), littleEndian, nanoseconds };
				const file = concat([
					encodePcapHeader(header),
					...packets.map(({ bytes, ns }) => encodePcapPacket(header, ns, bytes, bytes.length + 3)),
				]);
				const unit = nanoseconds ? 1n : 1000n;
				expect(
					readAll(file, pieces).map(({ bytes, timestampNs, originalLength }) => ({
						bytes,
						timestampNs,
						originalLength,
					})),
				).toEqual(
					packets.map(({ bytes, ns }) => ({
						bytes,
						timestampNs: (ns / unit) * unit,
						originalLength: bytes.length + 3,
					})),
				);
			},
		),
		{ seed: 21, numRuns: 200 },
	);
});

test("any damage to either format is a CaptureError, and what came before it is delivered", () => {
	const header = createPcapHeader(1);
	const files = [
		samplePcapng(6),
		concat([encodePcapHeader(header), ...[1, 2, 3].map(() => encodePcapPacket(header, START, makePacket()))]),
	];
	fc.assert(
		fc.property(
			fc.constantFrom(...files),
			fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 4 }),
			fc.nat(900),
			(file, changes, length) => {
				const copy = file.slice(0, Math.max(1, length));
				for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
				try {
					readAll(copy, 3);
				} catch (error) {
					expect(error).toBeInstanceOf(CaptureError);
				}
			},
		),
		{ seed: 22, numRuns: 3000 },
	);
	const broken = samplePcapng(6);
	const view = new DataView(broken.buffer);
	let blocks = 0;
	let at = 0;
	for (; blocks < 6; blocks++) at += view.getUint32(at + 4, true);
	view.setUint32(at + 4, 13, true);
	let delivered = 0;
	expect(() => new CaptureReader().push(broken, () => delivered++)).toThrowError(
		expect.objectContaining({ code: "ERR_CAPTURE_CORRUPT", offset: at + 4 }),
	);
	expect(delivered).toBe(3);
});

test("says what is wrong: other files, other versions, ends too early", () => {
	const code = (bytes: Uint8Array): string => {
		try {
			readAll(bytes);
		} catch (error) {
			return (error as CaptureError).code;
		}
		return "none";
	};
	expect(code(new TextEncoder().encode("hello world, no capture"))).toBe("ERR_CAPTURE_FORMAT");
	expect(code(new Uint8Array(2))).toBe("ERR_CAPTURE_TRUNCATED");
	expect(code(samplePcapng(3).slice(0, -5))).toBe("ERR_CAPTURE_TRUNCATED");
	const future = samplePcapng(1);
	future[12] = 2;
	expect(code(future)).toBe("ERR_CAPTURE_VERSION");
	const old = encodePcapHeader(createPcapHeader(1));
	old[4] = 3;
	expect(code(old)).toBe("ERR_CAPTURE_VERSION");
	const orphan = new PcapngWriter();
	const other = new PcapngWriter();
	other.addInterface({ linkType: 1 });
	expect(code(concat([orphan.header(), other.packet(0, 0n, makePacket())]))).toBe("ERR_CAPTURE_CORRUPT");
});

/** Takes a file apart and puts it together again from what was understood of it. */
function rewrite(file: Uint8Array): Uint8Array {
	const parts: Uint8Array[] = [];
	const reader = new CaptureReader();
	reader.push(file.slice(0, 24), () => {});
	if (reader.format === "pcap") {
		const pcap = new PcapReader();
		const packets: CapturedPacket[] = [];
		pcap.push(file, (packet) => packets.push({ ...packet, bytes: packet.bytes.slice() }));
		return concat([
			encodePcapHeader(pcap.header!),
			...packets.map((packet) =>
				encodePcapPacket(pcap.header!, packet.timestampNs, packet.bytes, packet.originalLength),
			),
		]);
	}
	new BlockReader().push(file, (block) => {
		const fixed: Record<number, number> = { [BLOCK.section]: 16, [BLOCK.interface]: 8, [BLOCK.statistics]: 12 };
		let options = fixed[block.type];
		if (block.type === BLOCK.packet)
			options =
				20 +
				Math.ceil(new DataView(block.body.buffer, block.body.byteOffset).getUint32(12, block.littleEndian) / 4) * 4;
		const body =
			options === undefined
				? block.body
				: concat([block.body.slice(0, options), encodeOptions(readOptions(block, options), block.littleEndian)]);
		parts.push(encodeBlock({ ...block, body }));
	});
	return concat(parts);
}

const noShark = missing("tshark", "capinfos", "editcap");
describe.skipIf(noShark !== undefined)(`Wireshark's tools${noShark === undefined ? "" : ` (${noShark})`}`, () => {
	test("read our pcapng: every packet, nanoseconds, names, directions and drops", () => {
		const file = join(folder, "ours.pcapng");
		writeFileSync(file, samplePcapng(1000));
		const info = run("capinfos", "-M", file);
		expect(info).toMatch(/Number of packets:\s+1000/);
		expect(info).toMatch(/Number of interfaces in file:\s+2/);
		expect(info).toMatch(/Time precision = nanoseconds/);
		expect(info).toMatch(/Name = wire0/);
		const fields = run(
			"tshark",
			"-r",
			file,
			"-T",
			"fields",
			"-e",
			"frame.time_epoch",
			"-e",
			"frame.interface_name",
			"-e",
			"frame.packet_flags_direction",
			"-e",
			"udp.dstport",
			"-e",
			"_ws.malformed",
		);
		const lines = fields.trim().split("\n");
		expect(lines).toHaveLength(1000);
		const [epoch, name, direction, port] = lines[1]!.split("\t");
		expect([epoch, name, Number(direction), port]).toEqual(["1700000000.123458791", "wire0", 1, "53"]);
		expect(
			run(
				"tshark",
				"-r",
				file,
				"-Y",
				"udp.checksum.status == 0 or ip.checksum.status == 0",
				"-o",
				"udp.check_checksum:TRUE",
				"-o",
				"ip.check_checksum:TRUE",
			),
		).toBe("");
	});

	test("write what we read, byte-identical after rewriting: pcapng with comments, names and their own blocks", () => {
		const ours = join(folder, "in.pcapng");
		writeFileSync(ours, samplePcapng(50));
		const theirs = join(folder, "theirs.pcapng");
		run("editcap", "-a", "1:first", "-a", "7:a longer comment", ours, theirs);
		const file = Uint8Array.from(readFileSync(theirs));
		expect(Buffer.compare(rewrite(file), file)).toBe(0);
		const packets = readAll(file, 13);
		expect(packets).toHaveLength(50);
		expect(packets[0]!.comments).toEqual(["first"]);
		expect(packets[6]!.comments).toEqual(["a longer comment"]);
	});

	test("and classic pcap in both resolutions", () => {
		const ours = join(folder, "in2.pcapng");
		writeFileSync(ours, samplePcapng(50, 1));
		for (const format of ["pcap", "nsecpcap"]) {
			const theirs = join(folder, `theirs.${format}`);
			run("editcap", "-F", format, ours, theirs);
			const file = Uint8Array.from(readFileSync(theirs));
			expect(Buffer.compare(rewrite(file), file)).toBe(0);
			expect(readAll(file)).toHaveLength(50);
		}
	});
});

const noDump = missing("tcpdump");
test.skipIf(noDump !== undefined)(
	`tcpdump reads our pcap and we read its${noDump === undefined ? "" : ` (${noDump})`}`,
	() => {
		const file = join(folder, "ours.pcap");
		const header = createPcapHeader(1);
		writeFileSync(
			file,
			concat([
				encodePcapHeader(header),
				...[1, 2, 3].map((value) => encodePcapPacket(header, START + BigInt(value), makePacket({ sport: value }))),
			]),
		);
		const lines = run("tcpdump", "-nn", "-tt", "--nano", "-r", file).trim().split("\n");
		expect(lines).toHaveLength(3);
		expect(lines[2]).toContain("1700000000.123456792 IP 10.0.0.2.3 > 10.0.0.1.53");
		const theirs = join(folder, "theirs-dump.pcap");
		run("tcpdump", "-r", file, "-w", theirs);
		const copy = Uint8Array.from(readFileSync(theirs));
		expect(Buffer.compare(rewrite(copy), copy)).toBe(0);
		expect(readAll(copy).map(({ bytes }) => bytes[35])).toEqual([1, 2, 3]);
	},
);

describe("capture files as links", () => {
	test.each(["x.pcap", "x.pcapng"])("%s: what is sent to the sink comes from the source", async (name) => {
		const path = join(folder, name);
		const sink = await openLink(`pcap:${path}?write=1`);
		const frames = Array.from({ length: 500 }, (_, index) => makePacket({ payload: new Uint8Array(index) }));
		for (const frame of frames)
			if (!sink.send(frame)) await new Promise<void>((resolve) => (sink.onWritable = resolve));
		sink.close();
		await new Promise((resolve) => setTimeout(resolve, 50));
		const source = await openLink(`pcap:${path}`);
		expect(source.carrier).toBe(true);
		const got: Uint8Array[] = [];
		const ended = new Promise<boolean>((resolve) => (source.onCarrier = resolve));
		source.onFrame = (frame) => got.push(frame.slice());
		expect(await ended).toBe(false);
		expect(got.map(({ length }) => length)).toEqual(frames.map(({ length }) => length));
		expect(Buffer.compare(Buffer.concat(got), Buffer.concat(frames))).toBe(0);
		source.close();
	});

	test("a corrupt file is an error event after what was whole", async () => {
		const path = join(folder, "bad.pcapng");
		writeFileSync(path, concat([samplePcapng(5), new Uint8Array(40).fill(0xff)]));
		const source = await openLink(`pcap:${path}`);
		let frames = 0;
		const failed = new Promise<Error>((resolve) => (source.onError = resolve));
		source.onFrame = () => frames++;
		expect(await failed).toMatchObject({ code: "ERR_CAPTURE_CORRUPT" });
		expect(frames).toBe(5);
	});

	test("no such file, and no right to write there", async () => {
		await expect(openLink(`pcap:${folder}/none.pcap`)).rejects.toMatchObject({ code: "ERR_LINK_NOT_FOUND", errno: 2 });
		await expect(openLink(`pcap:${folder}/none/x.pcap?write=1`)).rejects.toMatchObject({ code: "ERR_LINK_NOT_FOUND" });
	});
});
