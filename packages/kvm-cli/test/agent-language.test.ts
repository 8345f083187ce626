import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentExecutable } from "../src/agent/executable.ts";
import { compile } from "../src/agent/language/compiler.ts";
import { ELF_CODE_OFFSET, linkExecutable } from "../src/agent/language/elf.ts";
import { AGENT_SOURCE } from "../src/agent/program.ts";
import { noNativeAgent } from "./support/native-agent.ts";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-language-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a program and gives what it wrote. */
function output(source: string): Buffer {
	const path = join(folder, "program");
	writeFileSync(path, linkExecutable(source), { mode: 0o755 });
	const { status, signal, stdout } = spawnSync(path);
	expect({ status, signal }).toEqual({ status: 0, signal: null });
	return stdout;
}

const operators = [
	"+",
	"-",
	"*",
	"/",
	"%",
	"&",
	"|",
	"^",
	"<<",
	">>",
	"==",
	"!=",
	"<",
	"<=",
	">",
	">=",
	"&&",
	"||",
] as const;

function evaluate(operator: (typeof operators)[number], a: bigint, b: bigint): bigint {
	const [x, y] = [BigInt.asIntN(64, a), BigInt.asIntN(64, b)];
	const truth = (value: boolean): bigint => (value ? 1n : 0n);
	switch (operator) {
		case "+":
			return a + b;
		case "-":
			return a - b;
		case "*":
			return a * b;
		case "/":
			return a / b;
		case "%":
			return a % b;
		case "&":
			return a & b;
		case "|":
			return a | b;
		case "^":
			return a ^ b;
		case "<<":
			return a << (b & 63n);
		case ">>":
			return a >> (b & 63n);
		case "==":
			return truth(a === b);
		case "!=":
			return truth(a !== b);
		case "<":
			return truth(x < y);
		case "<=":
			return truth(x <= y);
		case ">":
			return truth(x > y);
		case ">=":
			return truth(x >= y);
		case "&&":
			return truth(a !== 0n && b !== 0n);
		case "||":
			return truth(a !== 0n || b !== 0n);
	}
}

interface Tree {
	text: string;
	value: bigint;
}
const number = fc
	.oneof(
		fc.bigInt(0n, 2n ** 64n - 1n),
		fc.bigInt(0n, 300n),
		fc.constantFrom(2n ** 31n, 2n ** 32n, 2n ** 63n, 2n ** 31n - 1n),
	)
	.map((value): Tree => ({ text: String(value), value }));
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
	tree: fc.oneof(
		{ maxDepth: 5 },
		number,
		fc.tuple(fc.constantFrom("-", "~", "!"), tie("tree")).map(([sign, { text, value }]) => ({
			text: `${sign}(${text})`,
			value: BigInt.asUintN(64, sign === "-" ? -value : sign === "~" ? ~value : value === 0n ? 1n : 0n),
		})),
		fc.tuple(fc.constantFrom(...operators), tie("tree"), tie("tree")).map(([operator, left, right]) => {
			const divides = operator === "/" || operator === "%";
			const divisor = divides && right.value === 0n ? { text: "7", value: 7n } : right;
			return {
				text: `(${left.text} ${operator} ${divisor.text})`,
				value: BigInt.asUintN(64, evaluate(operator, left.value, divisor.value)),
			};
		}),
	),
}));

describe.skipIf(noNativeAgent)("the agent's language", () => {
	it("computes as 64-bit arithmetic says", () => {
		fc.assert(
			fc.property(fc.array(tree, { minLength: 200, maxLength: 200 }), (trees) => {
				const stores = trees.map(({ text }, i) => `\tu64[results + ${8 * i}] = ${text};`).join("\n");
				const bytes = output(`buffer results[${8 * trees.length}];
					fn main(stack) { ${stores} syscall(1, 1, results, ${8 * trees.length}); return 0; }`);
				expect(trees.map((_, i) => bytes.readBigUInt64LE(8 * i))).toEqual(trees.map(({ value }) => value));
			}),
			{ seed: 7, numRuns: 5 },
		);
	});

	it("has functions, loops, records and memory of every width", () => {
		const bytes = output(`
			const COUNT = 10 * 2 - 10;
			record Pair { small: u16; left: i32; room: bytes[8]; right: u64; }
			buffer pairs[COUNT * sizeof(Pair)];
			buffer out[64];
			var calls;
			fn fibonacci(n) { calls = calls + 1; if (n < 2) { return n; } return fibonacci(n - 1) + fibonacci(n - 2); }
			fn pair(i) { return pairs + i * sizeof(Pair); }
			fn subtract(a, b, c) { return a - b - c; }
			fn main(stack) {
				let i = 0;
				while (1) {
					if (i == COUNT) { break; }
					let p: Pair = pair(i);
					i = i + 1;
					if (i == 3) { continue; }
					p.left = -i;
					p.small = 65536 + i;
					p.right = 1 << 40;
					u8[p.room + 1] = 0x1ff;
				}
				let first: Pair = pair(0);
				let third: Pair = pair(2);
				u64[out] = fibonacci(15);
				u64[out + 8] = calls;
				u64[out + 16] = first.left;
				u64[out + 24] = first.small + first.right;
				u64[out + 32] = u32[first.room];
				u64[out + 40] = third.left;
				u64[out + 48] = subtract(10, 3, 2);
				copy(out + 56, "text", 4);
				clear(out + 57, 1);
				syscall(1, 1, out, 64);
				return u64[stack] - 1;
			}`);
		expect(Array.from({ length: 7 }, (_, i) => bytes.readBigInt64LE(8 * i))).toEqual([
			610n,
			1973n,
			-1n,
			1n + 2n ** 40n,
			0xff00n,
			0n,
			5n,
		]);
		expect(bytes.subarray(56).toString("latin1")).toBe("t\0xt\0\0\0\0");
	});

	it.each([
		["fn main(s) { return x; }", /line 1: there is no x/],
		["fn main(s) {\n f(1); }", /line 2: there is no function f/],
		["fn f(a) { } fn main(s) { f(); }", /f takes 1 values/],
		["fn main(s) { let s = 1; }", /s is there already/],
		["fn main(s) { break; }", /break outside a loop/],
		["record R { a: u8; } fn main(s: R) { s.b = 1; }", /s has no b/],
		["fn main(s) { 3 = 4; }", /nothing can be stored there/],
		["const A = b; fn main(s) { }", /b is no constant/],
		["fn main() { }", /fn main\(stack\)/],
		["fn main(s) { let a = 1 }", /expected ;/],
		["fn main(s) { # }", /unexpected "#"/],
	])("refuses %j", (source, message) => {
		expect(() => linkExecutable(source)).toThrow(message);
	});

	it("never fails but with a line", () => {
		const words = [
			"fn",
			"main",
			"(",
			")",
			"{",
			"}",
			"let",
			"a",
			"=",
			"1",
			";",
			"while",
			"u8",
			"[",
			"]",
			"+",
			'"x"',
			".",
			"record",
			":",
		];
		fc.assert(
			fc.property(fc.array(fc.constantFrom(...words), { maxLength: 30 }), (some) => {
				try {
					linkExecutable(some.join(" "));
				} catch (error) {
					expect((error as Error).name).toBe("CompileError");
				}
			}),
			{ seed: 11, numRuns: 2000 },
		);
	});
});

const objdump = spawnSync("objdump", ["--version"]).status === 0 ? undefined : "no objdump here";

describe("the agent's executable", () => {
	it("is the same every time, and small", () => {
		expect(linkExecutable(AGENT_SOURCE)).toEqual(agentExecutable());
		expect(agentExecutable().length).toBeLessThan(20_000);
	});

	it.skipIf(objdump)(`holds only instructions that objdump knows${objdump ? ` [${objdump}]` : ""}`, () => {
		const { code, instructionBytes, functions } = compile(AGENT_SOURCE, { codeAddress: 0, memoryAddress: 0x80_0000 });
		const path = join(folder, "code");
		writeFileSync(path, code.subarray(0, instructionBytes));
		const text = execFileSync("objdump", ["-D", "-b", "binary", "-m", "i386:x86-64", path], { encoding: "utf8" });
		const lines = text.split("\n").filter((line) => /^\s+[0-9a-f]+:\t/.test(line));
		expect(text).not.toContain("(bad)");
		const starts = new Set(lines.map((line) => Number.parseInt(line, 16)));
		for (const [name, offset] of functions) expect([name, starts.has(offset)]).toEqual([name, true]);
		const targets = [...text.matchAll(/\t(?:j[a-z]+|call)\s+0x([0-9a-f]+)/g)].map((match) =>
			Number.parseInt(match[1]!, 16),
		);
		expect(targets.length).toBeGreaterThan(300);
		for (const target of targets) expect(starts.has(target)).toBe(true);
		// Memory is written where it may be: no instruction names an address inside the code.
		expect(ELF_CODE_OFFSET).toBe(232);
	});
});
