import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { applyBootPlan, planFirmware } from "../../src/boot/index.ts";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import type { Vcpu } from "../../src/kvm/types.ts";
import { createMachine, type Machine } from "../../src/machine/machine.ts";
import { createEventLoopScheduler } from "../../src/machine/scheduler.ts";
import { MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { VirtualTime, virtualScheduler } from "./virtual-time.ts";

const CODE = 0x1000;
const POWER_OFF = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x34, 0xef]; // mov dx, 604h; mov ax, 3400h; out dx, ax

const text = (bytes: Uint8Array) => new TextDecoder("latin1").decode(bytes.slice());
const bytesOf = (value: string) => new TextEncoder().encode(value);

/** mov al, value; out port, al, or through DX for ports beyond a byte. */
function out(port: number, value: number): number[] {
	if (port < 0x100) return [0xb0, value, 0xe6, port];
	return [0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
}

/** A vCPU in real mode with flat segments, about to execute `code`. */
function enter(machine: Machine, code: readonly number[], vcpu = machine.vcpus[0]!, address = CODE): void {
	machine.write(address, Uint8Array.from(code));
	const sregs = vcpu.getSregs();
	for (const name of ["cs", "ds", "es", "ss"] as const) {
		sregs[name].base = 0n;
		sregs[name].selector = 0;
	}
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(address), rsp: BigInt(0x8000 + vcpu.id * 0x400), rflags: 2n });
}

function makeVirtual() {
	const time = new VirtualTime();
	// Every look at the clock takes a microsecond.
	const now = () => (time.now += 1000);
	const serial: string[] = [];
	const machine = createMachine({
		kvm: openKvm({ time: { kind: "wall", now } }),
		memoryBytes: 2 ** 21,
		now,
		epochSeconds: 1_795_000_000,
		scheduler: virtualScheduler(time),
		onSerial: (bytes) => serial.push(text(bytes)),
		testDevice: true,
	});
	return { machine, time, serial };
}

test("a guest prints and powers off", async () => {
	const { machine, serial } = makeVirtual();
	enter(machine, [...bytesOf("hello\n")].flatMap((byte) => out(0x3f8, byte)).concat(POWER_OFF));
	expect(await machine.run()).toEqual({ reason: "power-off" });
	expect(serial.join("")).toBe("hello\n");
	machine.close();
});

test("the PIT wakes a halted guest through the PIC at its rate, and sleeping costs no instructions", async () => {
	const { machine, time } = makeVirtual();
	// inc word [500h]; mov al, 20h; out 20h, al; iret
	machine.write(0x600, Uint8Array.of(0xff, 0x06, 0x00, 0x05, 0xb0, 0x20, 0xe6, 0x20, 0xcf));
	machine.write(8 * 4, Uint8Array.of(0x00, 0x06, 0x00, 0x00));
	enter(machine, [
		...[out(0x20, 0x11), out(0x21, 8), out(0x21, 4), out(0x21, 1), out(0x21, 0xfe), out(0xa1, 0xff)].flat(),
		...[out(0x43, 0x34), out(0x40, 0x9c), out(0x40, 0x2e)].flat(), // 11932 ticks: 10 ms
		0xfb, // sti
		...[0xf4, 0x83, 0x3e, 0x00, 0x05, 0x32, 0x72, 0xf8], // hlt; cmp word [500h], 50; jb
		0xfa,
		...POWER_OFF,
	]);
	const start = time.now;
	expect(await machine.run()).toEqual({ reason: "power-off" });
	const seconds = (time.now - start) / 1e9;
	expect(Math.abs(seconds - 0.5)).toBeLessThan(0.02);
	const slept = time.sleeps.reduce((sum, one) => sum + one, 0) / 1000;
	expect(slept).toBeGreaterThan(0.45);
	expect(machine.vcpus[0].instructionsRetired).toBeLessThan(1000);
	machine.close();
});

test("an interrupt from a processor that halts then wakes one that had its turn before it", async () => {
	const time = new VirtualTime();
	const now = () => (time.now += 1000);
	const kvm = openKvm({ time: { kind: "wall", now } });
	const options = { now, epochSeconds: 0, scheduler: virtualScheduler(time), onSerial: () => {} };
	const machine = createMachine({ kvm, memoryBytes: 2 ** 21, cpus: 2, ...options });
	const [first, second] = machine.vcpus as [Vcpu, Vcpu];
	const X2APIC_ENABLED = 0xfee0_0c00n;
	for (const [vcpu, code] of [
		// sti; hlt, and behind the interrupt's handler: power off.
		[first, [0xfb, 0xf4, ...POWER_OFF]],
		// mov ecx, 830h; mov eax, 40h; xor edx, edx; wrmsr: an interrupt for processor 0. sti; hlt
		[
			second,
			[...[0x66, 0xb9, 0x30, 0x08, 0, 0, 0x66, 0xb8, 0x40, 0, 0, 0, 0x66, 0x31, 0xd2, 0x0f, 0x30], ...[0xfb, 0xf4]],
		],
	] as const) {
		vcpu.setMpState("runnable");
		const { apicBase } = vcpu.getSregs();
		vcpu.setMsrs([
			{ index: 0x1b, data: X2APIC_ENABLED | (apicBase & 0x100n) },
			{ index: 0x80f, data: 0x1ffn }, // the spurious vector's register: APIC on
		]);
		enter(machine, code, vcpu, CODE + vcpu.id * 0x100);
	}
	machine.write(0x40 * 4, Uint8Array.of(0x00, 0x06, 0x00, 0x00));
	machine.write(0x600, Uint8Array.of(0xcf)); // iret
	expect(await machine.run()).toEqual({ reason: "power-off" });
	machine.close();
});

test("string output and port reads come through, and HLT with interrupts off is the end", async () => {
	const { machine, serial } = makeVirtual();
	machine.write(0x700, bytesOf("string"));
	enter(machine, [
		...[0xbe, 0x00, 0x07, 0xb9, 0x06, 0x00, 0xba, 0xf8, 0x03, 0xf3, 0x6e], // mov si; mov cx, 6; mov dx; rep outsb
		...out(0xe0, 0x2a),
		...[0xe4, 0xe0, 0xba, 0xf8, 0x03, 0xee], // in al, e0h; mov dx, 3f8h; out dx, al
		0xf4,
	]);
	expect(await machine.run()).toEqual({ reason: "halted" });
	expect(serial.join("")).toBe("string*");
	machine.close();
});

test.each([
	["in", [0xb9, 0x90, 0x01, 0xba, 0xf8, 0x03, 0xfb, 0xec, 0xee, 0xe2, 0xfc]], // 400 times: in al, dx; out dx, al; loop
	[
		"rep insb",
		[
			...[0xbf, 0x00, 0x09, 0xb9, 0x90, 0x01, 0xba, 0xf8, 0x03, 0xfb, 0xf3, 0x6c], // 400 bytes to 900h
			...[0xbe, 0x00, 0x09, 0xb9, 0x90, 0x01, 0xf3, 0x6e], // and from there out again
		],
	],
])("reads of %s that an interrupt could come between are not done twice", async (_name, echo) => {
	const { machine, serial } = makeVirtual();
	// mov al, 20h; out 20h, al; iret, with AX kept
	machine.write(0x600, Uint8Array.of(0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf));
	machine.write(8 * 4, Uint8Array.of(0x00, 0x06, 0x00, 0x00));
	const input = Uint8Array.from({ length: 400 }, (_, i) => 0x21 + (i % 90));
	machine.board.serial.input(input);
	enter(machine, [
		...[out(0x20, 0x11), out(0x21, 8), out(0x21, 4), out(0x21, 1), out(0x21, 0xfe), out(0xa1, 0xff)].flat(),
		...[out(0x43, 0x34), out(0x40, 0x08), out(0x40, 0x00)].flat(), // 8 ticks: 7 us
		...echo,
		...POWER_OFF,
	]);
	expect(await machine.run()).toEqual({ reason: "power-off" });
	expect(serial.join("")).toBe(text(input));
	machine.close();
});

const FIRMWARE = "/usr/share/seabios/bios-256k.bin";

test.skipIf(!existsSync(FIRMWARE))("SeaBIOS boots a virtio disk (skipped without Debian's seabios)", async () => {
	// Large enough to have cylinders.
	const disk = new Uint8Array(4096 * 512);
	disk.set([
		...[0x31, 0xc0, 0x8e, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov es, ax; mov ds, ax
		...[0xbb, 0x00, 0x7e, 0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13], // read sector 2 to 7e00h
		...[0x72, 0x12], // jc failed
		...[0xbe, 0x00, 0x7e, 0xba, 0xf8, 0x03], // mov si, 7e00h; mov dx, 3f8h
		...[0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8], // lodsb; test al, al; jz +3; out dx, al; jmp
		...[0xb0, 0x10, 0xe6, 0xf4], // mov al, 10h; out f4h, al
		...[0xb0, 0x11, 0xe6, 0xf4],
	]);
	disk.set([0x55, 0xaa], 510);
	disk.set(bytesOf("read by int 13h"), 512);
	const start = performance.now();
	const now = () => (performance.now() - start) * 1e6;
	const serial: string[] = [];
	const debug: string[] = [];
	const plan = planFirmware(readFileSync(FIRMWARE));
	const machine = createMachine({
		kvm: openKvm({ time: { kind: "wall", now } }),
		memoryBytes: 2 ** 25,
		now,
		epochSeconds: 1_795_000_000,
		scheduler: createEventLoopScheduler(),
		onSerial: (bytes) => serial.push(text(bytes)),
		onDebug: (bytes) => debug.push(text(bytes)),
		virtio: [new VirtioBlock({ backend: new MemoryBlockBackend(disk) })],
		debugExitPort: 0xf4,
		roms: plan.roms,
	});
	applyBootPlan(plan, machine, machine.vcpus[0]);
	const exit = await machine.run();
	machine.close();
	const log = debug.join("");
	// It found our tables by the loader script, and the disk by PCI.
	expect(log).toMatch(/ACPI: parse DSDT/);
	expect(log).toMatch(/virtio-blk/i);
	expect(log).toMatch(/Booting from Hard Disk/);
	expect({ exit, serial: serial.join("") }).toEqual({
		exit: { reason: "debug-exit", status: 33 },
		serial: "read by int 13h",
	});
});
