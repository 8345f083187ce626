import type { GuestMemory, Kvm, Vcpu, VcpuExit, Vm } from "../../src/kvm/types.ts";

/** A guest in real mode: flat segments at 0, code at {@link START}, the simplest that both engines run. */
export interface RealModeGuest {
	vm: Vm;
	vcpu: Vcpu;
	memory: GuestMemory;
	/** Runs until something else than the end of a slice. */
	run(): VcpuExit;
}

export const START = 0x1000;
export const GUEST_BYTES = 0x20000;

export function realModeGuest(kvm: Kvm, code: readonly number[], prepare?: (vm: Vm) => void): RealModeGuest {
	const vm = kvm.createVm({ memoryBytes: GUEST_BYTES });
	prepare?.(vm);
	const memory = vm.createMemory(GUEST_BYTES);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: GUEST_BYTES, memory, logDirtyPages: true });
	memory.view(START, code.length).set(code);
	memory.written(START, code.length);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	for (const name of ["cs", "ds", "es", "ss"] as const) {
		sregs[name].base = 0n;
		sregs[name].selector = 0;
	}
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(START), rsp: 0x8000n, rflags: 2n });
	return {
		vm,
		vcpu,
		memory,
		run() {
			for (let slices = 0; slices < 1000; slices++) {
				const exit = vcpu.run();
				if (exit.reason !== "intr") return exit;
			}
			throw new Error("the guest ran for 1000 slices");
		},
	};
}
