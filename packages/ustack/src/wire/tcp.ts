import { get16, get32, put16, put32 } from "./bytes.ts";

export const TCP_HEADER = 20;
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

/** The options of one segment; reused, so a receiver parses without allocating. Absent numbers are -1. */
export class TcpOptions {
	mss = -1;
	wscale = -1;
	sackPermitted = false;
	hasTimestamp = false;
	tsVal = 0;
	tsEcr = 0;
	/** Number of SACK blocks in `sack`, left and right edges in turn. */
	sackCount = 0;
	readonly sack: Int32Array = new Int32Array(8);
	/** Offset and length of a Fast Open cookie in the segment; -1 when the option is absent, length 0 asks for one. */
	cookieAt = -1;
	cookieLength = -1;
	/** The cookie came in RFC 6994's experimental option. */
	cookieExperimental = false;

	clear(): void {
		this.mss = -1;
		this.wscale = -1;
		this.sackPermitted = false;
		this.hasTimestamp = false;
		this.sackCount = 0;
		this.cookieAt = -1;
		this.cookieLength = -1;
		this.cookieExperimental = false;
	}
}

const FAST_OPEN_MAGIC = 0xf989;

/**
 * Parses the option area into `into`. Malformed lengths end the parse: what was read before counts (RFC 9293 3.1 leaves
 * it open; so do Linux and BSD). The caller has checked that `end` is within the bytes.
 */
export function parseTcpOptions(bytes: Uint8Array, start: number, end: number, into: TcpOptions): void {
	into.clear();
	// The layout nearly every data segment has: NOP, NOP, timestamps.
	if (end - start === 12 && get32(bytes, start) === 0x0101080a) {
		into.hasTimestamp = true;
		into.tsVal = get32(bytes, start + 4);
		into.tsEcr = get32(bytes, start + 8);
		return;
	}
	let at = start;
	while (at < end) {
		const kind = bytes[at]!;
		if (kind === 0) return;
		if (kind === 1) {
			at++;
			continue;
		}
		if (at + 1 >= end) return;
		const length = bytes[at + 1]!;
		if (length < 2 || at + length > end) return;
		switch (kind) {
			case 2:
				if (length === 4) into.mss = get16(bytes, at + 2);
				break;
			case 3:
				if (length === 3) into.wscale = Math.min(bytes[at + 2]!, 14);
				break;
			case 4:
				if (length === 2) into.sackPermitted = true;
				break;
			case 5: {
				const count = Math.min((length - 2) >>> 3, 4);
				if ((length - 2) % 8 !== 0) break;
				for (let i = 0; i < count * 2; i++) into.sack[i] = get32(bytes, at + 2 + i * 4);
				into.sackCount = count;
				break;
			}
			case 8:
				if (length === 10) {
					into.hasTimestamp = true;
					into.tsVal = get32(bytes, at + 2);
					into.tsEcr = get32(bytes, at + 6);
				}
				break;
			case 34:
				into.cookieAt = at + 2;
				into.cookieLength = length - 2;
				into.cookieExperimental = false;
				break;
			case 254:
				if (length >= 4 && get16(bytes, at + 2) === FAST_OPEN_MAGIC) {
					into.cookieAt = at + 4;
					into.cookieLength = length - 4;
					into.cookieExperimental = true;
				}
				break;
			default:
				break;
		}
		at += length;
	}
}

/** Writes a Fast Open option, padded with NOPs to four bytes; returns the bytes written. */
export function putFastOpen(bytes: Uint8Array, at: number, cookie: Uint8Array, experimental: boolean): number {
	const head = experimental ? 4 : 2;
	const length = head + cookie.length;
	const padding = (4 - (length & 3)) & 3;
	const start = at;
	for (let i = 0; i < padding; i++) bytes[at + length + i] = 1;
	bytes[start] = experimental ? 254 : 34;
	bytes[start + 1] = length;
	if (experimental) put16(bytes, start + 2, FAST_OPEN_MAGIC);
	bytes.set(cookie, start + head);
	return padding + length;
}

/** Writes NOP NOP TS; 12 bytes. */
export function putTimestamp(bytes: Uint8Array, at: number, value: number, echo: number): void {
	put32(bytes, at, 0x0101080a);
	put32(bytes, at + 4, value);
	put32(bytes, at + 8, echo);
}
