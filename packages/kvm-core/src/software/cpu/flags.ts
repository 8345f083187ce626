import type { Cpu } from "./cpu.ts";
import * as L from "./layout.ts";

/** Sets RFLAGS and tells the core what depends on it. */
export function setFlags(cpu: Cpu, value: number): void {
	const changed = cpu.systemFlags ^ value;
	cpu.flags = value;
	if ((changed & (L.AC | L.VM)) !== 0) cpu.core.modeChanged();
	cpu.core.interruptsChanged();
}

/** IOPL, 0 to 3. */
export function ioPrivilege(cpu: Cpu): number {
	return (cpu.systemFlags & L.IOPL) >> 12;
}

/**
 * RFLAGS after POPF or IRET of `size` bytes at the current privilege: what may be changed taken from `value`, the rest
 * as it is. VM stays; RF comes from `value` with `resume` (IRET), when there are breakpoints.
 */
export function poppedFlags(cpu: Cpu, value: number, size: number, resume: boolean): number {
	let mask = L.ARITHMETIC | L.TF | L.DF | L.NT | L.AC | L.ID;
	const cpl = cpu.protectedMode ? cpu.cpl : 0;
	if (cpl === 0) mask |= L.IOPL;
	if (cpl <= ioPrivilege(cpu)) mask |= L.IF;
	// RF only ever keeps an instruction breakpoint from matching again: without any it would just stay behind.
	if (resume && (cpu.get32(L.DR7) & 0xff) !== 0) mask |= L.RF;
	if (size === 2) mask &= 0xffff;
	let flags = (cpu.flags & ~mask) | (value & mask);
	if ((mask & L.RF) === 0) flags &= ~L.RF;
	return flags;
}
