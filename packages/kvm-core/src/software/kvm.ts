import { KvmError } from "../kvm/errors.ts";
import { KvmWithoutOptions } from "../kvm/optional.ts";
import type { CpuidEntry, CreateVmOptions, Kvm, Vm } from "../kvm/types.ts";
import { type TimeSource, TSC_KHZ } from "./clock.ts";
import { defaultCpuid } from "./cpu/cpuid.ts";
import { msrIndexList } from "./cpu/msr.ts";
import { MAX_SLOTS, SoftwareVm } from "./vm.ts";

/** What the software engine takes from outside. */
export interface SoftwareKvmOptions {
	readonly time: TimeSource;
	/** Milliseconds since 1970, for the guest's wall clock. */
	wallClock(): number;
	/** 64 random bits. */
	random(): bigint;
}

const MAX_VCPUS = 8;
const DEFAULT_MEMORY = 128 << 20;

const CAPABILITIES: Readonly<Record<string, number>> = {
	irqchip: 1,
	"user-memory": 1,
	"set-tss-addr": 1,
	"ext-cpuid": 1,
	clocksource: 1,
	"nr-vcpus": MAX_VCPUS,
	"max-vcpus": MAX_VCPUS,
	"max-vcpu-id": 256,
	"nr-memslots": MAX_SLOTS,
	pit2: 1,
	"mp-state": 1,
	"sync-mmu": 1,
	irqfd: 1,
	ioeventfd: 1,
	"set-guest-debug": 1,
	"debug-points": 1,
	"vcpu-events": 1,
	debugregs: 1,
	xsave: 1,
	xcrs: 1,
	"get-tsc-khz": 1,
	"signal-msi": 1,
	"irq-routing": 4096,
	"readonly-mem": 1,
	"set-identity-map-addr": 1,
	"adjust-clock": 1,
	"user-nmi": 1,
	"immediate-exit": 1,
	"destroy-memory-region-works": 1,
	"join-memory-regions-works": 1,
};

/** /dev/kvm's software twin. */
export class SoftwareKvm extends KvmWithoutOptions implements Kvm {
	readonly engine = "software";
	private readonly options: SoftwareKvmOptions;
	private readonly vms = new Set<SoftwareVm>();
	private closed = false;

	constructor(options: SoftwareKvmOptions) {
		super();
		this.options = options;
	}

	getApiVersion(): number {
		return 12;
	}

	checkExtension(capability: string): number {
		return CAPABILITIES[capability] ?? 0;
	}

	getVcpuMmapSize(): number {
		return 4096;
	}

	getNrVcpus(): number {
		return MAX_VCPUS;
	}

	getMaxVcpus(): number {
		return MAX_VCPUS;
	}

	getMaxVcpuId(): number {
		return 256;
	}

	getNrMemslots(): number {
		return MAX_SLOTS;
	}

	getSupportedCpuid(): CpuidEntry[] {
		return defaultCpuid({ tscKhz: TSC_KHZ });
	}

	getMsrIndexList(): number[] {
		return msrIndexList();
	}

	createVm(options: CreateVmOptions = {}): Vm {
		if (this.closed) throw new KvmError("ENODEV", "KVM_CREATE_VM", "this handle is closed");
		if ((options.type ?? 0) !== 0) throw new KvmError("EINVAL", "KVM_CREATE_VM", `there is no type ${options.type}`);
		const vcpus = options.vcpus ?? 1;
		if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
			throw new KvmError("EINVAL", "KVM_CREATE_VM", `${vcpus} vCPUs; 1 to ${MAX_VCPUS} can be had`);
		}
		const vm = new SoftwareVm(this, this.options, options.memoryBytes ?? DEFAULT_MEMORY, vcpus, options.onWake);
		this.vms.add(vm);
		return vm;
	}

	close(): void {
		this.closed = true;
		for (const vm of [...this.vms]) vm.close();
	}

	/** A closed VM's memory is nobody's: the collector may have it. */
	vmClosed(vm: SoftwareVm): void {
		this.vms.delete(vm);
	}
}
