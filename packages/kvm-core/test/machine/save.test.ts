import { describe, expect, test } from "vitest";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import { createMachine, type Machine } from "../../src/machine/machine.ts";
import { MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { VirtioRng } from "../../src/machine/virtio/rng.ts";
import { FakeKvm } from "./fake-kvm.ts";
import { VirtualTime, virtualScheduler } from "./virtual-time.ts";

const MIB = 2 ** 20;

/** Real-mode code at 1000h: programs the PIT for a tick every millisecond or so, and counts in memory and on the serial port. */
const PROGRAM = Uint8Array.from([
	...[0xb0, 0x34, 0xe6, 0x43], // mov al,34h; out 43h,al: counter 0, rate generator
	...[0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40], // 1193 ticks
	...[0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21], // PIC at vector 8
	...[0xb0, 0xfe, 0xe6, 0x21], // all masked but the timer
	...[0xc7, 0x06, 0x20, 0x00, 0x40, 0x10, 0xc7, 0x06, 0x22, 0x00, 0x00, 0x00], // vector 8: 0000:1040
	...[0xfb, 0xf4, 0xeb, 0xfc], // sti; hlt; jmp $-2
]);
/** At 1040h: inc word [2000h]; al = '0' + (count & 7); out 3f8h,al; EOI; iret. */
const HANDLER = Uint8Array.from([
	...[0xff, 0x06, 0x00, 0x20, 0xa0, 0x00, 0x20, 0x24, 0x07, 0x04, 0x30],
	...[0xba, 0xf8, 0x03, 0xee, 0xb0, 0x20, 0xe6, 0x20, 0xcf],
]);

function make(time: VirtualTime): { machine: Machine; said: () => string } {
	let text = "";
	// Every look at the clock takes a microsecond.
	const now = (): number => (time.now += 1000);
	const machine = createMachine({
		kvm: openKvm({ time: { kind: "wall", now } }),
		memoryBytes: 4 * MIB,
		now,
		epochSeconds: 1_795_000_000,
		scheduler: virtualScheduler(time),
		onSerial: (bytes) => {
			text += String.fromCharCode(...bytes);
		},
		virtio: [new VirtioRng(() => {}), new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(4096)) })],
	});
	return { machine, said: () => text };
}

/** Runs until so many characters have come. */
async function until(length: number, { machine, said }: ReturnType<typeof make>): Promise<void> {
	const look = setInterval(() => said().length >= length && machine.stop(), 0);
	expect(await machine.run()).toEqual({ reason: "stopped" });
	clearInterval(look);
}

describe("a machine's state", () => {
	test("is gone on from by another machine: time, timers, interrupts and devices", async () => {
		const first = make(new VirtualTime());
		const [vcpu] = first.machine.vcpus;
		first.machine.prepareWithoutFirmware();
		first.machine.write(0x1000, PROGRAM);
		first.machine.write(0x1040, HANDLER);
		const { cs, ...rest } = vcpu!.getSregs();
		vcpu!.setSregs({ ...rest, cs: { ...cs, selector: 0, base: 0n } });
		vcpu!.setRegs({ ...vcpu!.getRegs(), rip: 0x1000n, rsp: 0x800n, rflags: 2n });
		await until(20, first);
		await first.machine.board.idle();
		const state = structuredClone(first.machine.save());
		const memory = first.machine.ram.windows().map(({ bytes }) => bytes.slice());
		const count = (machine: Machine): number => machine.ram.readU16(0x2000);
		const before = count(first.machine);
		first.machine.close();

		const later = new VirtualTime();
		const second = make(later);
		expect(() => second.machine.restore(state)).toThrowError(expect.objectContaining({ code: "ERR_MACHINE_STATE" }));
		for (const [i, { bytes }] of second.machine.ram.windows().entries()) bytes.set(memory[i]!);
		later.now = state.now;
		second.machine.restore(state);
		expect({ ...second.machine.save(), now: state.now }).toEqual(state);
		await until(20, second);
		// What follows is what would have followed, one tick after the other.
		const [from] = second.said();
		expect(Number(from)).toBe((before + 1) & 7);
		expect(count(second.machine) - before).toBe(second.said().length);
		second.machine.close();
	});

	test("cannot be had of a machine that runs, or of an engine that keeps none", async () => {
		const { machine } = make(new VirtualTime());
		expect(machine.canSave).toBe(true);
		machine.close();
		expect(() => machine.save()).toThrowError(expect.objectContaining({ code: "ERR_MACHINE_STATE" }));
		const time = new VirtualTime();
		const other = createMachine({
			kvm: new FakeKvm(time, function* (guest) {
				yield* guest.halt();
			}).kvm,
			memoryBytes: 16 * MIB,
			now: () => time.now,
			epochSeconds: 0,
			scheduler: virtualScheduler(time),
		});
		expect(other.canSave).toBe(false);
		expect(() => other.save()).toThrowError(expect.objectContaining({ code: "ERR_MACHINE_STATE" }));
		other.close();
	});
});
