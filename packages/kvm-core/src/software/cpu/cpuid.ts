import type { CpuidEntry } from "../../kvm/types.ts";
import {
	CR4_DE,
	CR4_FSGSBASE,
	CR4_MCE,
	CR4_OSFXSR,
	CR4_OSXMMEXCPT,
	CR4_OSXSAVE,
	CR4_PAE,
	CR4_PCE,
	CR4_PCIDE,
	CR4_PGE,
	CR4_PKE,
	CR4_PSE,
	CR4_SMAP,
	CR4_SMEP,
	CR4_TSD,
	CR4_UMIP,
	EFER_LMA,
	EFER_LME,
	EFER_NXE,
	EFER_SCE,
} from "./control-bits.ts";
import { FEATURES, type Feature, featureWord } from "./cpuid-features.ts";
import { PHYSICAL_ADDRESS_BITS } from "./paging.ts";
import { AT_PKRU, COMPONENTS, XSAVE_BYTES } from "./xsave-layout.ts";

/** What the default table depends on. */
export interface CpuidOptions {
	/** APIC ID of the vCPU. @default 0 */
	apicId?: number;
	/** Number of vCPUs. @default 1 */
	vcpus?: number;
	tscKhz: number;
}

function ascii(text: string): number[] {
	const words: number[] = [];
	for (let i = 0; i < text.length; i += 4) {
		let word = 0;
		for (let k = 3; k >= 0; k--) word = (word << 8) | (text.charCodeAt(i + k) || 0);
		words.push(word >>> 0);
	}
	return words;
}

const BRAND = "ring0 software x86-64".padEnd(48, "\0");
const VENDOR = ascii("GenuineIntel") as [number, number, number];
const KVM_SIGNATURE = ascii("KVMKVMKVM\0\0\0") as [number, number, number];
/** Family 6, model 0x8f, stepping 4: one that kernels have no list of flaws for. */
const SIGNATURE = 0x0008_06f4;

/**
 * The software engine's CPUID: exactly what it implements. The vendor is Intel's because kernels then take their
 * instruction set (SYSENTER in long mode, no 3DNow!) and MSRs as they are here.
 */
export function defaultCpuid(options: CpuidOptions): CpuidEntry[] {
	const apicId = options.apicId ?? 0;
	const vcpus = options.vcpus ?? 1;
	const { tscKhz } = options;
	const entries: CpuidEntry[] = [];
	const add = (fn: number, index: number | undefined, eax: number, ebx: number, ecx: number, edx: number): void => {
		entries.push({
			function: fn,
			index: index ?? 0,
			significantIndex: index !== undefined,
			eax: eax >>> 0,
			ebx: ebx >>> 0,
			ecx: ecx >>> 0,
			edx: edx >>> 0,
		});
	};
	add(0, undefined, 0x16, VENDOR[0], VENDOR[2], VENDOR[1]);
	add(
		1,
		undefined,
		SIGNATURE,
		((apicId & 0xff) << 24) | (Math.min(vcpus, 255) << 16) | (8 << 8),
		featureWord(1, "ecx", ["osxsave"]),
		featureWord(1, "edx", vcpus > 1 ? [] : ["htt"]),
	);
	// Descriptor 0xff: the caches are in leaf 4.
	add(2, undefined, 0x00ff_ff01, 0, 0, 0);
	const cores = (Math.min(vcpus, 64) - 1) << 26;
	add(4, 0, 0x121 | cores, (7 << 22) | 63, 63, 0);
	add(4, 1, 0x122 | cores, (7 << 22) | 63, 63, 0);
	add(4, 2, 0x143 | cores, (15 << 22) | 63, 2047, 0);
	add(4, 3, 0x163 | cores | ((Math.min(vcpus, 4096) - 1) << 14), (15 << 22) | 63, 16383, 4);
	add(4, 4, 0, 0, 0, 0);
	// ARAT: the APIC timer never stops.
	add(6, undefined, 4, 0, 0, 0);
	add(7, 0, 2, featureWord(7, "ebx"), featureWord(7, "ecx", ["ospke"]), featureWord(7, "edx"));
	add(7, 1, 0, 0, 0, 0);
	// BHI_CTRL: branch history does not lead indirect branches astray when SPEC_CTRL says so, nor otherwise.
	add(7, 2, 0, 0, 0, 1 << 4);
	add(0xa, undefined, 0, 0, 0, 0);
	const coreBits = Math.ceil(Math.log2(Math.max(vcpus, 1)));
	add(0xb, 0, 0, 1, 0x100, apicId);
	add(0xb, 1, coreBits, vcpus, 0x201, apicId);
	add(0xb, 2, 0, 0, 2, apicId);
	// EBX is the size of what XCR0 enables: the instruction fills it in.
	add(0xd, 0, COMPONENTS, XSAVE_BYTES, XSAVE_BYTES, 0);
	add(0xd, 1, featureWord(0xd, "eax"), XSAVE_BYTES, 0, 0);
	add(0xd, 9, XSAVE_BYTES - AT_PKRU, AT_PKRU, 0, 0);
	const megahertz = Math.round(tscKhz / 1000);
	// TSC = crystal * EBX / EAX, with a crystal of 1 MHz.
	add(0x15, undefined, 1000, tscKhz, 1_000_000, 0);
	add(0x16, undefined, megahertz, megahertz, 100, 0);
	add(0x4000_0000, undefined, 0x4000_0010, ...KVM_SIGNATURE);
	add(0x4000_0001, undefined, featureWord(0x4000_0001, "eax"), 0, 0, 0);
	add(0x4000_0010, undefined, tscKhz, 1_000_000, 0, 0);
	add(0x8000_0000, undefined, 0x8000_0008, 0, 0, 0);
	add(0x8000_0001, undefined, 0, 0, featureWord(0x8000_0001, "ecx"), featureWord(0x8000_0001, "edx"));
	const brand = ascii(BRAND);
	for (let i = 0; i < 3; i++) {
		add(0x8000_0002 + i, undefined, ...(brand.slice(i * 4, i * 4 + 4) as [number, number, number, number]));
	}
	add(0x8000_0005, undefined, 0, 0, 0, 0);
	// L2: 2 MiB, 16-way, 64-byte lines.
	add(0x8000_0006, undefined, 0, 0, (2048 << 16) | (8 << 12) | 64, 0);
	// The TSC runs at one rate in every state.
	add(0x8000_0007, undefined, 0, 0, 0, 1 << 8);
	add(0x8000_0008, undefined, PHYSICAL_ADDRESS_BITS | (48 << 8), 0, 0, 0);
	return entries;
}

/** One leaf's registers. */
export interface CpuidAnswer {
	readonly eax: number;
	readonly ebx: number;
	readonly ecx: number;
	readonly edx: number;
}

/** Features that give bits of CR4. */
const CR4_FEATURES: readonly (readonly [Feature, number])[] = [
	["tsc", CR4_TSD],
	["de", CR4_DE],
	["pse", CR4_PSE],
	["pae", CR4_PAE],
	["mce", CR4_MCE],
	["pge", CR4_PGE],
	["fxsr", CR4_OSFXSR],
	["sse", CR4_OSXMMEXCPT],
	["umip", CR4_UMIP],
	["fsgsbase", CR4_FSGSBASE],
	["pcid", CR4_PCIDE],
	["xsave", CR4_OSXSAVE],
	["smep", CR4_SMEP],
	["smap", CR4_SMAP],
	["pku", CR4_PKE],
];

const NOTHING: CpuidAnswer = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** A vCPU's CPUID table and what follows from it. */
export class CpuidTable {
	readonly entries: readonly CpuidEntry[];
	private readonly exact = new Map<string, CpuidEntry>();
	/** CR4 bits that may be set. */
	readonly cr4: number;
	/** EFER bits that may be set. */
	readonly efer: number;
	readonly physicalBits: number;

	constructor(entries: readonly CpuidEntry[]) {
		this.entries = entries.map((entry) => ({ ...entry }));
		for (const entry of this.entries) {
			this.exact.set(`${entry.function}:${entry.significantIndex ? entry.index : ""}`, entry);
		}
		let cr4 = CR4_PCE;
		for (const [feature, bits] of CR4_FEATURES) if (this.has(feature)) cr4 |= bits;
		this.cr4 = cr4;
		this.efer =
			(this.has("syscall") ? EFER_SCE : 0) |
			(this.has("lm") ? EFER_LME | EFER_LMA : 0) |
			(this.has("nx") ? EFER_NXE : 0);
		this.physicalBits = this.leaf(0x8000_0008).eax & 0xff || 36;
	}

	private leaf(fn: number, index = 0): CpuidAnswer {
		return this.exact.get(`${fn}:`) ?? this.exact.get(`${fn}:${index}`) ?? NOTHING;
	}

	/**
	 * What CPUID gives for EAX and ECX. Beyond the highest basic leaf Intel's parts answer with that leaf; in the
	 * hypervisor's and extended ranges unknown leaves are zero.
	 */
	query(eax: number, ecx: number): CpuidAnswer {
		const known = this.exact.get(`${eax}:`) ?? this.exact.get(`${eax}:${ecx}`);
		if (known !== undefined) return known;
		const basic = eax < 0x4000_0000;
		const highest = this.leaf(0).eax;
		if (basic && eax > highest) return this.leaf(highest, ecx);
		// Sub-leaves of the topology leaf beyond the last keep the x2APIC ID and echo the sub-leaf.
		if (eax === 0xb && this.exact.has("11:0")) return { ...NOTHING, ecx: ecx & 0xff, edx: this.leaf(0xb).edx };
		return NOTHING;
	}

	has(feature: Feature): boolean {
		const [leaf, register, bit] = FEATURES[feature];
		return ((this.leaf(leaf, leaf === 0xd ? 1 : 0)[register] >>> bit) & 1) !== 0;
	}
}
