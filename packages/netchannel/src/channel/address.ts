import { ChannelError } from "./errors.ts";

/** An address as words in network order: one for IPv4, four for IPv6. */
export interface ParsedAddress {
	readonly family: 4 | 6;
	readonly words: readonly number[];
}

const bad = (text: string, expected: string): ChannelError =>
	new ChannelError("EINVAL", `${JSON.stringify(text)} is no address: expected ${expected}`);

function parseIPv4(text: string): number | undefined {
	const parts = text.split(".");
	if (parts.length !== 4) return undefined;
	let word = 0;
	for (const part of parts) {
		if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
		word = (word << 8) | Number(part);
	}
	return word;
}

function parseIPv6(text: string): number[] | undefined {
	let body = text;
	const tail: number[] = [];
	const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
	if (dotted !== null) {
		const word = parseIPv4(dotted[2]!);
		if (word === undefined) return undefined;
		tail.push(word >>> 16, word & 0xffff);
		body = dotted[1]!.endsWith("::") ? dotted[1]! : dotted[1]!.slice(0, -1);
	}
	const halves = body.split("::");
	if (halves.length > 2) return undefined;
	const groups = (part: string): number[] | undefined => {
		if (part === "") return [];
		const list = part.split(":");
		return list.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))
			? list.map((group) => Number.parseInt(group, 16))
			: undefined;
	};
	const head = groups(halves[0]!);
	const rest = halves.length === 2 ? groups(halves[1]!) : [];
	if (head === undefined || rest === undefined) return undefined;
	const given = head.length + rest.length + tail.length;
	if (halves.length === 2 ? given > 7 : given !== 8) return undefined;
	const all = [...head, ...new Array<number>(8 - given).fill(0), ...rest, ...tail];
	return [0, 2, 4, 6].map((at) => (all[at]! << 16) | all[at + 1]!);
}

/**
 * Reads an IPv4 or IPv6 address (RFC 4291, 2.2; no zone).
 *
 * @throws ChannelError `EINVAL`
 */
export function parseAddress(text: string): ParsedAddress {
	const four = parseIPv4(text);
	if (four !== undefined) return { family: 4, words: [four | 0] };
	const six = text.includes(":") ? parseIPv6(text) : undefined;
	if (six !== undefined) return { family: 6, words: six.map((word) => word | 0) };
	throw bad(text, "an IPv4 or IPv6 address");
}

/** An address with the bits of it that must match. */
export interface ParsedPrefix extends ParsedAddress {
	readonly mask: readonly number[];
}

/** A mask of `length` leading ones over `count` words. */
export function prefixMask(length: number, count: number): number[] {
	return Array.from({ length: count }, (_, index) => {
		const bits = Math.min(32, Math.max(0, length - 32 * index));
		return bits === 0 ? 0 : (-1 << (32 - bits)) | 0;
	});
}

/**
 * Reads `ADDRESS` or `ADDRESS/LENGTH`.
 *
 * @throws ChannelError `EINVAL`
 */
export function parsePrefix(text: string): ParsedPrefix {
	const [address, length, ...more] = text.split("/");
	const parsed = parseAddress(address!);
	const widest = parsed.family === 4 ? 32 : 128;
	if (more.length > 0 || (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > widest))) {
		throw bad(text, `ADDRESS/LENGTH with a length from 0 to ${widest}`);
	}
	const mask = prefixMask(length === undefined ? widest : Number(length), parsed.words.length);
	return { family: parsed.family, words: parsed.words.map((word, index) => word & mask[index]!), mask };
}

/** An address's words as text: dotted decimal, or RFC 5952. */
export function formatAddress(words: ArrayLike<number>): string {
	if (words.length === 1) {
		const word = words[0]!;
		return [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255].join(".");
	}
	const groups = Array.from(words).flatMap((word) => [word >>> 16, word & 0xffff]);
	let best = { at: -1, length: 1 };
	for (let at = 0; at < 8; at++) {
		let length = 0;
		while (at + length < 8 && groups[at + length] === 0) length++;
		if (length > best.length) best = { at, length };
	}
	const text = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
	if (best.at < 0) return text(groups);
	return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`;
}
