import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { disassembleOne, type Syntax } from "../../src/disasm/disassembler.ts";
import { Rng } from "../oracle/rng.ts";

/**
 * binutils writes the same text for every instruction the table knows. What differs on purpose, or where objdump tells of
 * processors that are not:
 */
const DIFFERENCES: readonly RegExp[] = [
	// FWAIT and what follows are two instructions to a processor, and to an engine.
	/^9b /,
	// MPX, 287 and 8087 leftovers, which are NOPs today.
	/\bbnd[lsmc]|fnsetpm|fneni|fndisi|frstpm/,
	// Names that change with the address size; the descriptor-table loads' suffixes.
	/^(?:addr\d+ )?(?:loop\w*|j\w*cxz)|^[ls][gi]dt[wdlq]/,
	// A segment register that does not exist.
	/%?\?/,
	// Near branches are 64-bit ones whatever their prefix says.
	/^66 ff/,
	// An index of none that could have been left away; 32-bit addresses sign-extended to 64 bits.
	/eiz|riz|\be[ip]+\b.*# 0xffffffff/,
	// MOVSXD without REX.W.
	/^movs(?:xd|lq)? .*(?:[abcd]x|[sb]p|[sd]i)\b/,
];
/** Prefixes that change nothing or are in no sensible place; compilers do not write them. */
const ODD_PREFIX = /^(?:rex|data16|data32|addr32|addr16|bnd|repn?z|xacquire|xrelease|lock|[c-gs]s|notrack)\b|,p[nt] /;

const objdump = spawnSync("objdump", ["--version"], { encoding: "utf8" });
/** Earlier and later versions write some instructions in another way. */
const version = /\b(2\.\d+)/.exec(objdump.stdout ?? "")?.[1];
const lacks = version === undefined ? "no objdump here" : version === "2.40" ? "" : `binutils ${version}, not 2.40`;

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "disasm-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const normal = (text: string): string => text.replace(/\s+/g, " ").trim();

interface Comparison {
	same: number;
	unknown: number;
	differences: string[];
}

/** Compares instruction by instruction, at the places that objdump finds. */
function compare(code: Uint8Array, bits: 16 | 32 | 64, syntax: Syntax): Comparison {
	const file = join(folder, "code.bin");
	writeFileSync(file, code);
	const machine = bits === 64 ? "i386:x86-64" : bits === 32 ? "i386" : "i8086";
	const text = execFileSync(
		"objdump",
		["-D", "-z", "-b", "binary", "-m", machine, "-M", syntax, "--insn-width=16", file],
		{ encoding: "utf8", maxBuffer: 2 ** 28 },
	);
	const out: Comparison = { same: 0, unknown: 0, differences: [] };
	for (const line of text.split("\n")) {
		const [, address, bytes, written] = /^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *\t?(.*)$/.exec(line) ?? [];
		if (address === undefined || written!.includes("(bad)")) continue;
		const at = Number.parseInt(address, 16);
		const theirs = normal(written!);
		const ours = disassembleOne(code.subarray(at, at + 15), { bits, syntax, address: BigInt(at) });
		if (ours.text === "(bad)") out.unknown++;
		else if (normal(ours.text) === theirs && ours.bytes.length === bytes!.trim().split(" ").length) out.same++;
		else if (
			!ODD_PREFIX.test(theirs) &&
			!ODD_PREFIX.test(ours.text) &&
			!DIFFERENCES.some((one) => one.test(theirs) || one.test(bytes!))
		) {
			out.differences.push(`${bytes!.trim()}: objdump "${theirs}", ours "${normal(ours.text)}"`);
		}
	}
	return out;
}

/** Code of a program of this machine, as compilers write it. */
function text(path: string, most: number): Uint8Array {
	const file = join(folder, "text");
	execFileSync("objcopy", ["-O", "binary", "-j", ".text", path, file]);
	return readFileSync(file).subarray(0, most);
}

describe.skipIf(lacks !== "")(`objdump writes the same${lacks && ` [${lacks}]`}`, () => {
	const program = ["/bin/busybox", "/usr/bin/gdb", process.execPath].find((path) => existsSync(path))!;
	test.each(["intel", "att"] as const)("for a program's text, in %s syntax", (syntax) => {
		const { same, unknown, differences } = compare(text(program, 200_000), 64, syntax);
		expect(differences).toEqual([]);
		expect(same).toBeGreaterThan(20_000);
		expect(unknown / same).toBeLessThan(0.1);
	});

	const seed = Number(process.env["DISASM_SEED"] ?? 1);
	const count = Number(process.env["DISASM_BYTES"] ?? 20_000);
	test.each([
		[64, "intel"],
		[64, "att"],
		[32, "intel"],
		[32, "att"],
		[16, "intel"],
		[16, "att"],
	] as const)("for random bytes as %i-bit code, in %s syntax", (bits, syntax) => {
		const rng = new Rng(seed);
		const code = Uint8Array.from({ length: count }, () => rng.below(256));
		const { same, differences } = compare(code, bits, syntax);
		// Addresses that wrap at 64 KiB are objdump's own affair.
		expect(differences.filter((line) => bits === 64 || !/\b(?:j\w+|call|loop)\w* 0x/.test(line))).toEqual([]);
		expect(same).toBeGreaterThan(count / 4);
	});
});
