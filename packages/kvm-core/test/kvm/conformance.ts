import { expect } from "vitest";
import { longMode, protectedMode } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { KvmError } from "../../src/kvm/errors.ts";
import type { VcpuExit } from "../../src/kvm/types.ts";
import { optional } from "./optional.ts";
import type { Promise12 } from "./promise.ts";
import { errno } from "./promise.ts";
import { GUEST_BYTES, realModeGuest, START } from "./real-mode.ts";

const MIB = 2 ** 20;

/** An exit with its live buffer copied. */
function frozen(exit: VcpuExit): unknown {
	return "data" in exit ? { ...exit, data: [...exit.data] } : exit;
}

export const conformance: readonly Promise12[] = [
	{
		name: "API version 12, and the capabilities both engines have",
		check(kvm) {
			expect(kvm.getApiVersion()).toBe(12);
			for (const name of [
				"irqchip",
				"user-memory",
				"set-tss-addr",
				"mp-state",
				"irq-routing",
				"pit2",
				"vcpu-events",
				"debugregs",
				"xsave",
				"xcrs",
				"signal-msi",
				"readonly-mem",
				"immediate-exit",
			]) {
				expect.soft(kvm.checkExtension(name), name).toBeGreaterThan(0);
			}
			expect(kvm.checkExtension("no-such-capability")).toBe(0);
			expect(kvm.getVcpuMmapSize()).toBeGreaterThanOrEqual(4096);
			expect(kvm.getNrMemslots()).toBeGreaterThanOrEqual(32);
			expect(kvm.getMaxVcpus()).toBeGreaterThanOrEqual(kvm.getNrVcpus());
			expect(kvm.getSupportedCpuid().map((entry) => entry.function)).toEqual(
				expect.arrayContaining([0, 1, 0x80000000, 0x80000001]),
			);
			expect(kvm.getMsrIndexList()).toEqual(expect.arrayContaining([0xc0000081, 0xc0000082, 0x174]));
		},
	},
	{
		name: "memory slots: overlap EEXIST; misaligned, too high a number, resized EINVAL; moved and deleted",
		check(kvm) {
			const vm = kvm.createVm({ memoryBytes: 4 * MIB });
			const memory = vm.createMemory(2 * MIB);
			const region = { slot: 0, guestPhysAddr: 0, memorySize: MIB, memory };
			vm.setUserMemoryRegion(region);
			expect(errno(() => vm.setUserMemoryRegion({ ...region, slot: 1, guestPhysAddr: MIB - 4096 }))).toBe("EEXIST");
			expect(errno(() => vm.setUserMemoryRegion({ ...region, slot: 1, guestPhysAddr: MIB + 1 }))).toBe("EINVAL");
			expect(errno(() => vm.setUserMemoryRegion({ ...region, slot: 1, guestPhysAddr: MIB, memorySize: 1000 }))).toBe(
				"EINVAL",
			);
			expect(
				errno(() => vm.setUserMemoryRegion({ ...region, slot: kvm.getNrMemslots(), guestPhysAddr: 16 * MIB })),
			).toBe("EINVAL");
			expect(errno(() => vm.setUserMemoryRegion({ ...region, memorySize: 2 * MIB }))).toBe("EINVAL");
			vm.setUserMemoryRegion({ ...region, guestPhysAddr: 8 * MIB });
			vm.setUserMemoryRegion({ ...region, slot: 1 });
			vm.setUserMemoryRegion({ ...region, slot: 1, memorySize: 0 });
			vm.setUserMemoryRegion({ ...region, slot: 2 });
			vm.close();
		},
	},
	{
		name: "dirty log: ENOENT without its flag, a bit per page written, cleared by reading",
		check(kvm) {
			// mov byte [0x5000], 1; hlt; mov byte [0x6fff], 1; hlt
			const guest = realModeGuest(kvm, [0xc6, 0x06, 0x00, 0x50, 1, 0xf4, 0xc6, 0x06, 0xff, 0x6f, 1, 0xf4]);
			const pages = (): number[] =>
				[...guest.vm.getDirtyLog(0)].flatMap((byte, i) =>
					[0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte >> bit) & 1).map((bit) => i * 8 + bit),
				);
			expect(pages()).toEqual([]);
			expect(guest.run()).toEqual({ reason: "hlt" });
			expect(pages()).toEqual([5]);
			expect(guest.run()).toEqual({ reason: "hlt" });
			expect(pages()).toEqual([6]);
			expect(pages()).toEqual([]);
			const memory = guest.vm.createMemory(4096);
			guest.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: MIB, memorySize: 4096, memory });
			expect(errno(() => guest.vm.getDirtyLog(1))).toBe("ENOENT");
			expect(errno(() => guest.vm.getDirtyLog(9))).toBe("ENOENT");
			guest.vm.close();
		},
	},
	{
		name: "vCPUs: twice EEXIST, number out of range EINVAL; irqchip twice EEXIST, after a vCPU EINVAL",
		check(kvm) {
			const vm = kvm.createVm();
			vm.createVcpu(0);
			expect(errno(() => vm.createVcpu(0))).toBe("EEXIST");
			expect(errno(() => vm.createVcpu(kvm.getMaxVcpuId() + 1000))).toBe("EINVAL");
			expect(errno(() => vm.createIrqChip())).toBe("EINVAL");
			vm.close();
			const other = kvm.createVm();
			other.createIrqChip();
			expect(errno(() => other.createIrqChip())).toBe("EEXIST");
			other.close();
		},
	},
	{
		name: "a new vCPU is as after reset",
		check(kvm) {
			const vm = kvm.createVm();
			const vcpu = vm.createVcpu(0);
			const { rip, rflags, rdx } = vcpu.getRegs();
			expect([rip, rflags]).toEqual([0xfff0n, 2n]);
			expect(rdx).toBeGreaterThan(0n);
			const sregs = vcpu.getSregs();
			expect(sregs.cs).toMatchObject({
				base: 0xffff0000n,
				limit: 0xffff,
				selector: 0xf000,
				type: 0xb,
				present: 1,
				s: 1,
			});
			expect(sregs.ds).toMatchObject({ base: 0n, limit: 0xffff, selector: 0, type: 3, present: 1 });
			expect(sregs.cr0).toBe(0x60000010n);
			expect([sregs.cr3, sregs.cr4, sregs.efer]).toEqual([0n, 0n, 0n]);
			expect(vcpu.getDebugRegs()).toEqual({ db: [0n, 0n, 0n, 0n], dr6: 0xffff0ff0n, dr7: 0x400n });
			const fpu = vcpu.getFpu();
			expect([fpu.fcw, fpu.fsw, fpu.mxcsr]).toEqual([0x37f, 0, 0x1f80]);
			expect(vcpu.getMpState()).toBe("runnable");
			vm.close();
		},
	},
	{
		name: "registers, events and MSRs come back as they were set",
		check(kvm) {
			const vm = kvm.createVm();
			const vcpu = vm.createVcpu(0);
			vcpu.setCpuid2(kvm.getSupportedCpuid());
			const regs = vcpu.getRegs();
			const names = Object.keys(regs) as (keyof typeof regs)[];
			names.forEach((name, i) => {
				regs[name] = 0x1122_3344_5566_7700n + BigInt(i);
			});
			regs.rflags = 0x246n;
			vcpu.setRegs(regs);
			expect(vcpu.getRegs()).toEqual(regs);
			const debug = { db: [1n, 2n, 3n, 4n] as [bigint, bigint, bigint, bigint], dr6: 0xffff0ff1n, dr7: 0x401n };
			vcpu.setDebugRegs(debug);
			expect(vcpu.getDebugRegs()).toEqual(debug);
			const msrs = [
				{ index: 0xc0000081, data: 0x23001000000000n },
				{ index: 0xc0000082, data: 0xffff800000001234n },
				{ index: 0x174, data: 0x10n },
			];
			expect(vcpu.setMsrs(msrs)).toBe(3);
			expect(vcpu.getMsrs(msrs.map((msr) => msr.index))).toEqual(msrs);
			expect(vcpu.getMsrs([0x174, 0x4a5a5a5a, 0x175])).toHaveLength(1);
			expect(vcpu.setMsrs([msrs[0]!, { index: 0x4a5a5a5a, data: 0n }, msrs[1]!])).toBe(1);
			const fpu = vcpu.getFpu();
			fpu.xmm[3] = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
			fpu.fcw = 0x27f;
			fpu.mxcsr = 0x1fa0;
			vcpu.setFpu(fpu);
			expect(vcpu.getFpu()).toEqual(fpu);
			expect([...vcpu.getXsave().subarray(160 + 48, 160 + 64)]).toEqual([...fpu.xmm[3]]);
			expect(vcpu.getXcrs()).toEqual([{ xcr: 0, value: 1n }]);
			expect(errno(() => vcpu.setSregs({ ...vcpu.getSregs(), cr4: 1n << 40n }))).toBe("EINVAL");
			vm.close();
		},
	},
	{
		name: "port I/O: out, in, and the answer reaches AX; string I/O",
		check(kvm) {
			// mov dx,0x3f8; mov al,'A'; out dx,al; in ax,0x70; mov [0x5000],ax; mov si,0x1100; mov cx,2; rep outsb; hlt
			const code = [
				0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xe5, 0x70, 0xa3, 0x00, 0x50, 0xbe, 0x00, 0x11, 0xb9, 2, 0, 0xfc, 0xf3,
				0x6e, 0xf4,
			];
			const guest = realModeGuest(kvm, code);
			guest.memory.view(0x1100, 2).set([0x68, 0x69]);
			expect(frozen(guest.run())).toEqual({
				reason: "io",
				direction: "out",
				port: 0x3f8,
				size: 1,
				count: 1,
				data: [0x41],
			});
			const input = guest.run();
			expect(frozen(input)).toMatchObject({ reason: "io", direction: "in", port: 0x70, size: 2, count: 1 });
			if (input.reason === "io") input.data.set([0x34, 0x12]);
			const sent: number[] = [];
			let exit = guest.run();
			while (exit.reason === "io") {
				expect([exit.direction, exit.port, exit.size]).toEqual(["out", 0x3f8, 1]);
				sent.push(...exit.data);
				exit = guest.run();
			}
			expect(sent).toEqual([0x68, 0x69]);
			expect(exit).toEqual({ reason: "hlt" });
			expect([...guest.memory.view(0x5000, 2)]).toEqual([0x34, 0x12]);
			expect(guest.vcpu.getRegs().rip).toBe(BigInt(START + code.length));
			guest.vm.close();
		},
	},
	{
		name: "each element of repeated string input is read once, and each of repeated output written once",
		check(kvm) {
			// mov dx,0x70; mov di,0x5000; mov cx,4; rep insb; mov ax,0x8000; mov ds,ax; xor si,si; mov cx,3; rep movsb;
			// mov es,ax; mov di,0x100; mov al,0x33; mov cx,3; rep stosb; hlt
			const code = [0xba, 0x70, 0, 0xbf, 0, 0x50, 0xb9, 4, 0, 0xfc, 0xf3, 0x6c, 0xb8, 0, 0x80, 0x8e, 0xd8, 0x31, 0xf6];
			code.push(0xb9, 3, 0, 0xf3, 0xa4, 0x8e, 0xc0, 0xbf, 0, 1, 0xb0, 0x33, 0xb9, 3, 0, 0xf3, 0xaa, 0xf4);
			const guest = realModeGuest(kvm, code);
			let next = 1;
			const read: number[] = [];
			const written: number[] = [];
			for (let exit = guest.run(); exit.reason !== "hlt"; exit = guest.run()) {
				if (exit.reason === "io") for (let i = 0; i < exit.data.length; i++) exit.data[i] = next++;
				else if (exit.reason === "mmio" && exit.isWrite) written.push(exit.physAddr);
				else if (exit.reason === "mmio") {
					read.push(exit.physAddr);
					exit.data.fill(next++);
				} else throw new Error(exit.reason);
			}
			expect([...guest.memory.view(0x5000, 7)]).toEqual([1, 2, 3, 4, 5, 6, 7]);
			expect(read).toEqual([0x80000, 0x80001, 0x80002]);
			expect(written).toEqual([0x80100, 0x80101, 0x80102]);
			guest.vm.close();
		},
	},
	{
		name: "an immediate exit completes what is pending and executes nothing else",
		check(kvm) {
			// in al,0x70; inc cx; hlt
			const guest = realModeGuest(kvm, [0xe4, 0x70, 0x41, 0xf4]);
			const input = guest.run();
			expect(input).toMatchObject({ reason: "io", direction: "in", port: 0x70 });
			if (input.reason === "io") input.data[0] = 0x5a;
			guest.vcpu.setImmediateExit(true);
			for (let i = 0; i < 2; i++) {
				expect(guest.vcpu.run()).toEqual({ reason: "intr" });
				const { rax, rcx, rip } = guest.vcpu.getRegs();
				expect([rax & 0xffn, rcx, rip]).toEqual([0x5an, 0n, BigInt(START + 2)]);
			}
			guest.vcpu.setImmediateExit(false);
			expect(guest.run()).toEqual({ reason: "hlt" });
			expect(guest.vcpu.getRegs().rcx).toBe(1n);
			guest.vm.close();
		},
	},
	{
		name: "memory-mapped I/O where no slot is, and where a read-only one is written",
		check(kvm) {
			// mov ax,0x8000; mov ds,ax; mov word [0x10],0xbeef; mov bx,[0x20]; mov ax,0x9000; mov ds,ax; mov al,[0]; mov [0],bl; hlt
			const code = [
				0xb8, 0, 0x80, 0x8e, 0xd8, 0xc7, 0x06, 0x10, 0, 0xef, 0xbe, 0x8b, 0x1e, 0x20, 0, 0xb8, 0, 0x90, 0x8e, 0xd8,
				0xa0, 0, 0, 0x88, 0x1e, 0, 0, 0xf4,
			];
			const guest = realModeGuest(kvm, code);
			const rom = guest.vm.createMemory(4096);
			rom.view(0, 1)[0] = 0x77;
			guest.vm.setUserMemoryRegion({ slot: 3, guestPhysAddr: 0x90000, memorySize: 4096, memory: rom, readonly: true });
			expect(frozen(guest.run())).toEqual({ reason: "mmio", physAddr: 0x80010, isWrite: true, data: [0xef, 0xbe] });
			const read = guest.run();
			expect(read).toMatchObject({ reason: "mmio", physAddr: 0x80020, isWrite: false });
			if (read.reason === "mmio") {
				expect(read.data.length).toBe(2);
				read.data.set([0x5a, 0xa5]);
			}
			expect(frozen(guest.run())).toEqual({ reason: "mmio", physAddr: 0x90000, isWrite: true, data: [0x5a] });
			expect(guest.run()).toEqual({ reason: "hlt" });
			const { rax, rbx } = guest.vcpu.getRegs();
			expect([rax & 0xffn, rbx & 0xffffn]).toEqual([0x77n, 0xa55an]);
			expect(rom.view(0, 1)[0]).toBe(0x77);
			guest.vm.close();
		},
	},
	{
		name: "KVM_INTERRUPT through the real-mode vector table, when the guest is ready for it",
		check(kvm) {
			// sti; nop; L: inc cx; jmp L
			const guest = realModeGuest(kvm, [0xfb, 0x90, 0x41, 0xeb, 0xfd]);
			// Vector 0x20: hlt; iret
			guest.memory.view(0x80, 4).set([0x00, 0x30, 0, 0]);
			guest.memory.view(0x3000, 2).set([0xf4, 0xcf]);
			guest.vcpu.requestInterruptWindow = true;
			expect(guest.run()).toEqual({ reason: "irq-window-open" });
			expect(guest.vcpu.readyForInterruptInjection).toBe(true);
			guest.vcpu.requestInterruptWindow = false;
			guest.vcpu.interrupt(0x20);
			expect(guest.run()).toEqual({ reason: "hlt" });
			const { rip, rsp, rflags } = guest.vcpu.getRegs();
			expect([rip, rsp, rflags & 0x200n]).toEqual([0x3001n, 0x7ffan, 0n]);
			expect(errno(() => guest.vcpu.interrupt(256))).toBe("EINVAL");
			guest.vm.close();
		},
	},
	{
		name: "single step and an execution breakpoint",
		check(kvm) {
			// mov ax,1; mov bx,2; nop; nop; hlt
			const guest = realModeGuest(kvm, [0xb8, 1, 0, 0xbb, 2, 0, 0x90, 0x90, 0xf4]);
			guest.vcpu.setGuestDebug({ enable: true, singleStep: true });
			expect(guest.run()).toMatchObject({ reason: "debug", exception: 1, pc: BigInt(START + 3) });
			expect(guest.run()).toMatchObject({ reason: "debug", exception: 1, pc: BigInt(START + 6) });
			guest.vcpu.setGuestDebug({
				enable: true,
				hardwareBreakpoints: [{ address: BigInt(START + 7), kind: "execute", length: 1 }],
			});
			const exit = guest.run();
			expect(exit).toMatchObject({ reason: "debug", exception: 1, pc: BigInt(START + 7) });
			if (exit.reason === "debug") expect(exit.dr6 & 15n).toBe(1n);
			guest.vcpu.setGuestDebug({ enable: false });
			expect(guest.run()).toEqual({ reason: "hlt" });
			guest.vm.close();
		},
	},
	{
		name: "slices end a guest that spins, immediate exit any guest",
		check(kvm) {
			const guest = realModeGuest(kvm, [0xeb, 0xfe]);
			guest.vcpu.setSlice({ milliseconds: 3, instructions: 1_000_000 });
			const before = performance.now();
			for (let i = 0; i < 3; i++) expect(guest.vcpu.run()).toEqual({ reason: "intr" });
			expect(performance.now() - before).toBeLessThan(2000);
			guest.vcpu.setImmediateExit(true);
			expect(guest.vcpu.run()).toEqual({ reason: "intr" });
			guest.vcpu.setImmediateExit(false);
			expect(guest.vcpu.getRegs().rip).toBe(BigInt(START));
			guest.vm.close();
		},
	},
	{
		name: "a triple fault shuts down",
		check(kvm) {
			// ud2, in protected mode with an empty IDT
			const guest = realModeGuest(kvm, [0x0f, 0x0b]);
			const sregs = guest.vcpu.getSregs();
			sregs.cr0 |= 1n;
			sregs.idt = { base: 0n, limit: 0 };
			for (const name of ["cs", "ds", "es", "ss", "fs", "gs"] as const) {
				Object.assign(sregs[name], { base: 0n, limit: 0xffffffff, g: 1, db: 1, selector: name === "cs" ? 8 : 16 });
			}
			guest.vcpu.setSregs(sregs);
			expect(guest.run()).toEqual({ reason: "shutdown" });
			guest.vm.close();
		},
	},
	{
		name: "ioevents take writes that match and no others",
		check(kvm) {
			// mov dx,0x600; mov ax,7; out dx,ax; mov al,8; out dx,al; hlt
			const guest = realModeGuest(kvm, [0xba, 0, 6, 0xb8, 7, 0, 0xef, 0xb0, 8, 0xee, 0xf4]);
			const seen: number[] = [];
			const event = { space: "pio", address: 0x600, length: 2, datamatch: 7 } as const;
			const remove = guest.vm.registerIoevent(event, (value) => seen.push(value));
			expect(errno(() => guest.vm.registerIoevent(event, () => {}))).toBe("EEXIST");
			expect(guest.run()).toMatchObject({ reason: "io", port: 0x600, size: 1 });
			expect(seen).toEqual([7]);
			remove();
			expect(guest.run()).toEqual({ reason: "hlt" });
			guest.vm.close();
		},
	},
	...(["legacy", "pae", "4-level"] as const).map(
		(format): Promise12 => ({
			name: `translation through ${format} tables`,
			needs: format === "4-level" ? "long" : "paging",
			check(kvm) {
				const guest = realModeGuest(kvm, [0xf4]);
				const bytes = guest.memory.view(0, GUEST_BYTES);
				const tables = new PageTables(format, bytes, 0, { start: 0x10000, bytes: 0x8000 });
				tables.map(0x5000n, 0x1000, 0x2000, 0x1000, { user: true });
				tables.map(0x8000n, 0x3000, 0x1000, 0x1000, { write: false });
				tables.map(0xc000_0000n, 0, 1, format === "legacy" ? 0x40_0000 : 0x20_0000);
				guest.memory.written(0, GUEST_BYTES);
				const from = guest.vcpu.getSregs();
				const paging = { format, root: tables.root };
				guest.vcpu.setSregs(format === "4-level" ? longMode(from, tables.root) : protectedMode(from, paging));
				const physical = (linear: bigint): number | undefined => {
					const { valid, physicalAddress } = guest.vcpu.translateGva(linear);
					return valid ? physicalAddress : undefined;
				};
				const addresses = [0x5123n, 0x6fffn, 0x8000n, 0xc012_3456n, 0x7000n, 0x4fffn];
				expect.soft(addresses.map(physical), format).toEqual([0x1123, 0x2fff, 0x3000, 0x12_3456, undefined, undefined]);
				guest.vm.close();
			},
		}),
	),
	{
		name: "translation without paging, and views that end with the memory",
		check(kvm) {
			const guest = realModeGuest(kvm, [0xf4]);
			expect(guest.vcpu.translateGva(0x1234n)).toMatchObject({ physicalAddress: 0x1234, valid: true });
			expect(errno(() => guest.memory.view(GUEST_BYTES - 4, 8))).toBe("EINVAL");
			expect(errno(() => guest.memory.view(-1, 8))).toBe("EINVAL");
			guest.vm.close();
			expect(() => guest.memory.view(0, 8)).toThrow(KvmError);
			expect(() => guest.vcpu.run()).toThrow(KvmError);
			guest.vm.close();
		},
	},
	...optional,
];
