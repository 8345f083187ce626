import { afterAll, describe, expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm } from "../../src/hardware/index.node.ts";
import { openKvm } from "../../src/index.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { arithmetic } from "../../src/software/insn/arithmetic.ts";
import { bitOperations } from "../../src/software/insn/bit.ts";
import { branches } from "../../src/software/insn/branch.ts";
import { decimalRows } from "../../src/software/insn/decimal.ts";
import { systemFlagRows } from "../../src/software/insn/flags-system.ts";
import { moves } from "../../src/software/insn/move.ts";
import { shifts } from "../../src/software/insn/shift.ts";
import { stack } from "../../src/software/insn/stack.ts";
import { strings } from "../../src/software/insn/string.ts";
import { table } from "../../src/software/insn/table.ts";
import { compare } from "./compare.ts";
import { type Generated, Generator, variant } from "./generate.ts";
import { openEngineCpu } from "./guest.ts";
import {
	AC,
	type Difference,
	HOST_CLASSES,
	hostFault,
	isDrawn,
	isDrawnNative,
	losesAlignmentFlag,
	notEmulated,
} from "./host-emulator.ts";
import { compareKernel, type KernelMode, openKernelCpu, WIDTH } from "./kernel-guest.ts";
import { openNativeCpu } from "./native.ts";
import { type Case, CODE, CODE_BYTES, DATA, DATA_BYTES, END_SYSCALL, END_TIMEOUT, FX } from "./protocol.ts";
import { Rng } from "./rng.ts";
import { dataPages } from "./values.ts";

/**
 * The software engine against /dev/kvm: with a kernel's rights, where a kvm-pvm host emulates, and at CPL 3, where it
 * runs natively. By itself a few thousand cases; the campaign is
 *
 *     HARDWARE_CASES=200000 HARDWARE_SEED=1 npx vitest run --project kvm-core test/oracle/hardware.test.ts
 */
const { env } = process;
const total = Number(env["HARDWARE_CASES"] ?? 2400);
const firstSeed = Number(env["HARDWARE_SEED"] ?? 20061019);
const BATCH = Math.min(1024, total);
const VARIANTS = 4;
/** Of each class of the host's own differences, cases that the processor is asked about. */
const CONFIRMED = 25;
const GP = 13;
const NO_DATA = new Uint8Array(DATA_BYTES);

async function hardware(): Promise<Kvm | { reason: string }> {
	try {
		return await openHardwareKvm();
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { reason: error.message };
		throw error;
	}
}

const kvm = await hardware();
const native = openNativeCpu();
const software = openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } });
const why = "reason" in kvm ? ` (${kvm.reason})` : "";
const integerRows = [
	...arithmetic,
	...bitOperations,
	...moves,
	...shifts,
	...strings,
	...stack,
	...branches,
	...decimalRows,
	...systemFlagRows,
].filter(isDrawn);

afterAll(() => {
	if (!("reason" in native)) native.close();
	if (!("reason" in kvm)) kvm.close();
});

/** Without paging little keeps a branch through a register, the stack, or far ahead from running whatever memory holds. */
function usable(mode: KernelMode, { rows }: Generated): boolean {
	if (mode === "real" && rows.some((row) => row.operands === "Jz")) return false;
	return mode === "long" || !rows.some((row) => /^(jmp|call|ret)/.test(row.name) && !row.operands.includes("J"));
}

function* batches(generator: Generator, mode: 16 | 32 | 64, accept: (made: Generated) => boolean) {
	for (let seed = firstSeed; ; seed++) {
		const rng = new Rng(seed);
		const cases: Generated[] = [];
		while (cases.length < BATCH) {
			const base = generator.next(rng, [mode]);
			if (!accept(base)) continue;
			cases.push(base);
			for (let i = 1; i < VARIANTS; i++) cases.push(variant(rng, base));
		}
		yield { seed, data: dataPages(new Rng(seed)), cases };
	}
}

/** Whether the processor, running the case natively, does what the software engine does. */
function sidesWithEngine(data: Uint8Array, made: Generated): boolean {
	if ("reason" in native || (made.one.mode === 16 && !native.has16Bit)) return true;
	const engine = openEngineCpu(software);
	const [want] = native.run(data, [made.one]);
	const [got] = engine.run(data, [made.one]);
	engine.close();
	return compare(made, want!, got!).length === 0;
}

function count(map: Map<string, number>, key: string): number {
	const next = (map.get(key) ?? 0) + 1;
	map.set(key, next);
	return next;
}

const list = (map: ReadonlyMap<string, number>): string => [...map].map(([name, n]) => `${n} ${name}`).join(", ");

/** A case of one's own: all registers 0 but those given, ZF set. */
function bare(mode: Case["mode"], code: readonly number[], registers: Record<number, bigint> = {}): Case {
	const fx = new Uint8Array(512);
	const view = new DataView(fx.buffer);
	view.setUint16(FX.fcw, 0x37f, true);
	view.setUint32(FX.mxcsr, 0x1f80, true);
	const gpr = Array.from({ length: 16 }, (_, i) => registers[i] ?? 0n);
	gpr[4] = BigInt(DATA + 0x800);
	return { mode, offset: 0x400, code: Uint8Array.from(code), gpr, rflags: 0x242n, fx };
}

function describeCase(mode: string, seed: number, { one, name }: Generated, words: readonly string[]): string {
	return `${mode}, batch ${seed}: ${name} ${Buffer.from(one.code).toString("hex")} at ${one.offset.toString(16)}, flags ${one.rflags.toString(16)}: ${words.join("; ")}`;
}

describe.skipIf("reason" in kvm)(`the software engine against /dev/kvm${why}`, () => {
	for (const mode of ["real", "protected", "long"] as const) {
		test(`with a kernel's rights, ${mode} mode`, { timeout: 7_200_000 }, () => {
			if ("reason" in kvm) return;
			const [a, b] = [openKernelCpu(software, mode), openKernelCpu(kvm, mode)];
			const failures: string[] = [];
			const host = new Map<string, number>();
			const empty = new Map<string, number>();
			let compared = 0;
			for (const { seed, data, cases } of batches(new Generator(integerRows), WIDTH[mode], (g) => usable(mode, g))) {
				const inputs = cases.map(({ one }) => one);
				const want = a.run(data, inputs);
				const got = b.run(data, inputs);
				cases.forEach((made, i) => {
					const [w, g] = [want[i]!, got[i]!];
					// Accesses beyond memory end in exits, which other tests compare.
					if (w.end === "mmio" || g.end === "mmio") count(empty, "beyond memory");
					else if (w.end === "timeout" || g.end === "timeout") count(empty, "does not end");
					else if (notEmulated(mode, made, g) !== undefined)
						count(empty, `not emulated: ${notEmulated(mode, made, g)}`);
					else {
						compared++;
						let words = compareKernel(mode, made.undefinedFlags, w, g);
						if (words.length > 0 && losesAlignmentFlag({ mode, made, software: w, hardware: g })) {
							count(host, "AC behind an event in protected mode");
							words = compareKernel(mode, made.undefinedFlags | AC, w, g);
						}
						if (words.length === 0) return;
						const difference: Difference = { mode, made, words, software: w, hardware: g };
						const known = HOST_CLASSES.find((one) => one.applies(difference));
						if (known === undefined) {
							failures.push(describeCase(mode, seed, made, words));
						} else if (
							count(host, known.name) <= CONFIRMED &&
							known.proof === undefined &&
							!sidesWithEngine(data, made)
						) {
							failures.push(`the processor is of the host's mind: ${describeCase(mode, seed, made, words)}`);
						}
					}
				});
				if (compared >= total / 4 || failures.length >= 10) break;
			}
			a.close();
			b.close();
			process.stdout.write(
				`${mode}: ${compared} cases compared, ${failures.length} differences; the host's own: ${list(host)}; void: ${list(empty)}\n`,
			);
			expect(failures).toEqual([]);
			expect(compared).toBeGreaterThanOrEqual(total / 4);
		});
	}

	test("in real mode interrupts leave the upper half of ESP alone", () => {
		if ("reason" in kvm) return;
		// mov esp, 12348800h; and INT 40h, INT3, or what divides by zero
		const cases = [[0xcd, 0x40], [0xcc], [0xf7, 0xf0]].map((bytes) =>
			bare(16, [0x66, 0xbc, 0x00, 0x88, 0x34, 0x12, ...bytes]),
		);
		const ends = (engine: Kvm): unknown[][] => {
			const cpu = openKernelCpu(engine, "real");
			const outcomes = cpu.run(NO_DATA, cases).map(({ end, regs }) => [end, regs.rsp]);
			cpu.close();
			return outcomes;
		};
		const all = [0x40, 3, 0].map((vector) => [vector, 0x1234_87fan]);
		expect(ends(software)).toEqual(all);
		const [int, int3, divide] = ends(kvm);
		expect([int, int3]).toEqual(all.slice(0, 2));
		// A host that injects the fault itself may clear it: HOST_CLASSES.
		expect([0x1234_87fan, 0x87fan]).toContain(divide![1]);
	});

	test("branches beyond CS's limit are #GP where they stand", () => {
		if ("reason" in kvm) return;
		const behind = [CODE_BYTES - 0x400 - 5, 0x10_0000, -0x8000_0000].flatMap((distance) => {
			const to = [distance, distance >> 8, distance >> 16, distance >> 24].map((byte) => byte & 255);
			// jmp, call, jz
			return [
				[0xe9, ...to],
				[0xe8, ...to],
				[0x0f, 0x84, ...to],
			];
		});
		const cases = behind.map((bytes) => bare(32, bytes));
		const ends = (engine: Kvm): unknown[] => {
			const cpu = openKernelCpu(engine, "protected");
			const outcomes = cpu.run(NO_DATA, cases).map(({ end }) => end);
			cpu.close();
			return outcomes;
		};
		const faults = cases.map(() => GP);
		expect(ends(software)).toEqual(faults);
		expect(ends(kvm)).toEqual(faults);
		if ("reason" in native || !native.has16Bit) return;
		const limited = cases.map((one) => ({ ...one, limited: true as const }));
		const place = limited.map(({ offset }) => [GP, 0x47, BigInt(CODE + offset)]);
		const engine = openEngineCpu(software);
		for (const cpu of [native, engine]) {
			expect(cpu.run(NO_DATA, limited).map(({ trap, selectors, rip }) => [trap, selectors[0], rip])).toEqual(place);
		}
		engine.close();
	});

	test("a repeated store over its own code goes on to its end", () => {
		if ("reason" in kvm) return;
		// rep stosb of NOPs, from in front of itself: 1,800h bytes, of which KVM's emulator has done 400h by then.
		const cases = [bare(32, [0xf3, 0xaa], { 0: 0x90n, 1: 0x1800n, 7: BigInt(CODE + 0x100) })];
		const left = (engine: Kvm): bigint => {
			const cpu = openKernelCpu(engine, "protected");
			const [outcome] = cpu.run(NO_DATA, cases);
			cpu.close();
			return outcome!.regs.rcx;
		};
		expect(left(software)).toBe(0n);
		expect([0n, 0x1400n]).toContain(left(kvm));
	});

	test("at CPL 3 of 64-bit mode", { timeout: 7_200_000 }, async () => {
		if ("reason" in kvm) return;
		// The way in and out runs with a kernel's rights, and has instructions that such a host does not emulate.
		const helped = await openHardwareKvm({ fallback: "emulate" });
		const [a, b] = [openEngineCpu(software), openEngineCpu(helped)];
		const failures: string[] = [];
		let compared = 0;
		let empty = 0;
		const host = new Map<string, number>();
		for (const { seed, data, cases } of batches(new Generator(table.filter(isDrawnNative)), 64, () => true)) {
			const inputs = cases.map(({ one }) => one);
			const want = a.run(data, inputs);
			const got = b.run(data, inputs);
			cases.forEach((made, i) => {
				const ends = [want[i]!.trap, got[i]!.trap];
				if (ends.includes(END_SYSCALL) || ends.includes(END_TIMEOUT)) empty++;
				else {
					compared++;
					const words = compare(made, got[i]!, want[i]!);
					if (words.length === 0) return;
					const known = hostFault(made, want[i]!, got[i]!, words);
					if (known !== undefined && (count(host, known) > CONFIRMED || sidesWithEngine(data, made))) return;
					failures.push(describeCase("CPL 3", seed, made, words));
				}
			});
			if (compared >= total / 4 || failures.length >= 10) break;
		}
		a.close();
		b.close();
		process.stdout.write(
			`CPL 3: ${compared} cases compared, ${failures.length} differences; the host's own: ${list(host)}; void: ${empty}\n`,
		);
		expect(failures).toEqual([]);
		expect(compared).toBeGreaterThanOrEqual(total / 4);
	});
});
