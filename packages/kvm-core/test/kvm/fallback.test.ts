import { afterAll, describe, expect, test } from "vitest";
import { longMode } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { encodeDescriptor, encodeGate, flatSegment } from "../../src/client/segments.ts";
import { HardwareUnavailableError, openHardwareKvm } from "../../src/hardware/index.node.ts";
import { openKvm } from "../../src/index.ts";
import type { Kvm, VcpuExit } from "../../src/kvm/types.ts";

async function open(): Promise<Kvm | { reason: string }> {
	try {
		return await openHardwareKvm({ fallback: "emulate" });
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { reason: error.message };
		throw error;
	}
}

const hybrid = await open();
const why = "reason" in hybrid ? ` (${hybrid.reason})` : "";
const CODE = 0x1000;
const RAM = 0x40000;
const le32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);

/** A kernel in 64-bit mode with code at CODE; INT3's handler at 0x5000. */
function kernel(kvm: Kvm, code: readonly number[], irqchip = false) {
	const vm = kvm.createVm({ memoryBytes: RAM });
	if (irqchip) vm.createIrqChip();
	const memory = vm.createMemory(RAM);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: RAM, memory, logDirtyPages: true });
	const bytes = memory.view(0, RAM);
	const view = new DataView(bytes.buffer, bytes.byteOffset, RAM);
	bytes.set(code, CODE);
	// add dword [0x8100], 1; iretq
	bytes.set([0x83, 0x04, 0x25, ...le32(0x8100), 1, 0x48, 0xcf], 0x5000);
	view.setBigUint64(0x2008, encodeDescriptor(flatSegment("code64", 8)), true);
	view.setBigUint64(0x2010, encodeDescriptor(flatSegment("data32", 0x10)), true);
	encodeGate({ selector: 8, offset: 0x5000n, type: 14, dpl: 0 }, true).forEach((half, i) => {
		view.setBigUint64(0x3000 + 3 * 16 + i * 8, half, true);
	});
	const tables = new PageTables("4-level", bytes, 0, { start: 0x10000, bytes: 0x8000 });
	tables.map(0n, 0, RAM, 0x1000);
	memory.written(0, RAM);
	const vcpu = vm.createVcpu(0);
	vcpu.setCpuid2(kvm.getSupportedCpuid());
	vcpu.setSregs({
		...longMode(vcpu.getSregs(), tables.root),
		gdt: { base: 0x2000n, limit: 0x17 },
		idt: { base: 0x3000n, limit: 0xfff },
	});
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: 0x9000n, rflags: 2n });
	const run = (): VcpuExit => {
		for (let i = 0; i < 5000; i++) {
			const exit = vcpu.run();
			if (exit.reason !== "intr") return exit;
		}
		throw new Error("the guest does not end");
	};
	return { vm, vcpu, memory, run };
}

/** What a guest made of all that kvm-pvm's emulator lacks leaves behind. */
const CODE_LACKING = [
	...[0xb8, ...le32(0x1234)], // mov eax, 0x1234
	...[0x66, 0x48, 0x0f, 0x6e, 0xc0], // movq xmm0, rax
	...[0x66, 0x0f, 0xfe, 0xc0], // paddd xmm0, xmm0
	...[0xf3, 0x0f, 0x7f, 0x04, 0x25, ...le32(0x8000)], // movdqu [0x8000], xmm0
	...[0xf3, 0x48, 0x0f, 0xb8, 0xd8], // popcnt rbx, rax
	...[0xd9, 0xe8, 0xd8, 0xc0, 0xdd, 0x1c, 0x25, ...le32(0x8020)], // fld1; fadd st0; fstp qword [0x8020]
	0xcc, // int3
	...[0xe6, 0x10], // out 0x10, al
	...[0xf2, 0x0f, 0x10, 0x0c, 0x25, ...le32(0x8020)], // movsd xmm1, [0x8020]
	...[0xf2, 0x48, 0x0f, 0x2c, 0xc9], // cvttsd2si rcx, xmm1
	0xf4, // hlt
];

function outcome(kvm: Kvm, irqchip: boolean): unknown {
	const { vm, vcpu, memory, run } = kernel(kvm, CODE_LACKING, irqchip);
	const out = run();
	const exits = [{ ...out, data: "data" in out ? [...out.data] : [] }];
	if (!irqchip) exits.push({ ...run(), data: [] });
	else {
		// The HLT is the kernel's: it waits there.
		vcpu.setSlice({ milliseconds: 5, instructions: 1000 });
		for (let i = 0; i < 500 && vcpu.getRegs().rip !== BigInt(CODE + CODE_LACKING.length); i++) vcpu.run();
	}
	const { rax, rbx, rcx, rip, rsp } = vcpu.getRegs();
	const result = {
		exits,
		regs: { rax, rbx, rcx, rip, rsp },
		memory: [...memory.view(0x8000, 0x28), ...memory.view(0x8100, 4)],
		xmm: vcpu.getFpu().xmm.slice(0, 2),
		dirty: [...vm.getDirtyLog(0)].map((byte, i) => (i === 1 ? byte & 0b11 : byte)).slice(1, 2),
	};
	vm.close();
	return result;
}

describe.skipIf("reason" in hybrid)(`fallback: emulate${why}`, () => {
	for (const irqchip of [false, true]) {
		test(`a kernel with SSE, x87, POPCNT and INT3 ends as on the software engine${irqchip ? ", irqchip in the kernel" : ""}`, () => {
			if ("reason" in hybrid) return;
			expect(outcome(hybrid, irqchip)).toEqual(outcome(openKvm(), irqchip));
		});
	}

	test("a device read by an instruction that only the software engine has is asked for once", () => {
		if ("reason" in hybrid) return;
		// movq xmm0, [0x20000]; movq rax, xmm0; hlt
		const other = kernel(hybrid, [0xf3, 0x0f, 0x7e, 0x04, 0x25, ...le32(0x20000), 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0xf4]);
		const bytes = other.memory.view(0, RAM);
		// The page at 0x20000 is mapped to where no slot is.
		const view = new DataView(bytes.buffer, bytes.byteOffset, RAM);
		for (let at = 0x10000; at < 0x18000; at += 8) {
			if ((view.getBigUint64(at, true) & ~0xfffn) === 0x20000n) view.setBigUint64(at, 0x9000_0003n, true);
		}
		other.memory.written(0, RAM);
		const exit = other.run();
		expect(exit).toMatchObject({ reason: "mmio", physAddr: 0x9000_0000, isWrite: false });
		expect(other.vcpu.getRegs().rip).toBe(BigInt(CODE));
		if (exit.reason === "mmio") exit.data.fill(0x5a);
		expect(other.run()).toEqual({ reason: "hlt" });
		expect(other.vcpu.getRegs().rax).toBe(0x5a5a5a5a5a5a5a5an);
		other.vm.close();
	});

	test("a page table that the software engine writes is seen by the hardware", () => {
		if ("reason" in hybrid) return;
		const guest = kernel(hybrid, []);
		const bytes = guest.memory.view(0, RAM);
		const view = new DataView(bytes.buffer, bytes.byteOffset, RAM);
		let entry = 0;
		for (let at = 0x10000; at < 0x18000; at += 8) {
			if ((view.getBigUint64(at, true) & ~0xfffn) === 0x20000n) entry = at;
		}
		bytes[0x20000] = 0x11;
		bytes[0x21000] = 0x22;
		bytes.set(
			[
				...[0x8a, 0x1c, 0x25, ...le32(0x20000)], // mov bl, [0x20000]
				...[0xb8, ...le32(0x21003), 0x66, 0x48, 0x0f, 0x6e, 0xc0], // mov eax, 0x21003; movq xmm0, rax
				...[0x66, 0x0f, 0xd6, 0x04, 0x25, ...le32(entry)], // movq [entry], xmm0
				...[0x0f, 0x01, 0x3c, 0x25, ...le32(0x20000)], // invlpg [0x20000]
				...[0x8a, 0x0c, 0x25, ...le32(0x20000), 0xf4], // mov cl, [0x20000]; hlt
			],
			CODE,
		);
		guest.memory.written(0, RAM);
		expect(guest.run()).toEqual({ reason: "hlt" });
		const { rbx, rcx } = guest.vcpu.getRegs();
		expect([rbx & 0xffn, rcx & 0xffn]).toEqual([0x11n, 0x22n]);
		guest.vm.close();
	});

	test("what neither engine can execute is the hardware's failure", () => {
		if ("reason" in hybrid) return;
		const guest = kernel(hybrid, [0xe9, ...le32(0x30000000)]);
		expect(["internal-error", "shutdown"]).toContain(guest.run().reason);
		guest.vm.close();
	});
});

afterAll(() => {
	if (!("reason" in hybrid)) hybrid.close();
});
