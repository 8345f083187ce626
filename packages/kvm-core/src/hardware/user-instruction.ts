/**
 * Whether an instruction computes on registers and memory and nothing else: those the software engine may execute on
 * the hardware's behalf without touching what is in the kernel (interrupt controllers, clocks, MSRs).
 */
export function isUserInstruction(bytes: Uint8Array, is64: boolean): boolean {
	let at = 0;
	while (at < bytes.length && PREFIXES.has(bytes[at]!)) at++;
	if (is64 && (bytes[at]! & 0xf0) === 0x40) at++;
	const opcode = bytes[at];
	if (opcode === undefined) return false;
	if (opcode === 0x0f) return isUserTwoByte(bytes[at + 1], bytes[at + 2]);
	// VEX and EVEX; in 32-bit code LES, LDS and BOUND may stand there.
	if (opcode === 0xc4 || opcode === 0xc5 || opcode === 0x62) return is64;
	if (opcode < 0x40) return (opcode & 7) < 6;
	return ONE_BYTE[opcode >> 3]! >> (opcode & 7) === 1 || ((ONE_BYTE[opcode >> 3]! >> (opcode & 7)) & 1) === 1;
}

const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);

/** A bit per opcode from 40h on, eight to an element: no segment loads, port I/O, interrupts, far branches, flags. */
const ONE_BYTE: readonly number[] = [
	...[0, 0, 0, 0, 0, 0, 0, 0],
	...[0xff, 0xff, 0xff, 0xff], // 40-5F: INC, DEC (REX), PUSH, POP
	0x08, // 60-67: MOVSXD
	0x0f, // 68-6F: PUSH and IMUL with immediates
	...[0xff, 0xff], // 70-7F: Jcc
	0xff, // 80-87
	0x2f, // 88-8F: MOV, LEA
	...[0xff, 0x0b], // 90-9F: XCHG, CBW, CWD, WAIT
	...[0xff, 0xff], // A0-AF: moves and strings
	...[0xff, 0xff], // B0-BF
	0xcf, // C0-C7: shifts, RET, MOV
	0x02, // C8-CF: LEAVE
	0x8f, // D0-D7: shifts, XLAT
	0xff, // D8-DF: x87
	0x0f, // E0-E7: LOOP
	0x0b, // E8-EF: CALL, JMP
	0xc0, // F0-F7: NOT, NEG, MUL, DIV
	0xc0, // F8-FF: INC, DEC, near indirect branches
];

function isUserTwoByte(opcode: number | undefined, modrm: number | undefined): boolean {
	if (opcode === undefined) return false;
	// SSE, CMOV, MMX; Jcc, SETcc, bit operations; three-byte opcodes; the vector instructions of the last rows.
	if ((opcode >= 0x10 && opcode <= 0x1f) || (opcode >= 0x28 && opcode <= 0x2f)) return true;
	if (opcode === 0x38 || opcode === 0x3a || (opcode >= 0x40 && opcode <= 0x9f)) return true;
	if ([0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xaf].includes(opcode)) return true;
	// FXSAVE to CLFLUSH.
	if (opcode === 0xae) return modrm !== undefined;
	return (opcode >= 0xb0 && opcode <= 0xcf && ![0xb2, 0xb4, 0xb5, 0xb9].includes(opcode)) || opcode >= 0xd0;
}
