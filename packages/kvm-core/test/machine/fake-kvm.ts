import { IrqChip } from "../../src/chips/irqchip.ts";
import { Pit } from "../../src/chips/pit.ts";
import type {
	CpuidEntry,
	GuestMemory,
	Kvm,
	MemoryRegion,
	MpState,
	Msi,
	Regs,
	Vcpu,
	VcpuExit,
	Vm,
} from "../../src/kvm/types.ts";
import { ArrayMemory } from "./memory.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** What a scripted guest can do: each step is an exit, and gives back its data; `halt` waits for an interrupt and gives its vector. */
export interface Guest {
	in(port: number, size?: 1 | 2 | 4): Generator<VcpuExit, number, void>;
	out(port: number, value: number, size?: 1 | 2 | 4): Generator<VcpuExit, void, void>;
	load(address: number, size?: 1 | 2 | 4): Generator<VcpuExit, number, void>;
	store(address: number, value: number, size?: 1 | 2 | 4): Generator<VcpuExit, void, void>;
	halt(): Generator<VcpuExit, number, void>;
	/** Ends of slices, each taking a millisecond of virtual time. */
	spin(slices: number): Generator<VcpuExit, void, void>;
	exit(exit: VcpuExit): Generator<VcpuExit, void, void>;
	readonly chip: IrqChip;
	readonly memory: Uint8Array;
	readonly pit: Pit;
	now(): number;
	/** Interrupt flag, for what is found while halted. */
	interruptsEnabled: boolean;
}

export type Script = (guest: Guest) => Generator<VcpuExit, void, void>;

/** A KVM whose vCPUs play scripts instead of running code; interrupt controllers and timers are the real ones. */
export class FakeKvm {
	readonly closed: string[] = [];
	readonly regions: MemoryRegion[] = [];
	readonly cpuids: CpuidEntry[][] = [];
	readonly msrs: Map<number, bigint> = new Map();
	slice = 0;
	immediateExits = 0;
	readonly #time: VirtualTime;
	readonly #scripts: readonly Script[];

	constructor(time: VirtualTime, ...scripts: Script[]) {
		this.#time = time;
		this.#scripts = scripts;
	}

	get kvm(): Kvm {
		const fake: Partial<Kvm> = {
			engine: "software",
			getMaxVcpus: () => 4,
			getSupportedCpuid: () =>
				[1, 0xb].map((leaf) => ({
					function: leaf,
					index: 0,
					significantIndex: leaf === 0xb,
					eax: 0,
					ebx: 0x800,
					ecx: 0,
					edx: 0,
				})),
			createVm: () => this.#makeVm(),
		};
		return fake as Kvm;
	}

	#makeVm(): Vm {
		let memory: ArrayMemory | undefined;
		const chip = new IrqChip({
			interrupt: () => undefined,
			nmi: () => undefined,
			init: () => undefined,
			startUp: () => undefined,
			smi: () => undefined,
		});
		// As an operating system that uses the I/O APIC leaves them.
		chip.pic.write(0x21, 0xff);
		chip.pic.write(0xa1, 0xff);
		const pit = new Pit((level) => chip.setIrqLine(0, level, 2));
		const vm: Partial<Vm> = {
			createMemory: (size: number): GuestMemory => {
				const made = new ArrayMemory(size);
				memory ??= made;
				return made;
			},
			setUserMemoryRegion: (region) => void this.regions.push(region),
			createIrqChip: () => undefined,
			createPit2: () => undefined,
			setGsiRouting: (routes) => chip.routing.set(routes),
			setIrqLine: (gsi, level) => chip.setIrqLine(gsi, level),
			signalMsi: (msi: Msi) => chip.signalMsi(msi),
			nextDeadline: () => Math.min(chip.nextDeadline(), pit.nextDeadline()),
			createVcpu: (id) => this.#makeVcpu(id, chip, pit, () => memory as ArrayMemory),
			close: () => void this.closed.push("vm"),
		};
		return vm as Vm;
	}

	#makeVcpu(id: number, chip: IrqChip, pit: Pit, memory: () => ArrayMemory): Vcpu {
		const time = this.#time;
		const apic = chip.addLocalApic(id, (tsc) => tsc);
		apic.write(0xf0, 0x1ff, 0);
		const guest: Guest = {
			*in(port, size = 1) {
				const data = new Uint8Array(size);
				yield { reason: "io", direction: "in", port, size, count: 1, data };
				return data.reduceRight((value, byte) => value * 256 + byte, 0);
			},
			*out(port, value, size = 1) {
				const data = Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i));
				yield { reason: "io", direction: "out", port, size, count: 1, data };
			},
			*load(physAddr, size = 4) {
				const data = new Uint8Array(size);
				yield { reason: "mmio", physAddr, isWrite: false, data };
				return data.reduceRight((value, byte) => value * 256 + byte, 0);
			},
			*store(physAddr, value, size = 4) {
				const data = Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i));
				yield { reason: "mmio", physAddr, isWrite: true, data };
			},
			*halt() {
				for (;;) {
					if (guest.interruptsEnabled && chip.hasInterrupt(apic)) return chip.takeInterrupt(apic);
					yield { reason: "hlt" };
				}
			},
			*spin(slices) {
				for (let i = 0; i < slices; i++) {
					time.now += 1e6;
					yield { reason: "intr" };
				}
			},
			*exit(exit) {
				yield exit;
			},
			chip,
			pit,
			get memory() {
				return memory().bytes;
			},
			now: () => time.now,
			interruptsEnabled: true,
		};
		const script = this.#scripts[id](guest);
		let immediate = false;
		const vcpu: Partial<Vcpu> = {
			id,
			setCpuid2: (entries) => void this.cpuids.push([...entries]),
			setMsrs: (entries) => {
				for (const { index, data } of entries) this.msrs.set(index, data);
				return entries.length;
			},
			setSlice: ({ milliseconds }) => {
				this.slice = milliseconds ?? 0;
			},
			setImmediateExit: (on) => {
				immediate = on;
			},
			getMpState: (): MpState => (id === 0 ? "runnable" : "uninitialized"),
			getRegs: () => ({ rflags: guest.interruptsEnabled ? 0x202n : 0x2n }) as Regs,
			run: () => {
				if (immediate) {
					this.immediateExits++;
					return { reason: "intr" };
				}
				time.now += 1_000;
				chip.advanceTo(time.now);
				pit.advanceTo(time.now);
				const step = script.next();
				if (step.done === true) throw new Error("the script is over, and the machine still runs it");
				return step.value;
			},
		};
		return vcpu as Vcpu;
	}
}
