/** IN, OUT, INS or OUTS as it stands in memory. */
export interface PortInstruction {
	/** Bytes it has. */
	length: number;
	direction: "in" | "out";
	size: 1 | 2 | 4;
	string: boolean;
	rep: boolean;
	/** Bytes of the addresses that a string instruction uses. */
	addressSize: 2 | 4 | 8;
	/** Where a string comes from; INS always writes to ES. */
	segment: "cs" | "ds" | "es" | "fs" | "gs" | "ss";
	/** Of the forms with an immediate; the others take DX. */
	port?: number;
}

const SEGMENTS: Readonly<Record<number, PortInstruction["segment"]>> = {
	38: "es",
	46: "cs",
	54: "ss",
	62: "ds",
	100: "fs",
	101: "gs",
};

/** Decodes the instruction at the start of `bytes`; undefined for anything else than port I/O. SDM volume 2. */
export function decodePortInstruction(bytes: Uint8Array, bits: 16 | 32 | 64): PortInstruction | undefined {
	let at = 0;
	let wide = bits !== 16;
	let addressSize: PortInstruction["addressSize"] = bits === 64 ? 8 : bits === 32 ? 4 : 2;
	let rep = false;
	let segment: PortInstruction["segment"] = "ds";
	for (; at < bytes.length; at++) {
		const byte = bytes[at]!;
		if (byte === 0x66) wide = bits === 16;
		else if (byte === 0x67) addressSize = bits === 32 ? 2 : 4;
		else if (byte === 0xf2 || byte === 0xf3) rep = true;
		else if (SEGMENTS[byte] !== undefined) segment = SEGMENTS[byte];
		else if (!(bits === 64 && (byte & 0xf0) === 0x40)) break;
	}
	const opcode = bytes[at];
	if (opcode === undefined) return undefined;
	const immediate = (opcode & 0xfc) === 0xe4;
	const string = (opcode & 0xfc) === 0x6c;
	if (!immediate && !string && (opcode & 0xfc) !== 0xec) return undefined;
	const port = immediate ? bytes[at + 1] : undefined;
	if (immediate && port === undefined) return undefined;
	return {
		length: at + (immediate ? 2 : 1),
		direction: (opcode & 2) === 0 ? "in" : "out",
		size: (opcode & 1) === 0 ? 1 : wide ? 4 : 2,
		string,
		rep: string && rep,
		addressSize,
		segment: string && (opcode & 2) === 0 ? "es" : segment,
		...(port === undefined ? {} : { port }),
	};
}
