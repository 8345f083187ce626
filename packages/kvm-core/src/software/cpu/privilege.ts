import { CR4_UMIP } from "./control-bits.ts";
import { type Cpu, GP, UD } from "./cpu.ts";
import { realAddressing } from "./segment-load.ts";

/** #GP(0) unless at CPL 0. */
export function requireSupervisor(cpu: Cpu): void {
	if (cpu.cpl !== 0) cpu.raise(GP, 0);
}

/** #UD in real and virtual-8086 mode. */
export function requireProtected(cpu: Cpu): void {
	if (realAddressing(cpu)) cpu.raise(UD);
}

/** CR4.UMIP keeps user programs from reading system registers: #GP(0). */
export function checkUmip(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_UMIP) !== 0 && cpu.cpl > 0) cpu.raise(GP, 0);
}
