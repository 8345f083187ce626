import type { CpuidEntry } from "../kvm/types.ts";

/**
 * The leaves a vCPU gets: what the engine supports, with the vCPU's own APIC id and the number of processors filled in as
 * KVM leaves it to its user to do. Each processor is a core of one package.
 */
export function cpuidFor(supported: readonly CpuidEntry[], id: number, cpus: number): CpuidEntry[] {
	const shift = Math.ceil(Math.log2(Math.max(1, cpus)));
	const entries = supported.map((entry) => ({ ...entry }));
	for (const entry of entries) {
		switch (entry.function) {
			case 1:
				entry.ebx = ((entry.ebx & 0xff00) | ((cpus & 0xff) << 16) | (id << 24)) >>> 0;
				// HTT says that the processor count beside it is valid.
				entry.edx = (cpus > 1 ? entry.edx | (1 << 28) : entry.edx & ~(1 << 28)) >>> 0;
				break;
			case 4:
				entry.eax = ((entry.eax & 0x3ff_ffff & ~0x3fc000) | (Math.min(63, cpus - 1) << 26)) >>> 0;
				break;
			case 0x0b:
			case 0x1f:
				topology(entry, id, cpus, shift);
				break;
			default:
		}
	}
	return entries;
}

function topology(entry: CpuidEntry, id: number, cpus: number, shift: number): void {
	entry.edx = id;
	entry.eax = entry.index === 1 ? shift : 0;
	entry.ebx = entry.index === 0 ? 1 : entry.index === 1 ? cpus : 0;
	entry.ecx = (entry.index & 0xff) | (entry.index < 2 ? (entry.index + 1) << 8 : 0);
}
