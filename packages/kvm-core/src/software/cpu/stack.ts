import { type Cpu, SEG_DB, SEG_UNUSABLE, SS_VECTOR } from "./cpu.ts";
import { isCanonical } from "./descriptor.ts";
import * as L from "./layout.ts";
import { readSized, withinLimit, writeSized } from "./operand.ts";

/** A stack as a segment's hidden part describes it. */
export interface StackSegment {
	readonly base: bigint;
	readonly limit: number;
	readonly attributes: number;
	/** Pushes of a 64-bit code segment: no base, no limit. */
	readonly long: boolean;
	/** Error code of #SS. */
	readonly errorCode: number;
	/** Accesses are made at CPL 0 rather than at the current CPL. */
	readonly system: boolean;
}

/** The current SS, for an access at the current privilege. */
export function currentStack(cpu: Cpu, errorCode = 0): StackSegment {
	return {
		base: cpu.segmentBase(L.SS),
		limit: cpu.segmentLimit(L.SS),
		attributes: cpu.segmentAttributes(L.SS),
		long: cpu.code64,
		errorCode,
		system: false,
	};
}

/** Pushes and pops on some stack without touching RSP: `pointer` is stored when everything has worked. */
export class StackCursor {
	private readonly cpu: Cpu;
	private readonly segment: StackSegment;
	private readonly bits: 16 | 32 | 64;
	pointer: bigint;

	constructor(cpu: Cpu, segment: StackSegment, pointer: bigint) {
		this.cpu = cpu;
		this.segment = segment;
		this.bits = segment.long ? 64 : (segment.attributes & SEG_DB) !== 0 ? 32 : 16;
		this.pointer = pointer;
	}

	push(size: 2 | 4 | 8, value: bigint | number): void {
		const at = BigInt.asUintN(this.bits, this.pointer - BigInt(size));
		writeSized(this.cpu, this.linear(at, size), size, BigInt(value), this.segment.system);
		this.move(at);
	}

	/** Throws the fault that a push of `size` bytes would meet. */
	probe(size: 2 | 4 | 8): void {
		const at = BigInt.asUintN(this.bits, this.pointer - BigInt(size));
		const linear = this.linear(at, size);
		if (!this.segment.system) this.cpu.memory.checkAlignment(linear, size);
		this.cpu.memory.probe(linear, size, true, this.segment.system);
	}

	/** Moves down by `step` and writes `size` bytes there. */
	reserve(step: 2 | 4 | 8, size: 2 | 4, value: number): void {
		const at = BigInt.asUintN(this.bits, this.pointer - BigInt(step));
		writeSized(this.cpu, this.linear(at, size), size, BigInt(value), this.segment.system);
		this.move(at);
	}

	pop(size: 2 | 4 | 8): bigint {
		const at = BigInt.asUintN(this.bits, this.pointer);
		const value = readSized(this.cpu, this.linear(at, size), size, this.segment.system);
		this.move(BigInt.asUintN(this.bits, at + BigInt(size)));
		return value;
	}

	/** As `pop`, cut to a selector's 16 bits. */
	popSelector(size: 2 | 4 | 8): number {
		return Number(this.pop(size) & 0xffffn);
	}

	/** Moves the pointer upwards. */
	skip(bytes: number): void {
		this.move(BigInt.asUintN(this.bits, this.pointer + BigInt(bytes)));
	}

	/** Stores the pointer in RSP, ESP or SP. */
	commit(): void {
		this.cpu.set64(L.GPR + L.RSP * 8, this.pointer);
	}

	private move(low: bigint): void {
		// A 16-bit stack leaves the bits above alone; a 32-bit one clears them.
		this.pointer = this.bits === 16 ? (this.pointer & ~0xffffn) | low : low;
	}

	private linear(offset: bigint, size: number): bigint {
		const { segment, cpu } = this;
		if (segment.long) {
			if (!isCanonical(offset) || !isCanonical(BigInt.asUintN(64, offset + BigInt(size - 1)))) {
				cpu.raise(SS_VECTOR, segment.errorCode);
			}
			return offset;
		}
		if ((segment.attributes & SEG_UNUSABLE) !== 0 || !withinLimit(segment.attributes, segment.limit, offset, size)) {
			cpu.raise(SS_VECTOR, segment.errorCode);
		}
		return (segment.base + offset) & 0xffff_ffffn;
	}
}

/** A cursor on the current stack. */
export function stackCursor(cpu: Cpu, errorCode = 0): StackCursor {
	return new StackCursor(cpu, currentStack(cpu, errorCode), cpu.gpr(L.RSP));
}
