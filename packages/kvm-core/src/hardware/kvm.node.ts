import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
import type { CapabilityName, CpuidEntry, CreateVmOptions, Kvm, MsrEntry, Vm } from "../kvm/types.ts";
import { HardwareUnavailableError } from "./errors.ts";
import { commonCpuid, FallbackVm, openShadow } from "./fallback.node.ts";
import { emulatesKernels } from "./guest-modes.ts";
import { type KvmHost, thisHost } from "./host.node.ts";
import { KVM } from "./ioctls.ts";
import type { Libc } from "./libc.node.ts";
import { readCpuidList, readMsrs } from "./vcpu.node.ts";
import { checkExtension, HardwareVm } from "./vm.node.ts";

const API_VERSION = 12;
const FALLBACK_INSTRUCTIONS = 256;
/** Where the device emulates kernel code, far slower than the software engine executes it. */
const EMULATED_INSTRUCTIONS = 1_000_000;
/** What the engine cannot do without. */
const NEEDED: readonly CapabilityName[] = ["user-memory", "immediate-exit", "destroy-memory-region-works"];

/** Options of {@link openHardwareKvm}. */
export interface HardwareOptions {
	/** The device. @default "/dev/kvm" */
	path?: string;
	/**
	 * `emulate` lets the software engine execute what KVM gives up on (`internal-error`, suberror 1), so that hosts whose
	 * KVM emulates kernel code with an emulator that lacks instructions can be used. Guest memory is then bounded by what
	 * a WebAssembly memory holds, and the guest's CPUID is the software engine's. @default "none"
	 */
	fallback?: "none" | "emulate";
	/**
	 * Instructions that it executes in a row at the most.
	 *
	 * @default 256; on a host whose KVM emulates all kernel code 1,000,000, and what that KVM is at when a slice of its
	 * ends in kernel code is taken over without a failure, too
	 */
	fallbackInstructions?: number;
}

/**
 * Opens the host's KVM.
 *
 * @throws HardwareUnavailableError that names the reason and what to do about it
 */
export async function openHardwareKvm(options: HardwareOptions = {}): Promise<Kvm> {
	return openOn(thisHost, options);
}

/** {@link openHardwareKvm} on a host of the caller's: the tests' way to hosts that cannot be had. */
export async function openOn(host: KvmHost, options: HardwareOptions = {}): Promise<Kvm> {
	const path = options.path ?? "/dev/kvm";
	if (host.platform !== "linux" || host.arch !== "x64") {
		throw new HardwareUnavailableError(
			"platform",
			`KVM is a Linux device; this is ${host.platform} on ${host.arch}: use the software engine`,
		);
	}
	const fd = openDevice(host, path);
	try {
		const libc = await host.loadLibc();
		const kvm = new HardwareKvm(libc, fd, undefined);
		const version = kvm.getApiVersion();
		if (version !== API_VERSION) {
			throw new HardwareUnavailableError(
				"api-version",
				`${path} speaks API ${version}, and ${API_VERSION} is needed: run a kernel of 2.6.22 or later, without a KVM module from elsewhere`,
			);
		}
		const missing = NEEDED.filter((capability) => kvm.checkExtension(capability) === 0);
		if (missing.length > 0) {
			throw new HardwareUnavailableError(
				"capability",
				`${path} lacks ${missing.join(", ")}: run a kernel of 4.11 or later`,
			);
		}
		// Modules load with or without the processor's extensions in use: what counts is that a VM can be made.
		kvm.createVm({ memoryBytes: 4096 }).close();
		if (options.fallback !== "emulate") return kvm;
		const emulates = emulatesKernels(kvm);
		const instructions = options.fallbackInstructions ?? (emulates ? EMULATED_INSTRUCTIONS : FALLBACK_INSTRUCTIONS);
		return new HardwareKvm(libc, fd, { kvm: openShadow(), instructions, emulates });
	} catch (error) {
		host.close(fd);
		if (error instanceof KvmError) {
			const busy = error.code === "EBUSY";
			throw new HardwareUnavailableError(
				"busy",
				busy
					? `${path} is busy: another hypervisor (VirtualBox, VMware) has the processor's virtualisation; stop its machines, then try again`
					: `${path} is no working KVM (${error.message}): look for its module's complaint in dmesg`,
				{ cause: error },
			);
		}
		throw error;
	}
}

function openDevice(host: KvmHost, path: string): number {
	try {
		return host.open(path);
	} catch (cause) {
		const { code } = cause as NodeJS.ErrnoException;
		if (code === "ENOENT" || code === "ENODEV" || code === "ENXIO") {
			throw new HardwareUnavailableError(
				"device",
				`there is no ${path}: load the module kvm_intel or kvm_amd; where that fails, turn on virtualisation in the firmware, or nested virtualisation of the machine this one runs in`,
				{ cause },
			);
		}
		if (code === "EACCES" || code === "EPERM") {
			throw new HardwareUnavailableError("permission", `no access to ${path}: ${host.accessHint(path)}`, { cause });
		}
		throw new HardwareUnavailableError(
			"busy",
			`${path} cannot be opened (${(cause as Error).message}): close what holds it, then try again`,
			{ cause },
		);
	}
}

/** The software engine behind the hardware, and when it takes over. */
interface ShadowKvm {
	kvm: Kvm;
	instructions: number;
	emulates: boolean;
}

class HardwareKvm implements Kvm {
	readonly engine = "hardware";
	readonly #libc: Libc;
	readonly #fd: number;
	readonly #shadow: ShadowKvm | undefined;
	readonly #vms = new Set<HardwareVm>();
	#closed = false;

	constructor(libc: Libc, fd: number, shadow: ShadowKvm | undefined) {
		this.#libc = libc;
		this.#fd = fd;
		this.#shadow = shadow;
	}

	getApiVersion(): number {
		return this.#libc.ioctl(this.#open(), KVM.GET_API_VERSION, 0, "KVM_GET_API_VERSION");
	}

	checkExtension(capability: CapabilityName): number {
		return checkExtension(this.#libc, this.#open(), capability);
	}

	getVcpuMmapSize(): number {
		return this.#libc.ioctl(this.#open(), KVM.GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
	}

	getNrVcpus(): number {
		return this.checkExtension("nr-vcpus");
	}

	getMaxVcpus(): number {
		return this.checkExtension("max-vcpus");
	}

	getMaxVcpuId(): number {
		return this.checkExtension("max-vcpu-id");
	}

	getNrMemslots(): number {
		return this.checkExtension("nr-memslots");
	}

	getSupportedCpuid(): CpuidEntry[] {
		const own = readCpuidList(this.#libc, this.#open(), KVM.GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID");
		return this.#shadow === undefined ? own : commonCpuid(this.#shadow.kvm, own);
	}

	getMsrIndexList(): number[] {
		return this.#indices(KVM.GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST");
	}

	getEmulatedCpuid(): CpuidEntry[] {
		return readCpuidList(this.#libc, this.#open(), KVM.GET_EMULATED_CPUID, "KVM_GET_EMULATED_CPUID");
	}

	getMsrFeatureIndexList(): number[] {
		return this.#indices(KVM.GET_MSR_FEATURE_INDEX_LIST, "KVM_GET_MSR_FEATURE_INDEX_LIST");
	}

	getMsrs(indices: readonly number[]): MsrEntry[] {
		return readMsrs(this.#libc, this.#open(), indices);
	}

	createVm(options: CreateVmOptions = {}): Vm {
		const fd = this.#libc.ioctl(this.#open(), KVM.CREATE_VM, options.type ?? 0, "KVM_CREATE_VM");
		const onClose = (closed: HardwareVm): boolean => this.#vms.delete(closed);
		const shadow = this.#shadow;
		const size = this.getVcpuMmapSize();
		const vm =
			shadow === undefined
				? new HardwareVm(this.#libc, fd, size, onClose)
				: new FallbackVm(this.#libc, fd, size, onClose, {
						vm: shadow.kvm.createVm(options),
						instructions: shadow.instructions,
						emulates: shadow.emulates,
					});
		this.#vms.add(vm);
		return vm;
	}

	close(): void {
		if (this.#closed) return;
		for (const vm of [...this.#vms]) vm.close();
		this.#closed = true;
		closeSync(this.#fd);
	}

	#indices(request: number, name: string): number[] {
		const room = 1024;
		const list = new Uint32Array(1 + room);
		list[0] = room;
		this.#libc.ioctlBuffer(this.#open(), request, new Uint8Array(list.buffer), name);
		return [...list.subarray(1, 1 + list[0])];
	}

	#open(): number {
		if (this.#closed) throw new KvmError("ENODEV", "ioctl", "the device is closed");
		return this.#fd;
	}
}
