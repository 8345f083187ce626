/** One instruction of the classic Berkeley packet filter (the kernel's `struct sock_filter`). */
export interface FilterInstruction {
	readonly code: number;
	readonly jt: number;
	readonly jf: number;
	readonly k: number;
}

/** Instruction codes used here (the kernel's Documentation/networking/filter.rst). */
export const BPF = {
	loadWord: 0x20,
	loadHalf: 0x28,
	loadByte: 0x30,
	loadHalfIndexed: 0x48,
	loadLength: 0x80,
	loadHeaderLength: 0xb1,
	and: 0x54,
	jump: 0x05,
	equal: 0x15,
	greater: 0x25,
	greaterOrEqual: 0x35,
	anyBit: 0x45,
	return: 0x06,
} as const;

/** A compiled filter: runs here, or in the kernel through SO_ATTACH_FILTER. */
export interface FilterProgram {
	/** The expression it was compiled from. */
	readonly expression: string;
	readonly instructions: readonly FilterInstruction[];
	/** Whether it looks at VLAN tags, which the kernel takes off before a socket's filter runs. */
	readonly testsVlan: boolean;
	/** Whether it accepts a frame. */
	matches(frame: Uint8Array): boolean;
}

/**
 * Runs a filter as the kernel does: a load outside the frame ends it with 0.
 *
 * @returns bytes to keep, 0 to drop
 */
export function runFilter(instructions: readonly FilterInstruction[], frame: Uint8Array): number {
	let a = 0;
	let x = 0;
	for (let pc = 0; pc < instructions.length; pc++) {
		const { code, jt, jf, k } = instructions[pc]!;
		switch (code) {
			case BPF.loadWord:
				if (k + 4 > frame.length) return 0;
				a = ((frame[k]! << 24) | (frame[k + 1]! << 16) | (frame[k + 2]! << 8) | frame[k + 3]!) >>> 0;
				break;
			case BPF.loadHalf:
				if (k + 2 > frame.length) return 0;
				a = (frame[k]! << 8) | frame[k + 1]!;
				break;
			case BPF.loadByte:
				if (k >= frame.length) return 0;
				a = frame[k]!;
				break;
			case BPF.loadHalfIndexed:
				if (x + k + 2 > frame.length) return 0;
				a = (frame[x + k]! << 8) | frame[x + k + 1]!;
				break;
			case BPF.loadLength:
				a = frame.length;
				break;
			case BPF.loadHeaderLength:
				if (k >= frame.length) return 0;
				x = (frame[k]! & 15) << 2;
				break;
			case BPF.and:
				a = (a & k) >>> 0;
				break;
			case BPF.jump:
				pc += k;
				break;
			case BPF.equal:
				pc += a === k ? jt : jf;
				break;
			case BPF.greater:
				pc += a > k ? jt : jf;
				break;
			case BPF.greaterOrEqual:
				pc += a >= k ? jt : jf;
				break;
			case BPF.anyBit:
				pc += (a & k) !== 0 ? jt : jf;
				break;
			case BPF.return:
				return k;
			default:
				return 0;
		}
	}
	return 0;
}
