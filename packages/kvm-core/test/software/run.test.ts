import { expect, test } from "vitest";
import { openKvm, type Vcpu, type VcpuExit, type Vm } from "../../src/index.ts";

function machine(code: readonly number[], at = 0x1000): { vm: Vm; vcpu: Vcpu; ram: Uint8Array } {
	const vm = openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }).createVm({ memoryBytes: 1 << 20 });
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	const ram = memory.view(0, 1 << 20);
	ram.set(code, at);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(at), rsp: 0x8000n, rflags: 2n });
	return { vm, vcpu, ram };
}

/** Into 32-bit protected mode with flat segments, without a GDT. */
function flat32(vcpu: Vcpu): void {
	const sregs = vcpu.getSregs();
	const flat = { ...sregs.ds, base: 0n, limit: 0xffff_ffff, db: 1, g: 1, present: 1, s: 1, dpl: 0, unusable: 0 };
	sregs.cr0 |= 1n;
	sregs.cs = { ...flat, type: 0xb, selector: 8 };
	for (const name of ["ds", "es", "ss", "fs", "gs"] as const) sregs[name] = { ...flat, type: 3, selector: 16 };
	vcpu.setSregs(sregs);
}

test("a loop in 32-bit code leaves what it computed, and counts its instructions", () => {
	// mov ecx, 1000; again: add eax, ecx; dec ecx; jnz again; mov [0x5000], eax; mov eax, [0xf0000000]; jmp $
	const { vcpu, ram } = machine([
		0xb9, 0xe8, 0x03, 0, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xa3, 0x00, 0x50, 0, 0, 0xa1, 0, 0, 0, 0xf0, 0xeb, 0xfe,
	]);
	flat32(vcpu);
	const exit = vcpu.run();
	expect(exit).toMatchObject({ reason: "mmio", physAddr: 0xf000_0000, isWrite: false });
	expect(new DataView(ram.buffer, ram.byteOffset).getUint32(0x5000, true)).toBe(500_500);
	expect(vcpu.instructionsRetired).toBe(1 + 3 * 1000 + 1);
	(exit as Extract<VcpuExit, { reason: "mmio" }>).data.set([0x78, 0x56, 0x34, 0x12]);
	vcpu.setSlice({ instructions: 10 });
	expect(vcpu.run().reason).toBe("intr");
	expect(vcpu.getRegs().rax).toBe(0x1234_5678n);
});

test("code that writes over itself runs what it wrote", () => {
	// mov byte [next+1], 0x42; next: mov al, 0x11; mov [0xf0000000], al
	const { vcpu } = machine([0xc6, 0x05, 0x08, 0x10, 0, 0, 0x42, 0xb0, 0x11, 0xa2, 0, 0, 0, 0xf0]);
	flat32(vcpu);
	const exit = vcpu.run();
	expect(exit).toMatchObject({ reason: "mmio", isWrite: true });
	expect([...(exit as Extract<VcpuExit, { reason: "mmio" }>).data]).toEqual([0x42]);
});

test("in virtual time a halt lasts until the timer that ends it", () => {
	const kvm = openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } });
	const vm = kvm.createVm({ memoryBytes: 1 << 20 });
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	vm.createIrqChip();
	vm.createPit2();
	const ram = memory.view(0, 1 << 20);
	// PIC at vector 8, everything but IRQ 0 masked; PIT mode 0, 11932 ticks = 10 ms; sti; hlt; out 0x99, al; the handler returns.
	ram.set(
		[
			0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6,
			0x21, 0xb0, 0x30, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e, 0xe6, 0x40, 0xfb, 0xf4, 0xe6, 0x99,
		],
		0x1000,
	);
	ram.set([0xcf], 0x2000);
	ram.set([0x00, 0x20, 0x00, 0x00], 8 * 4);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x8000n, rflags: 2n });
	expect(vcpu.run()).toMatchObject({ reason: "io", direction: "out", port: 0x99 });
	const elapsed = Number(vm.getClock());
	expect(elapsed).toBeGreaterThan(9_900_000);
	expect(elapsed).toBeLessThan(10_200_000);
});
