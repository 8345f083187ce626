import type { CpuidAnswer } from "./cpuid.ts";

/** Leaf, register and bit of a CPUID feature flag (sub-leaf 0, but for `xsave*` and `xgetbv1`: leaf 0xd, sub-leaf 1). */
export type FeatureBit = readonly [leaf: number, register: keyof CpuidAnswer, bit: number];

/** The features the software engine knows to have or to hide. */
export type Feature =
	| "fpu"
	| "de"
	| "pse"
	| "tsc"
	| "msr"
	| "pae"
	| "mce"
	| "cx8"
	| "apic"
	| "sep"
	| "mtrr"
	| "pge"
	| "mca"
	| "cmov"
	| "pat"
	| "pse36"
	| "clfsh"
	| "mmx"
	| "fxsr"
	| "sse"
	| "sse2"
	| "htt"
	| "sse3"
	| "ssse3"
	| "cx16"
	| "pcid"
	| "sse4.1"
	| "sse4.2"
	| "x2apic"
	| "movbe"
	| "popcnt"
	| "tsc-deadline"
	| "xsave"
	| "osxsave"
	| "rdrand"
	| "hypervisor"
	| "fsgsbase"
	| "tsc-adjust"
	| "smep"
	| "erms"
	| "invpcid"
	| "fcs-fds-deprecated"
	| "rdseed"
	| "smap"
	| "pcommit"
	| "clflushopt"
	| "clwb"
	| "umip"
	| "pku"
	| "ospke"
	| "rdpid"
	| "fsrm"
	| "spec-ctrl"
	| "stibp"
	| "arch-capabilities"
	| "lahf-lm"
	| "syscall"
	| "nx"
	| "pages1g"
	| "rdtscp"
	| "lm"
	| "xsaveopt"
	| "xsavec"
	| "xgetbv1"
	| "kvm-nop-io-delay"
	| "kvm-clock"
	| "kvm-send-ipi"
	| "kvm-clock-stable";

const EXTENDED = 0x8000_0001;
const KVM = 0x4000_0001;

export const FEATURES: Readonly<Record<Feature, FeatureBit>> = {
	fpu: [1, "edx", 0],
	de: [1, "edx", 2],
	pse: [1, "edx", 3],
	tsc: [1, "edx", 4],
	msr: [1, "edx", 5],
	pae: [1, "edx", 6],
	mce: [1, "edx", 7],
	cx8: [1, "edx", 8],
	apic: [1, "edx", 9],
	sep: [1, "edx", 11],
	mtrr: [1, "edx", 12],
	pge: [1, "edx", 13],
	mca: [1, "edx", 14],
	cmov: [1, "edx", 15],
	pat: [1, "edx", 16],
	pse36: [1, "edx", 17],
	clfsh: [1, "edx", 19],
	mmx: [1, "edx", 23],
	fxsr: [1, "edx", 24],
	sse: [1, "edx", 25],
	sse2: [1, "edx", 26],
	htt: [1, "edx", 28],
	sse3: [1, "ecx", 0],
	ssse3: [1, "ecx", 9],
	cx16: [1, "ecx", 13],
	pcid: [1, "ecx", 17],
	"sse4.1": [1, "ecx", 19],
	"sse4.2": [1, "ecx", 20],
	x2apic: [1, "ecx", 21],
	movbe: [1, "ecx", 22],
	popcnt: [1, "ecx", 23],
	"tsc-deadline": [1, "ecx", 24],
	xsave: [1, "ecx", 26],
	osxsave: [1, "ecx", 27],
	rdrand: [1, "ecx", 30],
	hypervisor: [1, "ecx", 31],
	fsgsbase: [7, "ebx", 0],
	"tsc-adjust": [7, "ebx", 1],
	smep: [7, "ebx", 7],
	erms: [7, "ebx", 9],
	invpcid: [7, "ebx", 10],
	"fcs-fds-deprecated": [7, "ebx", 13],
	rdseed: [7, "ebx", 18],
	smap: [7, "ebx", 20],
	pcommit: [7, "ebx", 22],
	clflushopt: [7, "ebx", 23],
	clwb: [7, "ebx", 24],
	umip: [7, "ecx", 2],
	pku: [7, "ecx", 3],
	ospke: [7, "ecx", 4],
	rdpid: [7, "ecx", 22],
	fsrm: [7, "edx", 4],
	"spec-ctrl": [7, "edx", 26],
	stibp: [7, "edx", 27],
	"arch-capabilities": [7, "edx", 29],
	"lahf-lm": [EXTENDED, "ecx", 0],
	syscall: [EXTENDED, "edx", 11],
	nx: [EXTENDED, "edx", 20],
	pages1g: [EXTENDED, "edx", 26],
	rdtscp: [EXTENDED, "edx", 27],
	lm: [EXTENDED, "edx", 29],
	xsaveopt: [0xd, "eax", 0],
	xsavec: [0xd, "eax", 1],
	xgetbv1: [0xd, "eax", 2],
	"kvm-nop-io-delay": [KVM, "eax", 1],
	"kvm-clock": [KVM, "eax", 3],
	"kvm-send-ipi": [KVM, "eax", 11],
	"kvm-clock-stable": [KVM, "eax", 24],
};

/** The word of all features in one register of a leaf, but for those in `without`. */
export function featureWord(leaf: number, register: keyof CpuidAnswer, without: readonly Feature[] = []): number {
	let word = 0;
	for (const [name, [l, r, bit]] of Object.entries(FEATURES)) {
		if (l === leaf && r === register && !without.includes(name as Feature)) word |= 1 << bit;
	}
	return word >>> 0;
}
