import { expect, test } from "vitest";
import { Debugger } from "../../src/debug/debugger.ts";
import { type KeptVm, VmHistory } from "../../src/debug/vm-history.ts";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import type { Vm } from "../../src/kvm/types.ts";
import { GuestRam } from "../../src/machine/guest-ram.ts";
import { GUEST_BYTES, realModeGuest, START } from "../kvm/real-mode.ts";

const HANDLER = 0x3000;
/** Interrupts of the PIT count at 2000h; the loop reads a port and the TSC into what it adds up. */
const CODE = [
	...[0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21], // PIC: vectors 20h
	...[0xb0, 0xfe, 0xe6, 0x21], // all but the PIT masked
	...[0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x08, 0xe6, 0x40, 0xb0, 0x00, 0xe6, 0x40], // PIT: every 8 ticks
	0xfb, // sti
	...[0xe4, 0x90, 0x00, 0xc3, 0x0f, 0x31, 0x01, 0xc1, 0xeb, 0xf6], // L: in al,90h; add bl,al; rdtsc; add cx,ax; jmp L
];
const LOOP = START + 33;

function recorded(): { history: VmHistory; debug: Debugger; look(): unknown; asked(): number; close(): void } {
	const kvm = openKvm({
		time: { kind: "virtual", nanosecondsPerInstruction: 1 },
		wallClock: () => 0,
		random: () => 1n,
	});
	const { vm, vcpu, memory } = realModeGuest(kvm, CODE, (made: Vm) => {
		made.createIrqChip();
		made.createPit2();
	});
	memory.view(0x20 * 4, 4).set([HANDLER & 255, HANDLER >> 8, 0, 0]);
	// push ax; inc word [2000h]; mov al,20h; out 20h,al; pop ax; iret
	memory.view(HANDLER, 11).set([0x50, 0xff, 0x06, 0x00, 0x20, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]);
	memory.written(0, 0x4000);
	let asked = 0;
	const history = new VmHistory({
		vm: vm as unknown as KeptVm,
		vcpu,
		memory: [memory],
		spacing: 5_000,
		serve(exit) {
			if (exit.reason === "io" && exit.direction === "in") exit.data[0] = (asked++ * 37) & 0xff;
		},
	});
	const ram = new GuestRam();
	ram.add(0, GUEST_BYTES, memory, 0);
	const debug = new Debugger(
		{
			vm,
			vcpus: [vcpu],
			held: new Set(),
			stepping: undefined,
			ram,
			read: (address, into) => ram.read(address, into),
			stop: () => undefined,
			run: async () => ({
				...(history.run() as Extract<ReturnType<typeof history.run>, { reason: "debug" }>),
				vcpu: 0,
			}),
		},
		history,
	);
	return {
		history,
		debug,
		look: () => ({
			regs: vcpu.getRegs(),
			memory: [...memory.view(0x2000, 2), ...memory.view(0x7f00, 0x100)],
			irqchip: vm.getIrqchip(),
		}),
		asked: () => asked,
		close() {
			vm.close();
			kvm.close();
		},
	};
}

test("every instant is come back to in the state it had", async () => {
	const { history, debug, look, asked, close } = recorded();
	debug.addPoint({ kind: "hardware", address: BigInt(HANDLER), length: 1 });
	const seen: { instant: number; state: unknown }[] = [];
	for (let tick = 0; tick < 8; tick++) {
		expect((await debug.resume()).reason).toBe("breakpoint");
		seen.push({ instant: history.now, state: look() });
	}
	expect(history.checkpoints.length).toBeGreaterThan(3);
	const questions = asked();
	for (const { instant, state } of [seen[3]!, seen[7]!, seen[0]!, seen[5]!]) {
		history.goTo(instant);
		expect(history.now).toBe(instant);
		expect(look()).toEqual(state);
	}
	// The past is not asked about again.
	expect(asked()).toBe(questions);
	close();
});

test("steps and runs backwards, and forwards again the same way", async () => {
	const { history, debug, look, close } = recorded();
	const handler = { kind: "hardware", address: BigInt(HANDLER), length: 1 } as const;
	debug.addPoint(handler);
	await debug.resume();
	const firstTick = look();
	const first = history.now;
	await debug.resume();
	await debug.resume();
	const there = { instant: history.now, state: look() };
	const path: [number, bigint][] = [];
	for (let i = 0; i < 20; i++) {
		path.push([history.now, debug.pc(0)]);
		expect((await debug.reverseStep()).reason).toBe("step");
	}
	expect(debug.pc(0)).toBeGreaterThanOrEqual(BigInt(LOOP));
	expect((await debug.reverseContinue()).reason).toBe("breakpoint");
	expect((await debug.reverseContinue()).reason).toBe("breakpoint");
	expect([history.now, look()]).toEqual([first, firstTick]);
	expect((await debug.reverseContinue()).reason).toBe("history-begin");
	expect([history.now, debug.pc(0)]).toEqual([history.first, BigInt(START)]);
	for (let i = 0; i < 3; i++) expect((await debug.resume()).reason).toBe("breakpoint");
	expect([history.now, look()]).toEqual([there.instant, there.state]);
	close();
});

test("begins anew where the machine was changed from outside", async () => {
	const { history, debug, look, close } = recorded();
	debug.addPoint({ kind: "hardware", address: BigInt(HANDLER), length: 1 });
	await debug.resume();
	await debug.resume();
	const changed = history.now;
	debug.writeMemory(0, 0x2100n, new Uint8Array([7]));
	expect((await debug.reverseStep()).reason).toBe("history-begin");
	expect(history.now).toBe(changed);
	await debug.resume();
	const later = look();
	await debug.resume();
	expect((await debug.reverseContinue()).reason).toBe("breakpoint");
	expect(look()).toEqual(later);
	expect((await debug.reverseContinue()).reason).toBe("history-begin");
	expect(history.now).toBe(changed);
	expect([...debug.readMemory(0, 0x2100n, 1)]).toEqual([7]);
	close();
});
