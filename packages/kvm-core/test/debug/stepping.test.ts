import { describe, expect, test } from "vitest";
import type { Kvm, Regs } from "../../src/kvm/types.ts";
import { stepExit } from "../../src/machine/machine.ts";
import { engines } from "../kvm/engines.ts";
import { journeyGuest, LONG, long, ON_INTERRUPT, ON_UD, VECTOR } from "../kvm/journey-guest.ts";

/**
 * The journey through real, protected and long mode one instruction at a time, I/O, exception and interrupt included:
 * after each, both engines stand at the same place with the same registers.
 */

/** Behind the first HLT. */
const AFTER_HLT = BigInt(LONG + long.indexOf(0xf4) + 1);
/** Where the handlers' IRETQ stand. */
const RETURNS: readonly bigint[] = [BigInt(ON_UD + 7), BigInt(ON_INTERRUPT + 2)];

interface Step {
	pc: bigint;
	regs: Regs;
	cr0: bigint;
	efer: bigint;
	cs: number;
}

function stepThrough(kvm: Kvm): Step[] {
	const { vm, vcpu, run } = journeyGuest(kvm);
	// At reset RDX names the processor.
	vcpu.setRegs({ ...vcpu.getRegs(), rdx: 0n });
	vcpu.setGuestDebug({ enable: true, singleStep: true });
	const steps: Step[] = [];
	const note = (): void => {
		const { cs, cr0, efer } = vcpu.getSregs();
		const regs = vcpu.getRegs();
		// RF and TF are the stepping's own affair.
		regs.rflags &= ~0x1_0100n;
		steps.push({ pc: stepExit(vcpu).pc, regs, cr0, efer, cs: cs.selector });
	};
	let interrupted = false;
	while (steps.length < 200) {
		const exit = run();
		if (exit.reason === "io" || exit.reason === "mmio") {
			const isRead = exit.reason === "io" ? exit.direction === "in" : !exit.isWrite;
			if (isRead) exit.data.set([0xde, 0xc0, 0xad, 0x0b].slice(0, exit.data.length));
			vcpu.setImmediateExit(true);
			vcpu.run();
			vcpu.setImmediateExit(false);
			note();
		} else if (exit.reason === "debug") note();
		else if (exit.reason !== "hlt") throw new Error(`exit ${exit.reason}`);
		const pc = steps.at(-1)?.pc;
		if (pc === AFTER_HLT && !interrupted) {
			interrupted = true;
			vcpu.interrupt(VECTOR);
		}
		if (pc === BigInt(LONG + long.length)) break;
	}
	vm.close();
	return steps;
}

const [software, hardware] = await engines();

test("the software engine steps to the end of the journey", () => {
	const steps = stepThrough(software!.kvm!);
	expect(steps.at(-1)?.pc).toBe(BigInt(LONG + long.length));
	// No instruction is passed over: each step's place is one the code has.
	expect(new Set(steps.map(({ pc }) => pc)).size).toBeGreaterThan(30);
	expect(steps.some(({ efer }) => (efer & 0x400n) !== 0n)).toBe(true);
});

const why = hardware?.reason === undefined ? "" : ` [${hardware.reason}]`;
describe.skipIf(hardware?.kvm === undefined)(`both engines${why}`, () => {
	test("stand at the same places with the same registers", () => {
		const ours = stepThrough(software!.kvm!);
		const theirs = stepThrough(hardware!.kvm!);
		// A kvm-pvm host executes IRETQ and the instruction it returns to in one step.
		const together = ours.filter((_, i) => !RETURNS.includes(ours[i - 1]?.pc ?? 0n));
		const like = theirs.length === ours.length ? ours : together;
		expect(theirs.map(({ pc }) => pc)).toEqual(like.map(({ pc }) => pc));
		expect(theirs).toEqual(like);
	});
});
