/**
 * ACPI Machine Language, as far as a PC's description needs it: every function gives the bytes of one term.
 *
 * @see ACPI 6.5, chapter 20
 */

/** Bytes of a term. */
export type Aml = readonly number[];

/** A package length that counts itself, then the content. */
function withLength(content: Aml): Aml {
	const size = content.length;
	if (size + 1 < 0x40) return [size + 1, ...content];
	for (let extra = 1; extra <= 3; extra++) {
		const total = size + 1 + extra;
		if (total >= 2 ** (4 + 8 * extra)) continue;
		const lead = [(extra << 6) | (total & 0xf)];
		for (let i = 0; i < extra; i++) lead.push((total >> (4 + 8 * i)) & 0xff);
		return [...lead, ...content];
	}
	throw new RangeError(`AML package of ${size} bytes: at most 2^28`);
}

/** A name of up to four characters, relative to where it stands. */
function nameSegment(segment: string): Aml {
	return ascii(segment.padEnd(4, "_"));
}

function ascii(text: string): number[] {
	return Array.from(text, (character) => character.charCodeAt(0));
}

function little(value: number, size: number): number[] {
	return Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}

/** An integer in its shortest form. */
export function integer(value: number): Aml {
	if (value === 0) return [0x00];
	if (value === 1) return [0x01];
	if (value < 0x100) return [0x0a, value];
	if (value < 0x1_0000) return [0x0b, ...little(value, 2)];
	return [0x0c, ...little(value, 4)];
}

/** A string. */
export function string(text: string): Aml {
	return [0x0d, ...ascii(text), 0];
}

/** An EISA id such as PNP0A03, packed into an integer. */
export function eisaId(id: string): Aml {
	const letter = (i: number) => id.charCodeAt(i) - 0x40;
	const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
	const product = Number.parseInt(id.slice(3), 16);
	return [0x0c, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
}

/** Name (segment, object). */
export function name(segment: string, object: Aml): Aml {
	return [0x08, ...nameSegment(segment), ...object];
}

/** Package () { ... }. */
export function packageOf(...elements: Aml[]): Aml {
	return [0x12, ...withLength([elements.length, ...elements.flat()])];
}

/** Scope (segment) { ... }. */
export function scope(segment: string, ...terms: Aml[]): Aml {
	return [0x10, ...withLength([...nameSegment(segment), ...terms.flat()])];
}

/** Device (segment) { ... }. */
export function device(segment: string, ...terms: Aml[]): Aml {
	return [0x5b, 0x82, ...withLength([...nameSegment(segment), ...terms.flat()])];
}

/** ResourceTemplate () { ... }, end tag included. */
export function resourceTemplate(...descriptors: Aml[]): Aml {
	const bytes = [...descriptors.flat(), 0x79, 0x00];
	return [0x11, ...withLength([...integer(bytes.length), ...bytes])];
}

/** IO (Decode16, first, first, 1, length). */
export function ioPorts(first: number, length: number): Aml {
	return [0x47, 0x01, ...little(first, 2), ...little(first, 2), 0x01, length];
}

/** IRQNoFlags () { irq }. */
export function irq(line: number): Aml {
	return [0x22, ...little(1 << line, 2)];
}

/** WordBusNumber for buses first to last. */
export function busNumbers(first: number, last: number): Aml {
	return wordAddress(2, 0, first, last);
}

/** WordIO for ports first to last that a bridge hands on. */
export function ioWindow(first: number, last: number): Aml {
	return wordAddress(1, 3, first, last);
}

/** DWordMemory, not cacheable, for addresses first to last that a bridge hands on. */
export function memoryWindow(first: number, last: number): Aml {
	const fields = [0, first, last, 0, last - first + 1];
	return [0x87, 0x17, 0x00, 0, 0x0c, 0x01, ...fields.flatMap((value) => little(value, 4))];
}

function wordAddress(type: number, flags: number, first: number, last: number): Aml {
	const fields = [0, first, last, 0, last - first + 1];
	return [0x88, 0x0d, 0x00, type, 0x0c, flags, ...fields.flatMap((value) => little(value, 2))];
}
