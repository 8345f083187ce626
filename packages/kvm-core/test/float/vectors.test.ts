import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";
import { table } from "../../src/software/insn/table.ts";
import { compare } from "../oracle/compare.ts";
import { openEngineCpu } from "../oracle/guest.ts";
import { openNativeCpu } from "../oracle/native.ts";
import { DATA_BYTES } from "../oracle/protocol.ts";
import { Rng } from "../oracle/rng.ts";
import { APPROXIMATE, ELEMENTARY, exclusion, MACHINES_OWN, POINTERS } from "../oracle/rows.ts";
import { encodeRegisters, fromText, randomState, toText } from "./vectors.ts";

const file = new URL("../data/float-vectors.txt", import.meta.url);
const units = ["x87", "mmx", "sse"] as const;
/** A vector is one processor's result to the bit; of these, processors have results of their own within a bound. */
const INEXACT = [ELEMENTARY, APPROXIMATE, MACHINES_OWN, POINTERS];
const rows = table.filter(
	(row) =>
		units.some((unit) => row.attributes.includes(unit)) &&
		exclusion(row) === undefined &&
		!INEXACT.some((names) => names.test(row.name.toLowerCase())),
);
const CASES_PER_ROW = 3;

/** Writes the file anew from the CPU this runs on: FLOAT_VECTORS=record. */
test.runIf(process.env["FLOAT_VECTORS"] === "record")("record what this CPU does", () => {
	const native = openNativeCpu();
	if ("reason" in native) throw new Error(native.reason);
	const rng = new Rng(20261123);
	const planned = rows.flatMap((row) =>
		Array.from({ length: CASES_PER_ROW }, () => encodeRegisters(row, rng.below(256))).flatMap((code) =>
			code === undefined
				? []
				: [{ name: row.name, undefinedFlags: row.undefinedFlags, one: randomState(rng, row, code) }],
		),
	);
	const outcomes = native.run(
		new Uint8Array(DATA_BYTES),
		planned.map(({ one }) => one),
	);
	const lines = planned.map((line, i) => toText(line, outcomes[i]!));
	writeFileSync(file, `${lines.join("\n")}\n`);
	native.close();
});

test("x87, MMX and SSE instructions give what a real CPU gave, exceptions and all", () => {
	const lines = readFileSync(file, "utf8").trimEnd().split("\n").map(fromText);
	const engine = openEngineCpu(openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }));
	const outcomes = engine.run(
		new Uint8Array(DATA_BYTES),
		lines.map(({ one }) => one),
	);
	const differences = lines.flatMap((line, i) => {
		const got = outcomes[i]!;
		// Registers only: nothing is written, and the segments are the harness's own.
		const want = {
			error: got.error,
			cr2: 0n,
			selectors: got.selectors,
			dirtyOffset: 0,
			dirty: new Uint8Array(0),
			...line.want,
		};
		const words = compare(line, want, got);
		return words.length === 0
			? []
			: [`${line.name} ${Buffer.from(line.one.code).toString("hex")}: ${words.join("; ")}`];
	});
	expect(differences).toEqual([]);
	const covered = new Set(lines.map(({ name }) => name));
	expect(lines.length).toBeGreaterThan(rows.length * 2);
	expect(rows.filter((row) => encodeRegisters(row, 0) !== undefined && !covered.has(row.name))).toEqual([]);
	engine.close();
});
