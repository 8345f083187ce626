import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/**
 * The flat binaries of kvm-unit-tests, through the built `xkvm`. KVM_UNIT_TESTS names a folder that holds them as
 * x86_64/NAME.flat and i386/NAME.flat; KVM_UNIT_TESTS_ENGINE picks the engine.
 */
interface Expected {
	file: string;
	/** Arguments of the test program. */
	append?: string;
	cpus?: number;
	memory?: number;
	/** Lines that begin with PASS, at least; undefined: only the exit status counts. */
	passes?: number;
}

/** isa-debug-exit: (0 << 1) | 1. */
const OK = 1;

const vmexits = [
	"cpuid",
	"vmcall",
	"mov_from_cr8",
	"mov_to_cr8",
	"inl_from_pmtimer",
	"inl_from_qemu",
	"inl_from_kernel",
	"outl_to_kernel",
	"self_ipi_tpr_sti_hlt",
	"wr_tsc_adjust_msr",
	"rd_tsc_adjust_msr",
];

const SUITES: Record<string, readonly Expected[]> = {
	x86_64: [
		{ file: "realmode", passes: 127 },
		{ file: "setjmp", passes: 10 },
		{ file: "eventinj", passes: 13 },
		{ file: "memory", passes: 7 },
		{ file: "smap", passes: 18 },
		{ file: "umip", passes: 21 },
		{ file: "xsave" },
		{ file: "syscall", passes: 2 },
		{ file: "tsc", passes: 3 },
		{ file: "rmap_chain" },
		{ file: "pku" },
		...vmexits.map((append) => ({ file: "vmexit", append })),
		{ file: "smptest", cpus: 2, passes: 1 },
		{ file: "apic", cpus: 2, passes: 56 },
		{ file: "ioapic", cpus: 2, passes: 29 },
		...["ipi", "ipi_halt"].map((append) => ({ file: "vmexit", append, cpus: 2 })),
	],
	i386: [
		{ file: "realmode", passes: 127 },
		{ file: "setjmp", passes: 10 },
		{ file: "umip", passes: 21 },
		{ file: "cmpxchg8b", passes: 1 },
		{ file: "taskswitch2", passes: 12 },
	],
};

const { env } = process;
const folder = env["KVM_UNIT_TESTS"];
const engine = env["KVM_UNIT_TESTS_ENGINE"] ?? "software";
const xkvm = fileURLToPath(new URL("../packages/kvm-cli/bin/xkvm.js", import.meta.url));
const why = folder === undefined ? " (KVM_UNIT_TESTS names no folder with their flats)" : "";

for (const [suite, list] of Object.entries(SUITES)) {
	describe.skipIf(folder === undefined)(`kvm-unit-tests ${suite}${why}`, () => {
		for (const { file, append, cpus, memory, passes } of list) {
			const kernel = join(folder ?? "", suite, `${file}.flat`);
			test.skipIf(!existsSync(kernel))(append === undefined ? file : `${file} ${append}`, () => {
				const run = spawnSync(
					process.execPath,
					[
						...[xkvm, "run", "--engine", engine, "--kernel", kernel, "--timeout", "120"],
						...["--device", "isa-debug-exit,iobase=0xf4", "--device", "pc-testdev", "--net", "none"],
						...(append === undefined ? [] : ["--append", append]),
						...(cpus === undefined ? [] : ["--cpus", String(cpus)]),
						...(memory === undefined ? [] : ["--memory", String(memory)]),
					],
					{ encoding: "utf8", timeout: 150_000 },
				);
				const output = `${run.stdout}\n${run.stderr}`;
				expect(output).not.toMatch(/^FAIL/m);
				if (passes !== undefined) expect(output.match(/^PASS/gm)?.length ?? 0, output).toBeGreaterThanOrEqual(passes);
				expect(run.status, output).toBe(OK);
			});
		}
	});
}
