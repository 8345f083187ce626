import { expect } from "vitest";
import type { Kvm } from "../../src/kvm/types.ts";
import { errno, type Promise12 } from "./promise.ts";
import { realModeGuest, START } from "./real-mode.ts";

/** ENOTTY of an engine without an operation, or what the hardware answers. */
function lacksOr(kvm: Kvm, hardware: string): string {
	return kvm.engine === "software" ? "ENOTTY" : hardware;
}

/** Waits until the event loop brings what is asked for. */
async function until(done: () => boolean): Promise<void> {
	for (let i = 0; i < 2000 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
	expect(done()).toBe(true);
}

/** What kvm-ioctls has beyond the everyday. */
export const optional: readonly Promise12[] = [
	{
		name: "machine types: 0 everywhere, others EINVAL",
		check(kvm) {
			kvm.createVm({ type: 0 }).close();
			expect(errno(() => kvm.createVm({ type: 77 }))).toBe("EINVAL");
		},
	},
	{
		name: "feature MSRs: the list, their values, and nothing of those it does not name",
		check(kvm) {
			const list = kvm.getMsrFeatureIndexList();
			const values = kvm.getMsrs(list);
			expect(values.map(({ index }) => index)).toEqual(list);
			expect(kvm.getMsrs([0x4a5a5a5a])).toEqual([]);
			for (const { function: leaf } of kvm.getEmulatedCpuid()) expect(leaf).toBeGreaterThanOrEqual(0);
		},
	},
	{
		name: "run page: its size, if_flag, cr8, apic_base",
		check(kvm) {
			// sti; hlt
			const guest = realModeGuest(kvm, [0xfb, 0xf4]);
			expect(guest.vm.getRunSize()).toBe(kvm.getVcpuMmapSize());
			expect(guest.run()).toEqual({ reason: "hlt" });
			expect([guest.vcpu.ifFlag, guest.vcpu.cr8]).toEqual([true, 0n]);
			expect(guest.vcpu.apicBase).toBe(guest.vcpu.getSregs().apicBase);
			guest.vm.close();
		},
	},
	{
		name: "registers read after one exit after another are those of that exit, however they were set in between",
		check(kvm) {
			// L: inc cx; out 0x10, al; jmp L
			const guest = realModeGuest(kvm, [0x41, 0xe6, 0x10, 0xeb, 0xfb]);
			const seen: bigint[] = [];
			for (let i = 0; i < 6; i++) {
				expect(guest.run()).toMatchObject({ reason: "io", port: 0x10 });
				const regs = guest.vcpu.getRegs();
				seen.push(regs.rcx);
				if (i === 3) {
					guest.vcpu.setRegs({ ...regs, rcx: 0x70n });
					expect(guest.vcpu.getRegs().rcx).toBe(0x70n);
				}
				expect(guest.vcpu.getSregs().cs.selector).toBe(0);
			}
			expect(seen).toEqual([1n, 2n, 3n, 4n, 0x71n, 0x72n]);
			const sregs = guest.vcpu.getSregs();
			guest.vcpu.setSregs({ ...sregs, cr2: 0x1234n });
			expect(guest.vcpu.getSregs().cr2).toBe(0x1234n);
			guest.vm.close();
		},
	},
	{
		name: "irqfd: pulses come out as the line's interrupt; closed, it is EINVAL; without an irqchip ENXIO or EINVAL",
		check(kvm) {
			// Masks all but IRQ 4, vectors from 0x20: out 0x20,0x11; out 0x21,0x20; out 0x21,4; out 0x21,1; out 0x21,0xef; sti; L: jmp L
			const code = [
				[0x20, 0x11],
				[0x21, 0x20],
				[0x21, 4],
				[0x21, 1],
				[0x21, 0xef],
			].flatMap(([port, value]) => [0xb0, value!, 0xe6, port!]);
			const guest = realModeGuest(kvm, [...code, 0xfb, 0xeb, 0xfe], (vm) => vm.createIrqChip());
			// Vector 0x24: out 0x77, al; cli; hlt
			guest.memory.view(0x24 * 4, 4).set([0x00, 0x30, 0, 0]);
			guest.memory.view(0x3000, 4).set([0xe6, 0x77, 0xfa, 0xf4]);
			guest.memory.written(0, 0x4000);
			guest.vcpu.setSlice({ milliseconds: 5, instructions: 100_000 });
			const irqfd = guest.vm.registerIrqfd(4);
			// Until it has its interrupts on: a pulse before that is lost.
			do expect(guest.vcpu.run()).toEqual({ reason: "intr" });
			while (!guest.vcpu.ifFlag);
			irqfd();
			expect(guest.run()).toMatchObject({ reason: "io", port: 0x77 });
			irqfd.close();
			irqfd.close();
			expect(errno(() => irqfd())).toBe("EINVAL");
			guest.vm.close();
			const bare = kvm.createVm();
			expect(["ENXIO", "EINVAL"]).toContain(errno(() => bare.registerIrqfd(4)));
			bare.close();
		},
	},
	{
		name: "deferred ioevents: the guest goes on, the event loop tells",
		async check(kvm) {
			// mov dx,0x600; mov ax,7; out dx,ax; out dx,ax; hlt
			const guest = realModeGuest(kvm, [0xba, 0, 6, 0xb8, 7, 0, 0xef, 0xef, 0xf4]);
			const seen: number[] = [];
			const event = { space: "pio", address: 0x600, length: 2, datamatch: 7, deferred: true } as const;
			const remove = guest.vm.registerIoevent(event, (value) => seen.push(value));
			expect(errno(() => guest.vm.registerIoevent(event, () => {}))).toBe("EEXIST");
			expect(guest.run()).toEqual({ reason: "hlt" });
			await until(() => seen.length > 0);
			expect(new Set(seen)).toEqual(new Set([7]));
			remove();
			remove();
			guest.vcpu.setRegs({ ...guest.vcpu.getRegs(), rip: BigInt(START) });
			expect(guest.run()).toMatchObject({ reason: "io", port: 0x600 });
			guest.vm.close();
		},
	},
	{
		name: "statistics under KVM's names",
		check(kvm) {
			// out 0x10, al; mov [0x9000:0], al (no memory there); hlt
			const guest = realModeGuest(kvm, [0xe6, 0x10, 0xb8, 0, 0x90, 0x8e, 0xd8, 0xa2, 0, 0, 0xf4]);
			while (guest.run().reason !== "hlt");
			const { exits, io_exits, mmio_exits, halt_exits } = guest.vcpu.getStats();
			expect(exits).toBeGreaterThan(0n);
			// kvm-pvm emulates these instructions, and counts only what its processor exits for.
			for (const count of [io_exits, mmio_exits, halt_exits]) {
				expect(count).toBeGreaterThanOrEqual(kvm.engine === "software" ? 1n : 0n);
			}
			for (const value of Object.values(guest.vm.getStats())) expect(typeof value).toBe("bigint");
			guest.vm.close();
		},
	},
	{
		name: "options that only a kernel or a processor has: done, or refused with its errno",
		check(kvm) {
			const guest = realModeGuest(kvm, [0xf4]);
			const { vm, vcpu } = guest;
			expect(errno(() => vm.enableCap({ capability: "no-such-capability" }))).toBe("EINVAL");
			expect(errno(() => vcpu.enableCap({ capability: "no-such-capability" }))).toBe("EINVAL");
			expect(errno(() => vm.createDevice(999))).toBe(lacksOr(kvm, "ENODEV"));
			expect(errno(() => vm.encryptOp(new Uint8Array(8)))).toBe("ENOTTY");
			expect(errno(() => vm.registerEncMemoryRegion({ address: 0n, size: 4096 }))).toBe("ENOTTY");
			expect(errno(() => vm.unregisterEncMemoryRegion({ address: 0n, size: 4096 }))).toBe("ENOTTY");
			// Dirty pages are let go of one by one only with manual protection on.
			expect(errno(() => vm.clearDirtyLog(0, 0, 32, new Uint8Array(4)))).toBe(lacksOr(kvm, "no error"));
			// After a vCPU is made, it is too late.
			expect(errno(() => vm.setBootCpuId(0))).toBe(lacksOr(kvm, "EBUSY"));
			expect(errno(() => vm.setReinject(false))).toBe(lacksOr(kvm, "ENXIO"));
			// KVM says EINVAL where the guest has no kvm-clock to be told.
			expect(errno(() => vcpu.kvmclockCtrl())).toBe(lacksOr(kvm, "EINVAL"));
			expect(["ENOTTY", "EINVAL", "no error"]).toContain(errno(() => vcpu.smi()));
			expect(["ENOTTY", "EINVAL", "ENOENT"]).toContain(errno(() => vcpu.getOneReg(0xffffn, 8)));
			for (const refused of [
				() => vm.createGuestMemfd(4096),
				() => vm.setMemoryAttributes({ address: 0, size: 4096, attributes: 8n }),
			]) {
				expect(["ENOTTY", "EINVAL", "no error"]).toContain(errno(refused));
			}
			vm.close();
		},
	},
	{
		name: "system registers 2: the same as system registers, and PAE's pointers where they count",
		check(kvm) {
			const { vm, vcpu } = realModeGuest(kvm, [0xf4]);
			if (kvm.checkExtension("sregs2") === 0) expect(errno(() => vcpu.getSregs2())).toBe("ENOTTY");
			else {
				const { interruptBitmap: _, ...sregs } = vcpu.getSregs();
				expect(vcpu.getSregs2()).toEqual(sregs);
				vcpu.setSregs2({ ...vcpu.getSregs2(), cr2: 0x77n });
				expect(vcpu.getSregs().cr2).toBe(0x77n);
			}
			vm.close();
		},
	},
	{
		name: "coalesced writes: kept in a ring, in order, until read",
		check(kvm) {
			// mov ax,0x9000; mov ds,ax; mov [0x10],al; mov [0x14],ax; hlt
			const guest = realModeGuest(kvm, [0xb8, 0, 0x90, 0x8e, 0xd8, 0xa2, 0x10, 0, 0xa3, 0x14, 0, 0xf4]);
			const zone = { address: 0x90000, size: 0x1000, space: "mmio" } as const;
			if (kvm.checkExtension("coalesced-mmio") === 0) {
				expect(errno(() => guest.vm.registerCoalescedMmio(zone))).toBe("ENOTTY");
				expect(errno(() => guest.vcpu.readCoalescedMmio())).toBe("ENOTTY");
			} else {
				guest.vm.registerCoalescedMmio(zone);
				expect(guest.run()).toEqual({ reason: "hlt" });
				const read = () => guest.vcpu.readCoalescedMmio();
				expect(read()).toEqual({ space: "mmio", address: 0x90010, data: Uint8Array.of(0x00) });
				expect(read()).toEqual({ space: "mmio", address: 0x90014, data: Uint8Array.of(0x00, 0x90) });
				expect(read()).toBeUndefined();
				guest.vm.unregisterCoalescedMmio(zone);
			}
			guest.vm.close();
		},
	},
	{
		name: "closed, every operation of VM and vCPU is ENODEV",
		check(kvm) {
			const { vm, vcpu, memory } = realModeGuest(kvm, [0xf4]);
			vm.close();
			expect(errno(() => vm.createMemory(4096))).toBe("ENODEV");
			expect(errno(() => memory.view(0, 16))).toBe("ENODEV");
			expect(errno(() => vcpu.run())).toBe("ENODEV");
			expect(errno(() => vm.createVcpu(1))).toBe("ENODEV");
			vm.close();
		},
	},
];
