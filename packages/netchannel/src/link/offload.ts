import type { Offload } from "./link.ts";

/** One's complement sum of 16-bit words (RFC 1071), not yet folded. An odd last byte counts as the high one. */
export function sumWords(bytes: Uint8Array, start: number, end: number, initial = 0): number {
	let sum = initial;
	let at = start;
	for (; at + 1 < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
	if (at < end) sum += bytes[at]! << 8;
	return sum;
}

/** Folds a sum to 16 bits; the checksum is its complement. */
export function foldSum(sum: number): number {
	let folded = sum;
	while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
	return folded;
}

/**
 * A copy of `frame` with the checksum that `offload` left open filled in (VIRTIO 1.2, 5.1.6.2: the field holds the
 * pseudo-header's sum). An offset outside the frame leaves it as it is.
 */
export function finishChecksum(frame: Uint8Array, offload: Offload): Uint8Array {
	const copy = frame.slice();
	const at = offload.csumStart + offload.csumOffset;
	if (offload.csumStart < 0 || at < 0 || at + 2 > copy.length || offload.csumStart >= copy.length) return copy;
	const sum = ~foldSum(sumWords(copy, offload.csumStart, copy.length)) & 0xffff;
	// RFC 768: a computed zero is sent as all ones; for TCP both mean the same.
	const value = sum === 0 ? 0xffff : sum;
	copy[at] = value >> 8;
	copy[at + 1] = value & 0xff;
	return copy;
}
