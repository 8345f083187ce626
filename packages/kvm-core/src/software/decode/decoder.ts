import * as L from "../cpu/layout.ts";
import type { RmKind, Size, StackKind } from "../emit/emitter.ts";
import {
	type HandlerPlan,
	INVALID,
	NO_FPU,
	NO_MMX,
	NO_SSE,
	nearSlotOf,
	type Row,
	slotOf,
	TOO_LONG,
} from "../emit/plan.ts";
import type { OperandForm } from "../insn/operands.ts";
import { MODE_FLAT, MODE_FS_FULL, MODE_GS_FULL, MODE_NO_FPU, MODE_NO_SSE, MODE_SIZE, MODE_STACK_32 } from "./mode.ts";
import { buildOpcodeMaps, type Candidate, type OpcodeMaps } from "./opcodes.ts";

/** Longest legal instruction. */
const MAX_LENGTH = 15;

/** Base and index offsets of the eight 16-bit addressing forms. */
const BASE_16: readonly number[] = [L.RBX, L.RBX, L.RBP, L.RBP, L.RSI, L.RDI, L.RBP, L.RBX];
const INDEX_16: readonly number[] = [L.RSI, L.RDI, L.RSI, L.RDI, -1, -1, -1, -1];

/** What `decode` found. */
export type DecodeResult =
	| "ok"
	/** The bytes end before the instruction does. */
	| "short"
	/** No such instruction: the micro-op raises #UD. */
	| "invalid"
	/** Over 15 bytes: #GP(0). */
	| "long";

/** Turns instruction bytes into micro-ops. Its fields hold the last instruction decoded. */
export class Decoder {
	/** Bytes the instruction has. */
	length = 0;
	handler = 0;
	/** The near form of a branch, or 0. */
	nearHandler = 0;
	displacement = 0;
	immediate = 0;
	base = 0;
	index = 0;
	flags = 0;
	reg = 0;
	/** No micro-op follows in straight line. */
	ends = false;
	/** Row of the table, for the disassembler and fusion. */
	row: Row | undefined;
	operandSize: Size = 4;
	/** For the disassembler: the encoding of the last instruction. Prefixes lie before `opcodeAt`; -1 = there is none. */
	readonly encoding = { opcodeAt: 0, rex: 0, modrm: -1, sib: -1, addressBits: 64 as 16 | 32 | 64, mandatory: -1 };
	readonly plan: HandlerPlan;
	private readonly maps: OpcodeMaps;

	constructor(plan: HandlerPlan) {
		this.plan = plan;
		this.maps = buildOpcodeMaps(plan.rows);
	}

	/**
	 * Decodes one instruction.
	 *
	 * @param code - bytes, valid from `at` to `end`
	 * @param mode - bits of mode.ts
	 */
	decode(code: Uint8Array, at: number, end: number, mode: number): DecodeResult {
		const size = mode & MODE_SIZE;
		const long = size === 2;
		const limit = Math.min(end, at + MAX_LENGTH);
		const short: DecodeResult = limit === end && end - at < MAX_LENGTH ? "short" : "long";
		let p = at;
		let rex = 0;
		let operandPrefix = false;
		let addressPrefix = false;
		let lock = false;
		let repeat: 0 | 0xf2 | 0xf3 = 0;
		let segment = -1;
		let byte: number;
		for (;;) {
			if (p >= limit) return this.fail(short);
			byte = code[p++]!;
			if (byte === 0x66) operandPrefix = true;
			else if (byte === 0x67) addressPrefix = true;
			else if (byte === 0xf0) lock = true;
			else if (byte === 0xf2 || byte === 0xf3) repeat = byte;
			else if (byte === 0x2e || byte === 0x36 || byte === 0x3e || byte === 0x26) {
				// In 64-bit code only FS and GS override anything.
				if (!long) segment = (byte >> 3) & 3;
			} else if (byte === 0x64) segment = L.FS;
			else if (byte === 0x65) segment = L.GS;
			else if (long && byte >= 0x40 && byte <= 0x4f) {
				rex = byte;
				continue;
			} else break;
			// REX counts only right before the opcode.
			rex = 0;
		}
		const { encoding } = this;
		encoding.opcodeAt = p - 1;
		encoding.rex = rex;
		encoding.modrm = -1;
		encoding.sib = -1;
		let map = 0;
		if (byte === 0x0f) {
			if (p >= limit) return this.fail(short);
			map = 1;
			byte = code[p++]!;
			if (byte === 0x38 || byte === 0x3a) {
				if (p >= limit) return this.fail(short);
				map = byte === 0x38 ? 2 : 3;
				byte = code[p++]!;
			}
		}
		const candidates = this.maps[map]![byte]!;
		if (candidates.length === 0) return this.fail("invalid");
		let modrm = -1;
		if (candidates[0]!.hasModrm) {
			if (p >= limit) return this.fail(short);
			modrm = code[p++]!;
			// MOV to and from control and debug registers takes any mod for 3.
			if (map === 1 && byte >= 0x20 && byte <= 0x23) modrm |= 0xc0;
		}
		const candidate = pick(candidates, modrm, operandPrefix, repeat, long, (rex & 1) !== 0);
		if (candidate === undefined) return this.fail("invalid");
		const { row } = candidate;
		const { insn } = row;
		encoding.modrm = modrm;
		encoding.mandatory = candidate.prefix;

		let operandSize: Size;
		if (long) {
			if (row.force64) operandSize = 8;
			else if ((rex & 8) !== 0) operandSize = 8;
			else if (operandPrefix) operandSize = 2;
			else operandSize = row.default64 ? 8 : 4;
		} else operandSize = (size === 1) !== operandPrefix ? 4 : 2;
		const addressBits = long ? (addressPrefix ? 32 : 64) : (size === 1) !== addressPrefix ? 32 : 16;
		encoding.addressBits = addressBits;
		const addressCode = addressBits === 64 ? 2 : addressBits === 32 ? 1 : 0;

		this.displacement = 0;
		this.immediate = 0;
		this.base = L.ZERO;
		this.index = L.ZERO;
		this.reg = 0;
		let scale = 0;
		let memory = false;
		let ripRelative = false;
		let defaultSegment: number = L.DS;
		let rmNumber = 0;
		if (modrm >= 0) {
			const mod = modrm >> 6;
			rmNumber = modrm & 7;
			this.reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
			if (mod === 3) rmNumber |= (rex & 1) << 3;
			else if (addressBits === 16) {
				memory = true;
				if (mod === 0 && rmNumber === 6) {
					if (p + 2 > limit) return this.fail(short);
					this.displacement = code[p]! | (code[p + 1]! << 8);
					p += 2;
				} else {
					this.base = BASE_16[rmNumber]! * 8;
					if (INDEX_16[rmNumber]! >= 0) this.index = INDEX_16[rmNumber]! * 8;
					if (BASE_16[rmNumber] === L.RBP) defaultSegment = L.SS;
				}
			} else {
				memory = true;
				let base = rmNumber;
				if (rmNumber === 4) {
					if (p >= limit) return this.fail(short);
					const sib = code[p++]!;
					encoding.sib = sib;
					const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
					if (index !== 4) {
						this.index = index * 8;
						scale = sib >> 6;
					}
					base = sib & 7;
				}
				if (mod === 0 && base === 5) {
					if (p + 4 > limit) return this.fail(short);
					this.displacement = read32(code, p);
					p += 4;
					ripRelative = long && rmNumber !== 4;
					// Absolute when encoded with a SIB byte.
				} else {
					const register = base | ((rex & 1) << 3);
					this.base = register * 8;
					if (register === L.RSP || register === L.RBP) defaultSegment = L.SS;
				}
			}
			if (mod === 1) {
				if (p >= limit) return this.fail(short);
				this.displacement = (code[p]! << 24) >> 24;
				p += 1;
			} else if (mod === 2) {
				const bytes = addressBits === 16 ? 2 : 4;
				if (p + bytes > limit) return this.fail(short);
				this.displacement = bytes === 2 ? ((code[p]! | (code[p + 1]! << 8)) << 16) >> 16 : read32(code, p);
				p += bytes;
			}
		}

		let far = false;
		let wideOffset = false;
		if (row.inOpcode) this.reg = (byte & 7) | ((rex & 1) << 3);
		for (const operand of row.encoded) {
			const bytes = encodedBytes(operand, operandSize, addressBits);
			if (p + bytes > limit) return this.fail(short);
			switch (operand.encoding) {
				case "ib":
				case "jb":
					this.immediate = (code[p]! << 24) >> 24;
					break;
				case "iw":
					this.immediate = code[p]! | (code[p + 1]! << 8);
					break;
				case "offset":
					memory = true;
					this.displacement = bytes === 2 ? code[p]! | (code[p + 1]! << 8) : read32(code, p);
					if (bytes === 8) {
						const high = read32(code, p + 4);
						if (high !== this.displacement >> 31) {
							wideOffset = true;
							this.immediate = high;
						}
					}
					break;
				case "far":
					this.immediate = bytes === 4 ? code[p]! | (code[p + 1]! << 8) : read32(code, p);
					this.displacement = code[p + bytes - 2]! | (code[p + bytes - 1]! << 8);
					far = true;
					break;
				case "enter":
					this.immediate = code[p]! | (code[p + 1]! << 8);
					this.displacement = code[p + 2]!;
					break;
				default:
					if (bytes === 2) this.immediate = ((code[p]! | (code[p + 1]! << 8)) << 16) >> 16;
					else this.immediate = read32(code, p);
					if (bytes === 8) this.displacement = read32(code, p + 4);
			}
			p += bytes;
		}
		this.length = p - at;
		// The whole instruction is fetched before its LOCK can be wrong.
		if (lock && !(row.lockable && memory)) return this.fail("invalid");
		if (far && long) return this.fail("invalid");

		// The fields name registers by their place in the state.
		this.reg = fieldOf(this.reg, row.regFile, row.regByte, rex);
		if (!memory) this.base = fieldOf(rmNumber, row.rmFile, row.rmByte, rex);

		const string = row.string;
		const stack: StackKind = long
			? "flat64"
			: (mode & (MODE_FLAT | MODE_STACK_32)) === (MODE_FLAT | MODE_STACK_32)
				? "flat32"
				: "segmented";
		// ES:rDI takes no override.
		const overridden = segment >= 0 && (!row.string || row.readsSource);
		const used = overridden ? segment : defaultSegment;
		let rm: RmKind = "register";
		if (memory || string) {
			const flat = long || (mode & MODE_FLAT) !== 0;
			rm = "segmented";
			if (string) {
				if (addressBits !== 16 && flat && used !== L.CS && used < L.FS) rm = addressBits === 64 ? "flat64" : "flat32";
			} else if (row.address) rm = addressBits === 64 ? "flat64" : "segmented";
			else if (row.isSystem) rm = "segmented";
			else if (wideOffset) rm = "segmented";
			else if (used >= L.FS) {
				const reaches = long ? addressBits === 64 : (mode & (used === L.FS ? MODE_FS_FULL : MODE_GS_FULL)) !== 0;
				const systemForm = row.stack && stack === "segmented";
				if (reaches && addressBits !== 16 && this.index === L.ZERO && !systemForm) {
					this.index = L.SEG_BASE + used * 8;
					rm = addressBits === 64 ? "flat64" : "flat32";
				}
			} else if (flat && addressBits !== 16 && (long || used !== L.CS)) rm = addressBits === 64 ? "flat64" : "flat32";
			else if (addressBits === 32 && used === L.CS && flat && (mode & MODE_SIZE) === 1) rm = "segmented";
		}
		this.flags = scale | (used << 2) | (addressCode << 5);
		if (ripRelative) this.relateToRip(at);

		const slotSize: Size = row.perSize ? operandSize : 8;
		const repeats = row.repeats ? repeat : 0;
		this.operandSize = operandSize;
		this.row = row;
		this.ends = row.ends;
		this.handler = this.plan.handlers[slotOf(row.number, slotSize, rm, row.stack ? stack : "flat64", repeats)]!;
		this.nearHandler = 0;
		// A 16-bit branch in 32-bit code goes to the first 64 KiB, wherever it stands.
		const wraps = operandSize === 2 && size !== 0;
		if (insn.near !== undefined && !wraps && (stack !== "segmented" || !row.stack)) {
			this.nearHandler = this.plan.handlers[nearSlotOf(row.number, slotSize, row.stack ? stack : "flat64")]!;
		}
		if (this.handler === 0) return this.fail("invalid");
		if (row.sse && (mode & MODE_NO_SSE) !== 0) this.handler = NO_SSE;
		else if ((mode & MODE_NO_FPU) !== 0) {
			if (row.x87) this.handler = NO_FPU;
			else if (row.mmx) this.handler = NO_MMX;
		}
		return "ok";
	}

	/** RIP-relative: the base is the page's RIP, so the displacement takes in the place in the page and the length. */
	private relateToRip(at: number): void {
		this.base = L.RIP_BASE;
		const displacement = this.displacement + (at & 0xfff) + this.length;
		if (displacement === (displacement | 0)) this.displacement = displacement;
		else {
			this.displacement = displacement - 0x8000_0000;
			this.index = L.TWO_GIB;
		}
	}

	private fail(result: DecodeResult): DecodeResult {
		this.handler = result === "long" ? TOO_LONG : INVALID;
		this.nearHandler = 0;
		this.length = 1;
		this.ends = true;
		this.row = undefined;
		this.displacement = 0;
		this.immediate = 0;
		this.base = L.ZERO;
		this.index = L.ZERO;
		this.flags = 0;
		this.reg = 0;
		return result;
	}
}

function pick(
	candidates: readonly Candidate[],
	modrm: number,
	operandPrefix: boolean,
	repeat: number,
	long: boolean,
	rexB: boolean,
): Candidate | undefined {
	for (const candidate of candidates) {
		if (long ? !candidate.in64 : !candidate.outside64) continue;
		const { prefix } = candidate;
		if (prefix === 0) {
			if (repeat !== 0 || operandPrefix) continue;
		} else if (prefix === 0x66) {
			if (!operandPrefix || repeat !== 0) continue;
		} else if (prefix > 0 && repeat !== prefix) continue;
		if (modrm >= 0) {
			if (candidate.reg >= 0 && candidate.reg !== ((modrm >> 3) & 7)) continue;
			if (candidate.rm >= 0 && candidate.rm !== (modrm & 7)) continue;
			if (candidate.mod === "register" && modrm < 0xc0) continue;
			if (candidate.mod === "memory" && modrm >= 0xc0) continue;
		} else if (rexB && (candidate.row.insn.name === "nop" || candidate.row.insn.name === "pause")) continue;
		return candidate;
	}
	return undefined;
}

function encodedBytes(operand: OperandForm, operandSize: Size, addressBits: number): number {
	switch (operand.encoding) {
		case "ib":
		case "jb":
			return 1;
		case "iw":
			return 2;
		case "enter":
			return 3;
		case "iz":
		case "jz":
			return operandSize === 2 ? 2 : 4;
		case "iv":
			return operandSize;
		case "offset":
			return addressBits / 8;
		default:
			return operandSize === 2 ? 4 : 6;
	}
}

function read32(code: Uint8Array, at: number): number {
	return code[at]! | (code[at + 1]! << 8) | (code[at + 2]! << 16) | (code[at + 3]! << 24);
}

function fieldOf(number: number, file: OperandForm["file"], byte: boolean, rex: number): number {
	switch (file) {
		case "general":
			return byte && rex === 0 && number >= 4 && number < 8 ? (number - 4) * 8 + 1 : number * 8;
		case "xmm":
			return number * 16;
		case "mmx":
		case "x87":
			return (number & 7) * 16;
		case "segment":
			// REX.R does not count.
			return number & 7;
		default:
			return number;
	}
}
