import { describe, expect, test } from "vitest";
import type { Kvm, VcpuExit } from "../../src/kvm/types.ts";
import { engines } from "./engines.ts";
import { journeyGuest, LONG, long, VECTOR } from "./journey-guest.ts";

/** Each engine must see the same exits on the journey and end with the same registers. */

/** Runs to the second HLT; answers what is read. */
function journey(kvm: Kvm): { trace: unknown[]; registers: unknown } {
	const { vm, vcpu, run } = journeyGuest(kvm);
	const trace: unknown[] = [];
	for (let halts = 0; halts < 2; ) {
		const exit: VcpuExit = run();
		const isRead = (exit.reason === "io" && exit.direction === "in") || (exit.reason === "mmio" && !exit.isWrite);
		trace.push("data" in exit ? { ...exit, data: isRead ? exit.data.length : [...exit.data] } : exit);
		if (exit.reason === "io" && exit.direction === "in") exit.data.set([0xde, 0xc0, 0xad, 0x0b]);
		else if (exit.reason === "mmio" && !exit.isWrite) exit.data.set([1, 2, 3, 4]);
		else if (exit.reason === "hlt") {
			if (++halts === 1) {
				expect(vcpu.readyForInterruptInjection).toBe(true);
				vcpu.interrupt(VECTOR);
			}
		} else if (exit.reason !== "io" && exit.reason !== "mmio") break;
	}
	const { cs, ss, cr0, cr3, cr4, efer } = vcpu.getSregs();
	const registers = { regs: vcpu.getRegs(), cs, ss: { ...ss, type: ss.type | 1 }, cr0, cr3, cr4, efer };
	vm.close();
	return { trace, registers };
}

/** The addresses a debugger steps over. */
function steps(kvm: Kvm, count: number): bigint[] {
	const { vm, vcpu, run } = journeyGuest(kvm);
	vcpu.setGuestDebug({ enable: true, singleStep: true });
	const seen: bigint[] = [];
	while (seen.length < count) {
		const exit = run();
		if (exit.reason === "debug") seen.push(exit.pc);
		else if (exit.reason !== "io" && exit.reason !== "mmio") throw new Error(exit.reason);
	}
	vm.close();
	return seen;
}

const [software, hardware] = await engines();

test("the software engine takes the journey", () => {
	const { trace, registers } = journey(software!.kvm!);
	expect(trace.map((exit) => (exit as VcpuExit).reason)).toEqual([
		"io",
		"mmio",
		"mmio",
		"io",
		"io",
		"hlt",
		"io",
		"io",
		"hlt",
	]);
	expect(registers).toMatchObject({
		regs: { rbx: 0x04030201n, r15: 0x1122334455667788n, rip: BigInt(LONG + long.length) },
		cs: { selector: 0x18, l: 1 },
		efer: 0x500n,
	});
});

const why = hardware?.reason === undefined ? "" : ` (${hardware.reason})`;
describe.skipIf(hardware?.kvm === undefined)(`both engines${why}`, () => {
	test("see the same exits and end with the same registers", () => {
		expect(journey(software!.kvm!)).toEqual(journey(hardware!.kvm!));
	});

	test("step over the same instructions", () => {
		expect(steps(software!.kvm!, 12)).toEqual(steps(hardware!.kvm!, 12));
	});
});
