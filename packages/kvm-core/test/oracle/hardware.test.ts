import { afterAll, describe, expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm } from "../../src/hardware/index.node.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { arithmetic } from "../../src/software/insn/arithmetic.ts";
import { bitOperations } from "../../src/software/insn/bit.ts";
import { moves } from "../../src/software/insn/move.ts";
import { shifts } from "../../src/software/insn/shift.ts";
import { runCampaign } from "./campaign.ts";
import { Generator } from "./generate.ts";
import { openEngineCpu } from "./guest.ts";
import { openNativeCpu } from "./native.ts";

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
// Hosts whose KVM emulates have differences of their own, and the cases drawn change with the table.
if (process.env["ORACLE_HARDWARE"] === undefined) reasons.push("ORACLE_HARDWARE=1 asks for it");
const why = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";
const rows = [...arithmetic, ...bitOperations, ...moves, ...shifts].filter((row) => !/^[lms]fence$/.test(row.name));

afterAll(() => {
	if (!("reason" in native)) native.close();
	if (!("reason" in kvm)) kvm.close();
});

describe.skipIf(reasons.length > 0)(`a guest at CPL 3 on /dev/kvm against a process${why}`, () => {
	test("4,096 cases come out the same", () => {
		if ("reason" in native || "reason" in kvm) return;
		const engine = openEngineCpu(kvm);
		const report = runCampaign({
			native,
			engine,
			generator: new Generator(rows),
			modes: [64],
			seed: 0x2006,
			cases: 4096,
		});
		expect([...report.vectors.keys()].sort((a, b) => a - b)).toEqual([0, 3, 6, 12, 13, 14]);
		expect(report.failures).toEqual([]);
		engine.close();
	});
});
