import { expect, test } from "vitest";
import { openKvm, type Vcpu } from "../../src/index.ts";

/** Flat 32-bit protected mode at `rip`. */
function start(vcpu: Vcpu, rip: number): void {
	const sregs = vcpu.getSregs();
	const flat = { ...sregs.ds, base: 0n, limit: 0xffff_ffff, db: 1, g: 1, present: 1, s: 1, dpl: 0, unusable: 0 };
	sregs.cr0 |= 1n;
	sregs.cs = { ...flat, type: 0xb, selector: 8 };
	for (const name of ["ds", "es", "ss", "fs", "gs"] as const) sregs[name] = { ...flat, type: 3, selector: 16 };
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(rip), rsp: 0x8000n, rflags: 2n });
	vcpu.setMpState("runnable");
}

test("code that one vCPU writes is what another executes, though it had decoded the old", () => {
	const vm = openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }).createVm({
		memoryBytes: 1 << 20,
		vcpus: 2,
	});
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	const ram = memory.view(0, 1 << 20);
	// mov al, 0x11; out 0x80, al; jmp to the mov
	ram.set([0xb0, 0x11, 0xe6, 0x80, 0xeb, 0xfa], 0x1000);
	// inc byte [0x1001]; out 0x81, al; jmp to the inc
	ram.set([0xfe, 0x05, 0x01, 0x10, 0, 0, 0xe6, 0x81, 0xeb, 0xf6], 0x2000);
	const reader = vm.createVcpu(0);
	const writer = vm.createVcpu(1);
	start(reader, 0x1000);
	start(writer, 0x2000);
	const read: number[] = [];
	for (let i = 0; i < 4; i++) {
		const exit = reader.run();
		if (exit.reason === "io") read.push(exit.data[0]!);
		expect(writer.run()).toMatchObject({ reason: "io", port: 0x81 });
	}
	expect(read).toEqual([0x11, 0x12, 0x13, 0x14]);
});
