import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/**
 * kvm-unit-tests' flats on the host's KVM through the built `xkvm`, with and without the software engine's help.
 * KVM_UNIT_TESTS names the folder that holds them as x86_64/NAME.flat; HARDWARE_KERNEL a 64-bit Linux kernel of which
 * is printed how far it gets; with HARDWARE_INITRD, its initial RAM disk, the fallback must get it to user space.
 */
const { env } = process;
const folder = env["KVM_UNIT_TESTS"];
const xkvm = fileURLToPath(new URL("../packages/kvm-cli/bin/xkvm.js", import.meta.url));

interface Doctor {
	engines: { hardware: { available: boolean; reason?: string; guestModes: string[] } };
}

function doctor(): Doctor["engines"]["hardware"] {
	const { stdout } = spawnSync(process.execPath, [xkvm, "doctor", "--json"], { encoding: "utf8" });
	try {
		return (JSON.parse(stdout) as Doctor).engines.hardware;
	} catch {
		return { available: false, reason: "xkvm is not built", guestModes: [] };
	}
}

/** isa-debug-exit: (0 << 1) | 1. */
const OK = 1;
const hardware = doctor();
const reasons = [
	...(folder === undefined ? ["KVM_UNIT_TESTS names no folder with their flats"] : []),
	...(hardware.available ? [] : [hardware.reason ?? "no hardware engine"]),
];
const why = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";

/** By name and PASS lines, at least. */
const PLAIN: readonly (readonly [string, number])[] = [
	["dummy", 0],
	["realmode", 127],
	["setjmp", 10],
	["idt_test", 4],
	["rmap_chain", 0],
];
/** With `--fallback emulate` also on a KVM that emulates kernel code. */
const WITH_FALLBACK: readonly (readonly [string, number])[] = [...PLAIN, ["memory", 6], ["smap", 18]];

function run(name: string, fallback: string): { status: number | null; output: string; passes: number } {
	const kernel = join(folder ?? "", "x86_64", `${name}.flat`);
	const { stdout, stderr, status } = spawnSync(
		process.execPath,
		[
			...[xkvm, "run", "--engine", "hardware", "--fallback", fallback, "--kernel", kernel, "--timeout", "240"],
			...["--device", "isa-debug-exit,iobase=0xf4", "--device", "pc-testdev", "--net", "none"],
		],
		{ encoding: "utf8", timeout: 280_000 },
	);
	const output = `${stdout}\n${stderr}`;
	return { status, output, passes: output.match(/^PASS/gm)?.length ?? 0 };
}

for (const [fallback, list] of [
	["none", PLAIN],
	["emulate", WITH_FALLBACK],
] as const) {
	describe.skipIf(reasons.length > 0)(`kvm-unit-tests on the hardware engine, fallback ${fallback}${why}`, () => {
		for (const [name, least] of list) {
			test.skipIf(!existsSync(join(folder ?? "", "x86_64", `${name}.flat`)))(name, { timeout: 300_000 }, () => {
				const { status, output, passes } = run(name, fallback);
				expect(output).not.toMatch(/^FAIL/m);
				expect(passes, output).toBeGreaterThanOrEqual(least);
				expect(status, output).toBe(OK);
			});
		}
	});
}

const kernel = env["HARDWARE_KERNEL"];
const noKernel = kernel === undefined ? "HARDWARE_KERNEL names no kernel" : hardware.available ? "" : hardware.reason;
describe.skipIf(noKernel !== "")(
	`a 64-bit Linux kernel on the hardware engine${noKernel === "" ? "" : ` (${noKernel})`}`,
	() => {
		for (const fallback of ["none", "emulate"]) {
			test(`says how far it gets, fallback ${fallback}`, { timeout: 1_000_000 }, () => {
				const seconds = env["HARDWARE_KERNEL_SECONDS"] ?? "120";
				const { stdout, stderr } = spawnSync(
					process.execPath,
					[
						...[
							xkvm,
							"run",
							"--engine",
							"hardware",
							"--fallback",
							fallback,
							"--kernel",
							kernel ?? "",
							"--timeout",
							seconds,
						],
						...(env["HARDWARE_INITRD"] === undefined ? [] : ["--initrd", env["HARDWARE_INITRD"]]),
						...["--append", "console=ttyS0 earlyprintk=serial,ttyS0 panic=-1", "--net", "none"],
					],
					{ encoding: "utf8", timeout: 900_000 },
				);
				const lines = stdout.trimEnd().split("\n");
				process.stdout.write(
					`fallback ${fallback}: ${lines.length} lines, the last: ${lines.at(-1)}; end: ${stderr.trim()}\n`,
				);
				expect(stderr).not.toContain("    at ");
				if (fallback === "emulate" && env["HARDWARE_INITRD"] !== undefined) {
					expect(stdout).toContain("Run /init as init process");
				}
			});
		}
	},
);
