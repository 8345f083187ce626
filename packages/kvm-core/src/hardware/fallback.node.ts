import { KvmError } from "../kvm/errors.ts";
import { openKvm } from "../kvm/open-kvm.ts";
import type {
	CpuidEntry,
	GuestMemory,
	Ioevent,
	Kvm,
	MemoryRegion,
	MsrEntry,
	Regs,
	Sregs,
	VcpuExit,
	Vm,
} from "../kvm/types.ts";
import type { LeftOver } from "../software/exits.ts";
import type { SoftwareVcpu } from "../software/vcpu.ts";
import type { SoftwareVm } from "../software/vm.ts";
import type { Ioevents } from "./ioevents.ts";
import type { Libc } from "./libc.node.ts";
import { DEFAULT_SLICE_MILLISECONDS, HardwareVcpu, type VcpuTraits } from "./vcpu.node.ts";
import { HardwareVm } from "./vm.node.ts";

/**
 * `fallback: "emulate"`: where KVM gives up on an instruction, the software engine executes it, and what follows as far
 * as that is cheaper than to go back, on the same guest memory and with the same registers.
 */

/** KVM_INTERNAL_ERROR_EMULATION. */
const EMULATION_FAILURE = 1;
/** What the kernel's interrupt controllers and PIT answer. */
const KERNEL_PORTS: readonly (readonly [first: number, last: number])[] = [
	[0x20, 0x21],
	[0x40, 0x43],
	[0x61, 0x61],
	[0xa0, 0xa1],
	[0x4d0, 0x4d1],
];
const KERNEL_PAGES: readonly number[] = [0xfec00, 0xfee00];
const PAGE = 4096;
/** Below 2^39, where every processor with a KVM has addresses, and no guest has anything. */
const SCRATCH_ADDRESS = 0x7f_0000_0000;
/** Page tables that are looked through for pages the software engine wrote; with more, all are taken for written. */
const MOST_TABLES = 8192;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LMA = 1n << 10n;
const TSC = 0x10;
/** SYSENTER's, SYSCALL's, the other GS base, TSC_AUX, PAT. */
const MSRS: readonly number[] = [
	0x174, 0x175, 0x176, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0102, 0xc000_0103, 0x277,
];
const HALT = "F4";
/** RDMSR, WRMSR, RDTSC, RDTSCP, VMCALL, VMMCALL. */
const CLOCKS_AND_MSRS = new Set([
	...["0F 32", "0F 30", "0F 31", "0F 01 /7 mod=3 rm=1", "NP 0F 01 /0 mod=3 rm=1", "NP 0F 01 /3 mod=3 rm=1"],
]);
const CONTROL_REGISTERS = new Set(["0F 20 /r", "0F 22 /r"]);
/** The longest stay in software, within which interrupts must wait. */
const TAKE_OVER_MS = 5;
/** After so many instructions it is looked at whether the guest is at user code, which the hardware runs better. */
const LOOK_INSTRUCTIONS = 50_000;
/** The hardware's slice where it emulates. */
const EMULATED_MS = 0.5;
/** So many written pages are not looked up among the page tables: they are taken for some. */
const MANY_PAGES = 64;
const NO_INTERRUPTS: Sregs["interruptBitmap"] = [0n, 0n, 0n, 0n];
/** Leaves that tell frequencies, which are the host's. */
const FREQUENCIES = new Set([0x15, 0x16, 0x4000_0010]);

/** CPUID.1:ECX.PCID and CPUID.7:EBX.INVPCID. */
const PCID = 1 << 17;
const INVPCID = 1 << 10;

/**
 * What the guest is told of its processor: what the software engine has, without what the hardware would refuse in the
 * control registers. Instructions that the hardware does not offer it executes in user code all the same.
 */
export function commonCpuid(software: Kvm, hardware: readonly CpuidEntry[]): CpuidEntry[] {
	const entries = software.getSupportedCpuid().filter(({ function: leaf }) => !FREQUENCIES.has(leaf));
	if (hardware.some((entry) => entry.function === 1 && (entry.ecx & PCID) !== 0)) return entries;
	return entries.map((entry) => {
		if (entry.function === 1) return { ...entry, ecx: entry.ecx & ~PCID };
		return entry.function === 7 && entry.index === 0 ? { ...entry, ebx: entry.ebx & ~INVPCID } : entry;
	});
}

/** The software engine behind the hardware. */
export function openShadow(): Kvm {
	return openKvm();
}

/** A VM whose vCPUs fall back to the software engine. */
export class FallbackVm extends HardwareVm {
	readonly #software: SoftwareVm;
	readonly #libc: Libc;
	readonly #instructions: number;
	readonly #emulates: boolean;
	readonly #regions = new Map<number, MemoryRegion>();
	readonly #scratchSlot: number;
	#scratch: GuestMemory | undefined;
	#kernelIrqchip = false;

	constructor(
		libc: Libc,
		fd: number,
		pageBytes: number,
		onClose: (vm: HardwareVm) => void,
		shadow: { vm: Vm; instructions: number; emulates: boolean },
	) {
		super(libc, fd, pageBytes, onClose);
		this.#libc = libc;
		this.#software = shadow.vm as SoftwareVm;
		this.#instructions = shadow.instructions;
		this.#emulates = shadow.emulates;
		this.#scratchSlot = this.checkExtension("nr-memslots") - 1;
	}

	/** In the software engine's WebAssembly memory, which KVM is shown too. */
	override createMemory(size: number): GuestMemory {
		const memory = this.#software.createMemory(size);
		this.adopt(memory, this.#libc.addressOf(memory.view(0, size)));
		return memory;
	}

	override setUserMemoryRegion(region: MemoryRegion): void {
		super.setUserMemoryRegion(region);
		// Every write of the software engine's is noted: KVM must be told of those to page tables.
		this.#software.setUserMemoryRegion({ ...region, logDirtyPages: region.memorySize > 0 });
		if (region.memorySize === 0) this.#regions.delete(region.slot);
		else this.#regions.set(region.slot, region);
	}

	override getDirtyLog(slot: number): Uint8Array {
		const log = super.getDirtyLog(slot);
		this.#collect();
		const more = this.#written.get(slot);
		this.#written.delete(slot);
		more?.forEach((byte, i) => {
			log[i]! |= byte;
		});
		return log;
	}

	override createIrqChip(): void {
		super.createIrqChip();
		this.#kernelIrqchip = true;
	}

	override registerIoevent(event: Ioevent, notify: (value: number) => void): () => void {
		const [first, second] = [super.registerIoevent(event, notify), this.#software.registerIoevent(event, notify)];
		return () => {
			first();
			second();
		};
	}

	override close(): void {
		super.close();
		this.#software.close();
	}

	protected override makeVcpu(libc: Libc, fd: number, id: number, traits: VcpuTraits): HardwareVcpu {
		return new FallbackVcpu(libc, fd, id, traits, this.ioevents, {
			vm: this,
			software: this.#software.createVcpu(id),
			instructions: this.#instructions,
			emulates: this.#emulates,
			kernelIrqchip: this.#kernelIrqchip,
		});
	}

	/** @internal Before the software engine runs: all of memory may have changed. */
	softwareEnters(): void {
		this.#software.hostChanged();
	}

	/** @internal Behind it: KVM's copies of page tables that it wrote to are thrown away. */
	softwareLeaves(sregs: Sregs): void {
		const pages = this.#collect();
		if (pages.size === 0 || (sregs.cr0 & CR0_PG) === 0n) return;
		if (pages.size > MANY_PAGES || this.#touchesTables(sregs, pages)) this.#dropShadow();
	}

	/** Guest memory at a physical address. */
	#at(physical: number, length: number): Uint8Array | undefined {
		for (const { guestPhysAddr, memorySize, memory, memoryOffset = 0 } of this.#regions.values()) {
			const offset = physical - guestPhysAddr;
			if (offset >= 0 && offset + length <= memorySize) return memory.view(memoryOffset + offset, length);
		}
		return undefined;
	}

	/** @internal Code for the vCPU to look at. */
	codeAt(physical: number, length: number): Uint8Array | undefined {
		return this.#at(physical, length);
	}

	/** Of slots that the embedder watches: pages the software engine wrote, and the log has not said. */
	readonly #written = new Map<number, Uint8Array>();

	/** Takes the software engine's dirty logs; returns the physical addresses of the pages. */
	#collect(): Set<number> {
		const pages = new Set<number>();
		for (const [slot, { guestPhysAddr, logDirtyPages }] of this.#regions) {
			const log = this.#software.getDirtyLog(slot);
			const words = new Uint32Array(log.buffer, log.byteOffset, log.length >> 2);
			for (let word = 0; word < words.length; word++) {
				if (words[word] === 0) continue;
				for (let bit = 0; bit < 32; bit++) {
					if (((words[word]! >>> bit) & 1) === 1) pages.add(guestPhysAddr + (word * 32 + bit) * PAGE);
				}
			}
			if (logDirtyPages !== true) continue;
			const known = this.#written.get(slot);
			if (known === undefined) this.#written.set(slot, log);
			else {
				for (let i = 0; i < log.length; i++) known[i]! |= log[i]!;
			}
		}
		return pages;
	}

	#touchesTables({ cr3, cr4, efer }: Sregs, pages: ReadonlySet<number>): boolean {
		const long = (efer & EFER_LMA) !== 0n;
		const pae = (cr4 & CR4_PAE) !== 0n;
		const seen = new Set<number>();
		const visit = (table: number, level: number): boolean => {
			if (pages.has(table) || seen.size > MOST_TABLES) return true;
			if (seen.has(table)) return false;
			seen.add(table);
			const bytes = level > 1 ? this.#at(table, PAGE) : undefined;
			if (bytes === undefined) return false;
			const words = new Uint32Array(bytes.buffer, bytes.byteOffset, PAGE / 4);
			const step = pae ? 2 : 1;
			for (let i = 0; i < words.length; i += step) {
				const low = words[i]!;
				// Present, and no large page.
				if ((low & 1) === 0 || (level < 4 && (low & 0x80) !== 0)) continue;
				const high = pae ? words[i + 1]! & 0xf_ffff : 0;
				if (visit(high * 2 ** 32 + (low & ~0xfff) + ((low & ~0xfff) < 0 ? 2 ** 32 : 0), level - 1)) return true;
			}
			return false;
		};
		const root = Number(cr3 & 0xf_ffff_ffff_f000n);
		return visit(root, long ? 4 : pae ? 3 : 2);
	}

	/** KVM forgets every translation when a slot goes. */
	#dropShadow(): void {
		this.#scratch ??= super.createMemory(PAGE);
		const region = { slot: this.#scratchSlot, guestPhysAddr: SCRATCH_ADDRESS, memory: this.#scratch };
		super.setUserMemoryRegion({ ...region, memorySize: PAGE });
		super.setUserMemoryRegion({ ...region, memorySize: 0 });
	}
}

interface Shadow {
	vm: FallbackVm;
	software: SoftwareVcpu;
	/** At the most in a row. */
	instructions: number;
	/** Of a KVM that emulates kernel code: what it is at when a slice of its ends is taken over, too. */
	emulates: boolean;
	kernelIrqchip: boolean;
}

/** A vCPU that falls back to the software engine. */
export class FallbackVcpu extends HardwareVcpu {
	readonly #shadow: Shadow;
	/** A read waits for the embedder's answer over there. */
	#inSoftware = false;
	#failure: VcpuExit | undefined;
	#msrs: readonly number[] | undefined;
	/** As the hardware had them when the software engine took over. */
	#kept: { sregs: Sregs; msrs: readonly MsrEntry[]; xcr0: bigint | undefined } | undefined;
	#milliseconds = DEFAULT_SLICE_MILLISECONDS;
	#immediateExit = false;
	readonly #hasXcrs: boolean;

	constructor(libc: Libc, fd: number, id: number, traits: VcpuTraits, ioevents: Ioevents, shadow: Shadow) {
		super(libc, fd, id, traits, ioevents);
		this.#shadow = shadow;
		this.#hasXcrs = shadow.vm.checkExtension("xcrs") > 0;
		this.setSlice({});
	}

	override setSlice(slice: { milliseconds?: number; instructions?: number }): void {
		this.#milliseconds = slice.milliseconds ?? DEFAULT_SLICE_MILLISECONDS;
		// Long enough to take an interrupt and what the software engine has left over.
		super.setSlice(
			this.#shadow.emulates ? { ...slice, milliseconds: Math.min(this.#milliseconds, EMULATED_MS) } : slice,
		);
	}

	override run(): VcpuExit {
		const end = performance.now() + this.#milliseconds;
		for (;;) {
			if (!this.#inSoftware) {
				const exit = super.run();
				if (exit.reason === "internal-error" && exit.suberror === EMULATION_FAILURE) this.#failure = exit;
				else if (exit.reason === "intr" && this.#isEmulated() && performance.now() < end) this.#failure = undefined;
				else return exit;
				this.#enter();
			}
			const exit = this.#interpret();
			if (exit !== undefined) return exit;
			if (performance.now() >= end) return { reason: "intr" };
		}
	}

	override setCpuid2(entries: readonly CpuidEntry[]): void {
		super.setCpuid2(entries);
		this.#shadow.software.setCpuid2(entries);
	}

	/** Whether the hardware's slice ended in code that it emulates, far slower than the software engine runs it. */
	#isEmulated(): boolean {
		if (!this.#shadow.emulates || this.#immediateExit || super.getMpState() !== "runnable") return false;
		return super.getSregs().cs.dpl !== 3;
	}

	override setImmediateExit(on: boolean): void {
		this.#immediateExit = on;
		super.setImmediateExit(on);
		this.#shadow.software.setImmediateExit(on);
	}

	override getRegs(): Regs {
		return this.#inSoftware ? this.#shadow.software.getRegs() : super.getRegs();
	}

	override setRegs(regs: Readonly<Regs>): void {
		if (this.#inSoftware) this.#shadow.software.setRegs(regs);
		else super.setRegs(regs);
	}

	override getSregs(): Sregs {
		return this.#inSoftware ? this.#shadow.software.getSregs() : super.getSregs();
	}

	override setSregs(sregs: Readonly<Sregs>): void {
		if (this.#inSoftware) this.#shadow.software.setSregs(sregs);
		else super.setSregs(sregs);
	}

	override interrupt(vector: number): void {
		if (this.#inSoftware) this.#shadow.software.interrupt(vector);
		else super.interrupt(vector);
	}

	/** Executes in software until it is the hardware's turn again (undefined), or the embedder's. */
	#interpret(): VcpuExit | undefined {
		const { software, instructions } = this.#shadow;
		const failure = this.#failure;
		software.setSlice({ instructions: Math.min(instructions, LOOK_INSTRUCTIONS), milliseconds: TAKE_OVER_MS });
		// What KVM has given up on is executed here even where such instructions are the kernel's.
		const failed = failure === undefined || this.#inSoftware ? -1 : software.position;
		software.setLeftOver(this.#leftOver(failed));
		const first = software.position;
		const end = performance.now() + TAKE_OVER_MS;
		for (;;) {
			const exit = software.run();
			this.#inSoftware = false;
			if (exit.reason === "intr") {
				if (
					!software.hasLeft &&
					software.position - first < instructions &&
					performance.now() < end &&
					!software.isUser
				) {
					continue;
				}
				const isStuck = software.hasLeft && software.position === failed;
				this.#leave();
				return isStuck ? failure : undefined;
			}
			if (exit.reason === "internal-error") {
				this.#leave();
				return failure;
			}
			const isRead = (exit.reason === "io" && exit.direction === "in") || (exit.reason === "mmio" && !exit.isWrite);
			if (isRead) this.#inSoftware = true;
			else this.#leave();
			return exit;
		}
	}

	/** What the kernel has and the software engine has not: interrupt controllers, PIT, the clock, most MSRs. */
	#leftOver(failed: number): LeftOver {
		const { software, kernelIrqchip } = this.#shadow;
		return {
			instruction: (opcode, reg) => {
				if (software.position === failed) return false;
				if (opcode === HALT) return kernelIrqchip;
				return CLOCKS_AND_MSRS.has(opcode) || (CONTROL_REGISTERS.has(opcode) && reg === 8 && kernelIrqchip);
			},
			port: (port) => kernelIrqchip && KERNEL_PORTS.some(([from, to]) => port >= from && port <= to),
			address: (physical) => kernelIrqchip && KERNEL_PAGES.includes(Math.floor(physical / PAGE)),
		};
	}

	#enter(): void {
		const { software, vm } = this.#shadow;
		const sregs = super.getSregs();
		this.#msrs ??= MSRS.filter(
			(index) => super.getMsrs([index]).length === 1 && software.getMsrs([index]).length === 1,
		);
		const msrs = super.getMsrs([...this.#msrs, TSC]);
		const xcr0 = this.#hasXcrs ? super.getXcrs().find(({ xcr }) => xcr === 0)?.value : undefined;
		this.#kept = { sregs, msrs, xcr0 };
		vm.softwareEnters();
		software.setSregs({ ...sregs, interruptBitmap: NO_INTERRUPTS });
		software.setMsrs(msrs);
		if (xcr0 !== undefined) software.setXcrs([{ xcr: 0, value: xcr0 }]);
		software.setDebugRegs(super.getDebugRegs());
		software.setFpu(super.getFpu());
		software.setRegs(super.getRegs());
		software.setVcpuEvents(super.getVcpuEvents());
		software.requestInterruptWindow = this.requestInterruptWindow;
	}

	#leave(): void {
		const { software, vm } = this.#shadow;
		const kept = this.#kept;
		if (kept === undefined) throw new KvmError("EIO", "KVM_RUN", "the software engine was not entered");
		const sregs = software.getSregs();
		const { apicBase, cr8 } = kept.sregs;
		super.setSregs({ ...sregs, apicBase, cr8, interruptBitmap: NO_INTERRUPTS });
		const msrs = software.getMsrs(this.#msrs ?? []).filter(({ data }, i) => data !== kept.msrs[i]?.data);
		if (msrs.length > 0) super.setMsrs(msrs);
		const xcrs = kept.xcr0 === undefined ? [] : software.getXcrs();
		if (xcrs.some(({ xcr, value }) => xcr === 0 && value !== kept.xcr0)) super.setXcrs(xcrs);
		super.setDebugRegs(software.getDebugRegs());
		super.setFpu(software.getFpu());
		super.setRegs(software.getRegs());
		super.setVcpuEvents(software.getVcpuEvents());
		vm.softwareLeaves(sregs);
	}
}
