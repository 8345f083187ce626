import { RegdomainError } from "../errors.ts";

/** One element of DER. */
export interface DerNode {
	/** Identifier octet. */
	tag: number;
	/** The whole element, identifier and length included. */
	bytes: Uint8Array;
	/** What is inside. */
	content: Uint8Array;
}

/** Identifier octets this package meets. */
export const DerTag = {
	INTEGER: 0x02,
	BIT_STRING: 0x03,
	OCTET_STRING: 0x04,
	NULL: 0x05,
	OID: 0x06,
	SEQUENCE: 0x30,
	SET: 0x31,
	CONTEXT_0: 0xa0,
} as const;

const fault = (message: string, offset: number): RegdomainError =>
	new RegdomainError("DER_SYNTAX", `${message} at byte ${offset} of the DER`, offset, { offset });

function readNode(bytes: Uint8Array, at: number): DerNode {
	const tag = bytes[at];
	const first = bytes[at + 1];
	if (tag === undefined || first === undefined) throw fault("element cut short", at);
	if ((tag & 0x1f) === 0x1f) throw fault("identifier longer than one byte", at);
	let length = first;
	let start = at + 2;
	if (first >= 0x80) {
		const count = first & 0x7f;
		if (count === 0 || count > 4) throw fault("length that DER does not allow", at);
		length = 0;
		for (let index = 0; index < count; index++) length = length * 256 + (bytes[start + index] ?? Number.NaN);
		start += count;
	}
	const end = start + length;
	if (!(end <= bytes.length)) throw fault("element longer than what holds it", at);
	return { tag, bytes: bytes.subarray(at, end), content: bytes.subarray(start, end) };
}

/** The elements of a run of bytes, one after another. */
export function derChildren(bytes: Uint8Array): DerNode[] {
	const nodes: DerNode[] = [];
	for (let at = 0; at < bytes.length; ) {
		const node = readNode(bytes, at);
		nodes.push(node);
		at += node.bytes.length;
	}
	return nodes;
}

/** The one element a run of bytes consists of; what follows it is not looked at. */
export function derRoot(bytes: Uint8Array): DerNode {
	return readNode(bytes, 0);
}

/** Checks an element's kind. */
export function derExpect(node: DerNode | undefined, tag: number, what: string): DerNode {
	if (node === undefined || node.tag !== tag) {
		const found = node === undefined ? "nothing" : `tag 0x${node.tag.toString(16)}`;
		throw new RegdomainError("DER_SYNTAX", `${what}: expected tag 0x${tag.toString(16)}, found ${found}`, node?.tag, {
			field: what,
		});
	}
	return node;
}

/** Dotted text of an object identifier. */
export function derOid(node: DerNode | undefined, what: string): string {
	const { content } = derExpect(node, DerTag.OID, what);
	const arcs: number[] = [];
	let value = 0;
	for (const byte of content) {
		value = value * 128 + (byte & 0x7f);
		if ((byte & 0x80) !== 0) continue;
		if (arcs.length === 0)
			arcs.push(Math.min(Math.floor(value / 40), 2), value - 40 * Math.min(Math.floor(value / 40), 2));
		else arcs.push(value);
		value = 0;
	}
	return arcs.join(".");
}

/** Writes one element. */
export function derWrite(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
	const length = parts.reduce((sum, part) => sum + part.length, 0);
	const digits: number[] = [];
	for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest & 0xff);
	const header = length < 0x80 ? [tag, length] : [tag, 0x80 | digits.length, ...digits];
	const out = new Uint8Array(header.length + length);
	out.set(header);
	let at = header.length;
	for (const part of parts) {
		out.set(part, at);
		at += part.length;
	}
	return out;
}

/** Writes an object identifier from its dotted text. */
export function derWriteOid(dotted: string): Uint8Array {
	const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
	const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
		const groups = [arc & 0x7f];
		for (let value = Math.floor(arc / 128); value > 0; value = Math.floor(value / 128))
			groups.unshift((value & 0x7f) | 0x80);
		return groups;
	});
	return derWrite(DerTag.OID, Uint8Array.from(bytes));
}

/** Whether two runs of bytes are equal. */
export function sameBytes(one: Uint8Array, two: Uint8Array): boolean {
	return one.length === two.length && one.every((byte, index) => byte === two[index]);
}
