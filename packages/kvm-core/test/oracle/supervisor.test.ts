import { afterAll, describe, expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";
import { table } from "../../src/software/insn/table.ts";
import { hardware } from "../kvm/engines.ts";
import { Generator, variant } from "./generate.ts";
import { Rng } from "./rng.ts";
import type { Row } from "./rows.ts";
import { openSupervisorCpu, type SupervisorOutcome } from "./supervisor.ts";
import { dataPages } from "./values.ts";

/**
 * The software engine against /dev/kvm at CPL 0. ORACLE_CASES and ORACLE_SEED as in software.test.ts. What the device
 * cannot run (it says so with an internal error) counts as void.
 */
const { env } = process;
const cases = Number(env["ORACLE_CASES"] ?? 1500);
const first = Number(env["ORACLE_SEED"] ?? 19);
const pattern = new RegExp(env["ORACLE_ROWS"] ?? "");
const modes = (env["ORACLE_MODES"] ?? "64,32,16").split(",").map(Number) as (16 | 32 | 64)[];
const BATCH = 256;

/** Moves the machine to where a case cannot be compared any more. */
const SYSTEM = /^(wrmsr|rdmsr|lgdt|lidt|lldt|ltr|lmsw|xsetbv|rsm|invd|wbinvd|clts|hlt)$/;

function wanted(row: Row): boolean {
	const vector = row.attributes.some((attribute) => /^(x87|mmx|sse)$/.test(attribute));
	return (
		!vector && !SYSTEM.test(row.name) && !/^0F 2[0-3]/.test(row.opcode) && pattern.test(`${row.name} ${row.opcode}`)
	);
}

function differences(want: SupervisorOutcome, got: SupervisorOutcome, undefinedFlags: number, mode: number): string[] {
	const words: string[] = [];
	const show = (value: unknown): string =>
		JSON.stringify(value, (_, v) => (typeof v === "bigint" ? v.toString(16) : v));
	const expectSame = (what: string, a: unknown, b: unknown): void => {
		if (show(a) !== show(b)) words.push(`${what} ${show(a)}, got ${show(b)}`);
	};
	expectSame("exit", want.exit, got.exit);
	for (const name of Object.keys(want.regs) as (keyof typeof want.regs)[]) {
		const mask = name === "rflags" ? ~BigInt(undefinedFlags) : mode === 64 ? -1n : 0xffff_ffffn;
		expectSame(name, BigInt.asUintN(64, want.regs[name] & mask), BigInt.asUintN(64, got.regs[name] & mask));
	}
	expectSame("selectors", want.selectors, got.selectors);
	expectSame("cr2", want.cr2, got.cr2);
	const at = want.data.findIndex((byte, i) => byte !== got.data[i]);
	if (at >= 0)
		words.push(
			`memory at ${at.toString(16)} ${Buffer.from(want.data.subarray(at, at + 16)).toString("hex")}, got ${Buffer.from(got.data.subarray(at, at + 16)).toString("hex")}`,
		);
	return words;
}

const device = await hardware();
// Hosts whose KVM emulates have differences of their own, and the cases drawn change with the table.
const unasked = env["ORACLE_HARDWARE"] === undefined ? "ORACLE_HARDWARE=1 asks for it" : undefined;
const reason = device.reason ?? unasked;
const why = reason === undefined ? "" : ` (${reason})`;

afterAll(() => device.kvm?.close());

describe.skipIf(reason !== undefined)(`the software engine against /dev/kvm at CPL 0${why}`, () => {
	test(`${cases} cases from seed ${first}`, { timeout: 3_600_000 }, () => {
		const software = openSupervisorCpu(openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }));
		const host = openSupervisorCpu(device.kvm!);
		const generator = new Generator(table.filter(wanted));
		const found = new Map<string, string>();
		let empty = 0;
		for (let done = 0, seed = first; done < cases; done += BATCH, seed++) {
			const rng = new Rng(seed);
			const data = dataPages(rng);
			const list = Array.from({ length: BATCH / 2 }, () => generator.next(rng, modes)).flatMap((base) => [
				base,
				variant(rng, base),
			]);
			const inputs = list.map(({ one }) => one);
			const want = host.run(data, inputs);
			const got = software.run(data, inputs);
			list.forEach(({ one, name, undefinedFlags }, i) => {
				if (want[i]!.void) {
					empty++;
					return;
				}
				const words = differences(want[i]!, got[i]!, undefinedFlags, one.mode);
				if (words.length === 0) return;
				const key = `${one.mode} ${name}: ${words.map((word) => word.replace(/ .*/, "")).join()}`;
				if (!found.has(key)) found.set(key, `${Buffer.from(one.code).toString("hex")}\n    ${words.join("\n    ")}`);
			});
		}
		process.stdout.write(`${cases} cases, ${empty} of them void\n`);
		expect([...found].map(([key, what]) => `${key} ${what}`)).toEqual([]);
		software.close();
		host.close();
	});
});
