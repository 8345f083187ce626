import { execFileSync, spawnSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import lz4 from "lz4js";
import { describe, expect, it } from "vitest";
import { BootError } from "../../src/boot/index.ts";
import { decompressPayload, payloadFormat } from "../../src/boot/payload.ts";
import { branchyBytes, TEXT_ZSTD, X86_XZ } from "./support/compressed.ts";

const TEXT = new TextEncoder().encode("compressible ".repeat(200));

function withSize(compressed: Uint8Array, size: number): Uint8Array {
	const out = new Uint8Array(compressed.length + 4);
	out.set(compressed);
	new DataView(out.buffer).setUint32(compressed.length, size, true);
	return out;
}

function lz4Legacy(...blocks: Uint8Array[]): Uint8Array {
	const packed = blocks.map((block) => {
		const room = new Uint8Array(block.length * 2 + 64);
		return room.subarray(0, lz4.compressBlock(block, room, 0, block.length, new Uint32Array(65536)));
	});
	const out = new Uint8Array(4 + packed.reduce((sum, { length }) => sum + 4 + length, 0));
	const view = new DataView(out.buffer);
	view.setUint32(0, 0x184c2102, true);
	let at = 4;
	for (const block of packed) {
		view.setUint32(at, block.length, true);
		out.set(block, at + 4);
		at += 4 + block.length;
	}
	return withSize(
		out,
		blocks.reduce((sum, { length }) => sum + length, 0),
	);
}

const has = (tool: string): boolean => spawnSync(tool, ["--version"]).status === 0;

describe("decompressPayload", () => {
	const kinds: [string, Uint8Array, Uint8Array][] = [
		["gzip", gzipSync(TEXT), TEXT],
		["lz4", lz4Legacy(TEXT, TEXT), Uint8Array.from([...TEXT, ...TEXT])],
		["zstd", withSize(TEXT_ZSTD, TEXT.length), TEXT],
		["xz", withSize(X86_XZ, 600), branchyBytes()],
	];

	it.each(kinds)("undoes %s", async (format, payload, plain) => {
		expect(payloadFormat(payload)).toBe(format);
		expect(await decompressPayload(payload)).toEqual(Uint8Array.from(plain));
	});

	it.each(kinds)("refuses %s whose trailer tells another size", async (_, payload, plain) => {
		for (const size of [0, 1, plain.length - 1, plain.length + 1, 0xffffffff]) {
			const bent = payload.slice();
			new DataView(bent.buffer).setUint32(bent.length - 4, size, true);
			await expect(decompressPayload(bent), `size ${size}`).rejects.toMatchObject({
				name: "BootError",
				code: "BAD_PAYLOAD",
			});
		}
	});

	it.each(kinds)("answers a damaged %s payload with a BootError or the announced size", async (_, payload, plain) => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.tuple(fc.integer({ min: 6, max: payload.length - 5 }), fc.nat(255)), {
					minLength: 1,
					maxLength: 6,
				}),
				fc.option(fc.integer({ min: 6, max: payload.length })),
				async (edits, cut) => {
					const bent = payload.slice();
					for (const [at, byte] of edits) bent[at] = byte;
					const tail = payload.subarray(payload.length - 4);
					const file = cut === null ? bent : Uint8Array.from([...bent.subarray(0, cut), ...tail]);
					try {
						expect((await decompressPayload(file)).length).toBe(plain.length);
					} catch (error) {
						expect(error).toBeInstanceOf(BootError);
					}
				},
			),
			{ numRuns: 200, seed: 3 },
		);
	});

	it("finds damage that xz's check covers", async () => {
		const bent = withSize(X86_XZ, 600);
		bent[100]! ^= 0x10;
		await expect(decompressPayload(bent)).rejects.toMatchObject({ code: "BAD_PAYLOAD" });
	});

	it("leaves formats without a decompressor to the guest", async () => {
		const lzo = new Uint8Array(64);
		lzo.set([0x89, 0x4c, 0x5a, 0x4f]);
		await expect(decompressPayload(lzo)).rejects.toMatchObject({ code: "UNSUPPORTED", value: "lzo" });
	});

	it.skipIf(!has("xz"))("undoes the branch filter of the xz command on random code [needs xz]", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.oneof(fc.constantFrom(0xe8, 0xe9, 0, 0xff), fc.nat(255)), { minLength: 1, maxLength: 400 }),
				fc.constantFrom("--check=crc32", "--check=crc64", "--check=sha256", "--check=none"),
				async (code, check) => {
					const plain = Uint8Array.from(code);
					const file = execFileSync("xz", ["--format=xz", check, "--x86", "--lzma2=dict=1MiB", "-c"], { input: plain });
					expect(await decompressPayload(withSize(file, plain.length))).toEqual(plain);
				},
			),
			{ numRuns: 40, seed: 4 },
		);
	});

	it.skipIf(!has("xz"))("reads several blocks of the xz command [needs xz]", async () => {
		const plain = branchyBytes(100_000);
		const file = execFileSync("xz", ["--block-size=30000", "--x86", "--lzma2", "-c"], { input: plain });
		expect(await decompressPayload(withSize(file, plain.length))).toEqual(plain);
	});

	it.skipIf(!has("zstd"))("reads what kernel builds ask of the zstd command [needs zstd]", async () => {
		const plain = branchyBytes(300_000);
		const file = execFileSync("zstd", ["-22", "--ultra", "-c"], { input: plain, maxBuffer: 2 ** 24 });
		expect(await decompressPayload(withSize(file, plain.length))).toEqual(plain);
	});

	it.skipIf(!has("lz4"))("reads what kernel builds ask of the lz4 command [needs lz4]", async () => {
		const plain = branchyBytes(9_000_000);
		const file = execFileSync("lz4", ["-l", "-9", "-c"], {
			input: plain,
			maxBuffer: 2 ** 25,
			stdio: ["pipe", "pipe", "ignore"],
		});
		expect(Buffer.compare(await decompressPayload(withSize(file, plain.length)), plain)).toBe(0);
	});
});
