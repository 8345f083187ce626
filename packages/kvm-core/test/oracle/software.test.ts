import { afterAll, describe, expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";
import { table } from "../../src/software/insn/table.ts";
import { runCampaign } from "./campaign.ts";
import { Generator } from "./generate.ts";
import { openEngineCpu } from "./guest.ts";
import { openNativeCpu } from "./native.ts";

/**
 * The software engine against the CPU this runs on. By itself a few seconds' worth; a campaign is
 *
 *     ORACLE_CASES=1000000 ORACLE_SEED=1 npx vitest run --project kvm-core test/oracle/software.test.ts
 *
 * ORACLE_ROWS picks rows by a pattern of their name and opcode, ORACLE_MODES widths (64,32,16). A failure prints the
 * seed of its batch, and the case made small as a vector for test/data/cpu-vectors.json.
 */
const { env } = process;
const SECONDS = 5;
const wanted = env["ORACLE_CASES"] === undefined ? undefined : Number(env["ORACLE_CASES"]);
const seed = Number(env["ORACLE_SEED"] ?? 20061019);
const pattern = new RegExp(env["ORACLE_ROWS"] ?? "");
const modes = (env["ORACLE_MODES"] ?? "64,32,16").split(",").map(Number) as (16 | 32 | 64)[];

const native = openNativeCpu();
const why = "reason" in native ? ` (${native.reason})` : "";

afterAll(() => {
	if (!("reason" in native)) native.close();
});

describe.skipIf("reason" in native)(`the software engine against this CPU${why}`, () => {
	test(`random cases from seed ${seed} come out the same`, { timeout: 7_200_000 }, () => {
		if ("reason" in native) return;
		const engine = openEngineCpu(openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }), {
			protectionKeys: native.protectionKeys,
		});
		const rows = table.filter((row) => pattern.test(`${row.name} ${row.opcode}`));
		const end = performance.now() + SECONDS * 1000;
		const report = runCampaign({
			native,
			engine,
			generator: new Generator(rows),
			modes: native.has16Bit ? modes : modes.filter((mode) => mode !== 16),
			seed,
			failures: Number(env["ORACLE_FAILURES"] ?? 10),
			cases: wanted ?? Number.POSITIVE_INFINITY,
			...(wanted === undefined ? { enough: () => performance.now() > end } : {}),
		});
		process.stdout.write(`${report.cases} cases from seed ${seed}, ${report.void} of them void\n`);
		for (const { seed: batch, differences, vector } of report.failures) {
			process.stdout.write(
				`batch ${batch}, ${vector.mode}-bit ${vector.name}: ${vector.code}\n  ${differences.join("\n  ")}\n${JSON.stringify(vector)}\n`,
			);
		}
		expect(report.failures.map(({ vector }) => `${vector.mode}-bit ${vector.name} ${vector.code}`)).toEqual([]);
		expect(report.cases).toBeGreaterThan(1000);
		engine.close();
	});
});
