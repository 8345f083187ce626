import { type Cpu, SEG_UNUSABLE } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";

/** Linear address of an offset in a segment. */
export function linearAddress(cpu: Cpu, segment: number, offset: bigint): bigint {
	if (cpu.code64) return segment >= L.FS ? BigInt.asUintN(64, cpu.segmentBase(segment) + offset) : offset;
	if ((cpu.segmentAttributes(segment) & SEG_UNUSABLE) !== 0) cpu.raise(13, 0);
	return BigInt.asUintN(32, cpu.segmentBase(segment) + offset);
}
