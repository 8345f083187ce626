/** Tags of X.690 as far as certificates have them. */
const TAG = {
	boolean: 0x01,
	integer: 0x02,
	bitString: 0x03,
	octetString: 0x04,
	oid: 0x06,
	utf8: 0x0c,
	utcTime: 0x17,
	generalizedTime: 0x18,
	sequence: 0x30,
	set: 0x31,
} as const;

/** One element: tag, length in its shortest form, contents. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
	const length = parts.reduce((sum, part) => sum + part.length, 0);
	const head = [tag];
	if (length < 0x80) head.push(length);
	else {
		const bytes: number[] = [];
		for (let rest = length; rest > 0; rest >>>= 8) bytes.unshift(rest & 255);
		head.push(0x80 | bytes.length, ...bytes);
	}
	const all = new Uint8Array(head.length + length);
	all.set(head);
	let at = head.length;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

export function sequence(...parts: readonly Uint8Array[]): Uint8Array {
	return element(TAG.sequence, ...parts);
}

export function set(...parts: readonly Uint8Array[]): Uint8Array {
	return element(TAG.set, ...parts);
}

/** `[number]`, explicit or of a constructed type. */
export function context(number: number, ...parts: readonly Uint8Array[]): Uint8Array {
	return element(0xa0 | number, ...parts);
}

/** `[number]`, implicit, of a primitive type. */
export function contextPrimitive(number: number, bytes: Uint8Array): Uint8Array {
	return element(0x80 | number, bytes);
}

/** An unsigned integer, most significant byte first. */
export function unsigned(bytes: Uint8Array): Uint8Array {
	let from = 0;
	while (from < bytes.length - 1 && bytes[from] === 0) from++;
	const plain = bytes.subarray(from);
	return (plain[0] ?? 0x80) >= 0x80 ? element(TAG.integer, Uint8Array.of(0), plain) : element(TAG.integer, plain);
}

export function boolean(value: boolean): Uint8Array {
	return element(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
}

/** `1.2.840.10045.4.3.2` and the like. */
export function oid(text: string): Uint8Array {
	const [first, second, ...rest] = text.split(".").map(Number);
	const bytes: number[] = [];
	for (const arc of [first! * 40 + second!, ...rest]) {
		const digits = [arc & 0x7f];
		for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift(0x80 | (left & 0x7f));
		bytes.push(...digits);
	}
	return element(TAG.oid, Uint8Array.from(bytes));
}

export function utf8(text: string): Uint8Array {
	return element(TAG.utf8, new TextEncoder().encode(text));
}

export function octetString(bytes: Uint8Array): Uint8Array {
	return element(TAG.octetString, bytes);
}

/** @param unused - bits at the end that do not count */
export function bitString(bytes: Uint8Array, unused = 0): Uint8Array {
	return element(TAG.bitString, Uint8Array.of(unused), bytes);
}

/** A time to the second: UTCTime before 2050, GeneralizedTime from then on (RFC 5280 4.1.2.5). */
export function time(date: Date): Uint8Array {
	const text = `${date.toISOString().slice(0, 19).replace(/[-T:]/g, "")}Z`;
	const utc = date.getUTCFullYear() < 2050;
	return element(utc ? TAG.utcTime : TAG.generalizedTime, new TextEncoder().encode(utc ? text.slice(2) : text));
}
