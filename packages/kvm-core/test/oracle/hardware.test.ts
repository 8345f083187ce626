import { afterAll, describe, expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm } from "../../src/hardware/index.node.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { arithmetic } from "../../src/software/insn/arithmetic.ts";
import { bitOperations } from "../../src/software/insn/bit.ts";
import { moves } from "../../src/software/insn/move.ts";
import { shifts } from "../../src/software/insn/shift.ts";
import { compare } from "./compare.ts";
import { Generator } from "./generate.ts";
import { openEngineCpu } from "./guest.ts";
import { openNativeCpu } from "./native.ts";
import { Rng } from "./rng.ts";
import { dataPages } from "./values.ts";

async function hardware(): Promise<Kvm | { reason: string }> {
	try {
		return await openHardwareKvm();
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { reason: error.message };
		throw error;
	}
}

const native = openNativeCpu();
const kvm = await hardware();
const reasons = [native, kvm].flatMap((side) => ("reason" in side ? [side.reason] : []));
const why = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";
const rows = [...arithmetic, ...bitOperations, ...moves, ...shifts].filter((row) => !/^[lms]fence$/.test(row.name));

afterAll(() => {
	if (!("reason" in native)) native.close();
	if (!("reason" in kvm)) kvm.close();
});

describe.skipIf(reasons.length > 0)(`a guest at CPL 3 on /dev/kvm against a process${why}`, () => {
	test("2,000 cases come out the same", () => {
		if ("reason" in native || "reason" in kvm) return;
		const cpu = openEngineCpu(kvm);
		const rng = new Rng(0x2006);
		const generator = new Generator(rows);
		const data = dataPages(rng);
		const cases = Array.from({ length: 2000 }, () => generator.next(rng, [64]));
		const inputs = cases.map(({ one }) => one);
		const want = native.run(data, inputs);
		const got = cpu.run(data, inputs);
		expect(new Set(want.map(({ trap }) => trap))).toEqual(new Set([0, 3, 6, 12, 13, 14]));
		const differences = cases.flatMap((one, i) => {
			const words = compare(one, want[i]!, got[i]!);
			return words.length === 0 ? [] : [{ code: Buffer.from(one.one.code).toString("hex"), words }];
		});
		expect(differences).toEqual([]);
		cpu.close();
	});
});
