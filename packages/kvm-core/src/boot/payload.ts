/// <reference path="./lz4js.d.ts" />
import { BootError } from "./errors.ts";
import { decompressXz } from "./xz.ts";

/** How a kernel's payload is compressed, by its first bytes. */
export type PayloadFormat = "gzip" | "xz" | "lz4" | "zstd" | "bzip2" | "lzma" | "lzo" | "none" | "unknown";

/** What this package decompresses itself; a kernel compressed otherwise is left to its own decompressor. */
export const HOST_DECOMPRESSED: ReadonlySet<PayloadFormat> = new Set(["gzip", "xz", "lz4", "zstd", "none"]);

/** Largest decompressed kernel accepted. */
export const MAX_KERNEL_SIZE: number = 512 * 2 ** 20;

/** What `zstd --ultra -22` uses, and with it every kernel build. */
const MAX_ZSTD_WINDOW = 2 ** 27;

const SIGNATURES: readonly (readonly [PayloadFormat, readonly number[]])[] = [
	["gzip", [0x1f, 0x8b]],
	["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
	["lz4", [0x02, 0x21, 0x4c, 0x18]],
	["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
	["bzip2", [0x42, 0x5a, 0x68]],
	["lzma", [0x5d, 0x00, 0x00]],
	["lzo", [0x89, 0x4c, 0x5a, 0x4f]],
	["none", [0x7f, 0x45, 0x4c, 0x46]],
];

export function payloadFormat(payload: Uint8Array): PayloadFormat {
	for (const [format, signature] of SIGNATURES) {
		if (signature.every((byte, i) => payload[i] === byte)) return format;
	}
	return "unknown";
}

/**
 * Decompresses a bzImage's payload. The kernel's build appends the size of what comes out as four bytes (with gzip they
 * are part of the format), so the result is checked against it.
 *
 * @throws BootError BAD_PAYLOAD, or UNSUPPORTED for a format outside {@link HOST_DECOMPRESSED}
 */
export async function decompressPayload(payload: Uint8Array): Promise<Uint8Array> {
	const format = payloadFormat(payload);
	if (format === "none") return payload;
	if (!HOST_DECOMPRESSED.has(format)) {
		throw new BootError("UNSUPPORTED", `a kernel compressed with ${format} is not decompressed on the host`, format);
	}
	if (payload.length < 16) throw bad(format, "is too short");
	const size = new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(payload.length - 4, true);
	if (size === 0 || size > MAX_KERNEL_SIZE) throw bad(format, `claims to hold ${size} bytes`);
	const body = payload.subarray(0, payload.length - 4);
	let out: Uint8Array;
	try {
		if (format === "gzip") out = await gunzip(payload, size);
		else if (format === "lz4") out = await lz4Legacy(body, size);
		else if (format === "zstd") out = await unzstd(body, size);
		else out = await unxz(body, size);
	} catch (cause) {
		if (cause instanceof BootError) throw cause;
		throw bad(format, `does not decompress: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
	}
	if (out.length !== size) throw bad(format, `holds ${out.length} bytes where its trailer says ${size}`);
	return out;
}

function bad(format: PayloadFormat, what: string, cause?: unknown): BootError {
	return new BootError("BAD_PAYLOAD", `the kernel's ${format} payload ${what}`, format, { cause });
}

async function gunzip(payload: Uint8Array, size: number): Promise<Uint8Array> {
	const { Gunzip } = await import("fflate");
	return collect(size, (sink) => {
		const stream = new Gunzip(sink);
		for (const part of parts(payload))
			stream.push(part, part.byteOffset + part.length === payload.byteOffset + payload.length);
	});
}

async function unzstd(body: Uint8Array, size: number): Promise<Uint8Array> {
	if (zstdWindowSize(body) > MAX_ZSTD_WINDOW) throw new Error("its window is larger than 128 MiB");
	const { Decompress } = await import("fzstd");
	return collect(size, (sink) => {
		const stream = new Decompress(sink);
		for (const part of parts(body)) stream.push(part, part.byteOffset + part.length === body.byteOffset + body.length);
	});
}

/** Window_Descriptor of the first frame (RFC 8878, section 3.1.1.1.2); the decoder allocates that much at once. */
function zstdWindowSize(body: Uint8Array): number {
	const singleSegment = (body[4]! & 0x20) !== 0;
	if (singleSegment) return 0;
	const exponent = body[5]! >> 3;
	const mantissa = body[5]! & 7;
	return 2 ** (10 + exponent) * (1 + mantissa / 8);
}

/** Gathers a stream of chunks into one array, and stops a stream that brings more than was announced. */
function collect(size: number, feed: (sink: (chunk: Uint8Array) => void) => void): Uint8Array {
	const out = new Uint8Array(size);
	let at = 0;
	feed((chunk) => {
		if (at + chunk.length > size) throw new Error(`more than the ${size} bytes it announces come out`);
		out.set(chunk, at);
		at += chunk.length;
	});
	return out.subarray(0, at);
}

function* parts(bytes: Uint8Array): Generator<Uint8Array> {
	const partSize = 1 << 20;
	for (let at = 0; at < bytes.length; at += partSize) yield bytes.subarray(at, Math.min(bytes.length, at + partSize));
}

async function unxz(body: Uint8Array, size: number): Promise<Uint8Array> {
	const library = await import("xz-decompress");
	const { XzReadableStream } = library.default ?? library;
	return decompressXz(body, size, async (file, blockSize) => {
		const queue = parts(file);
		const source = new ReadableStream<Uint8Array>({
			pull(controller) {
				const { value, done } = queue.next();
				if (done) controller.close();
				else controller.enqueue(value);
			},
		});
		const out = new Uint8Array(blockSize);
		let at = 0;
		const reader = new XzReadableStream(source).getReader();
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return out.subarray(0, at);
			if (at + value.length > blockSize) {
				await reader.cancel();
				throw new Error("more comes out than the chunks announce");
			}
			out.set(value, at);
			at += value.length;
		}
	});
}

/** LZ4's legacy frame (`lz4 -l`): a magic number, then blocks of at most 8 MiB, each behind its compressed length. */
async function lz4Legacy(body: Uint8Array, size: number): Promise<Uint8Array> {
	const library = await import("lz4js");
	const { decompressBlock } = library.default ?? library;
	const out = new Uint8Array(size);
	const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	let from = 4;
	let to = 0;
	while (from + 4 <= body.length) {
		const length = view.getUint32(from, true);
		from += 4;
		if (length > body.length - from) throw new Error(`a block of ${length} bytes runs past the end`);
		to = decompressBlock(body, out, from, length, to);
		if (to > size) throw new Error(`more than the ${size} bytes it announces come out`);
		from += length;
	}
	return out.subarray(0, to);
}
