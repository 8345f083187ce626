import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readKallsyms } from "../../src/debug/kallsyms.ts";
import { writeSymbolElf } from "../../src/debug/symbol-elf.ts";
import { type GuestSymbol, SymbolTable } from "../../src/debug/symbols.ts";
import { Rng } from "../oracle/rng.ts";

const BASE = 0xffff_ffff_8100_0000n;

function someSymbols(seed: number, count: number): GuestSymbol[] {
	const rng = new Rng(seed);
	let address = BASE;
	return Array.from({ length: count }, (_, i) => {
		address += BigInt(rng.below(5000));
		const length = i === 7 ? 180 : 3 + rng.below(20);
		const name = Array.from({ length }, () => rng.pick([..."abcdefghijklmnopqrstuvwxyz_0123456789."])).join("");
		return { name: `s${i}_${name}`, type: rng.pick([..."tTdDbBrRA"]), address };
	});
}

/** Tables as scripts/kallsyms.c lays them out: 6.1's order with names in order of name behind the markers, or 6.4's. */
function makeTables(symbols: readonly GuestSymbol[], order: "6.1" | "6.4", junk: number): Uint8Array {
	const rng = new Rng(junk);
	const out: number[] = Array.from({ length: 64 + 4 * rng.below(100) }, () => rng.below(256));
	const align = (to: number): void => {
		while (out.length % to !== 0) out.push(0);
	};
	const u32 = (value: number): void =>
		void out.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
	const offsets = (): void => {
		align(8);
		for (const { address } of symbols) u32(Number(BASE - 1n - address) | 0);
		align(8);
		for (let i = 0n; i < 64n; i += 8n) out.push(Number((BASE >> i) & 255n));
	};
	// Tokens: the printable characters as themselves, the rest pairs.
	const tokens = Array.from({ length: 256 }, (_, i) => (i > 0x20 && i < 0x7f ? String.fromCharCode(i) : `x${i}`));
	if (order === "6.1") offsets();
	align(8);
	u32(symbols.length);
	align(8);
	const start = out.length;
	const markers: number[] = [];
	for (const [i, { name, type }] of symbols.entries()) {
		if (i % 256 === 0) markers.push(out.length - start);
		const text = type + name;
		if (text.length < 128) out.push(text.length);
		else out.push((text.length & 0x7f) | 0x80, text.length >> 7);
		for (const character of text) out.push(character.charCodeAt(0));
	}
	align(8);
	for (const marker of markers) u32(marker);
	if (order === "6.1") {
		align(8);
		for (let i = 0; i < symbols.length; i++) out.push(0, i >> 8, i & 255);
	}
	align(8);
	const table = out.length;
	const places: number[] = [];
	for (const token of tokens) {
		places.push(out.length - table);
		for (const character of token) out.push(character.charCodeAt(0));
		out.push(0);
	}
	align(8);
	for (const place of places) out.push(place & 255, place >> 8);
	if (order === "6.4") offsets();
	for (let i = 0; i < 100; i++) out.push(rng.below(256));
	return Uint8Array.from(out);
}

test.each(["6.1", "6.4"] as const)("reads the tables in the order of Linux %s", (order) => {
	for (let seed = 1; seed <= 5; seed++) {
		const symbols = someSymbols(seed, 600 + seed * 37);
		expect(readKallsyms(makeTables(symbols, order, seed), 64)).toEqual(symbols);
	}
});

test("damaged tables give symbols or nothing, never an error", () => {
	const whole = makeTables(someSymbols(1, 400), "6.1", 1);
	fc.assert(
		fc.property(
			fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 30 }),
			fc.nat(whole.length),
			(changes, end) => {
				const damaged = whole.slice(0, end);
				for (const [at, value] of changes) damaged[at % Math.max(1, end)] = value;
				readKallsyms(damaged, 64);
			},
		),
		{ seed: 6, numRuns: 200 },
	);
	expect(readKallsyms(new Uint8Array(0), 64)).toBeUndefined();
	expect(readKallsyms(new Uint8Array(100_000).fill(0x30), 64)).toBeUndefined();
});

test("symbols are found by name and by address", () => {
	const table = new SymbolTable([
		{ name: "b", type: "T", address: 0x2000n },
		{ name: "a", type: "T", address: 0x1000n },
	]);
	expect(table.find("a")?.address).toBe(0x1000n);
	expect([0xfffn, 0x1000n, 0x1fffn, 0x2004n].map((address) => table.describe(address))).toEqual([
		"0xfff",
		"a",
		"a+0xfff",
		"b+0x4",
	]);
});

const noNm = spawnSync("nm", ["--version"]).status === 0 ? "" : "no nm here";
test.skipIf(noNm !== "").each([32, 64] as const)("binutils reads the %i-bit symbol file", (bits) => {
	const folder = mkdtempSync(join(tmpdir(), "symbols-"));
	try {
		const base = bits === 64 ? BASE : 0xc100_0000n;
		const symbols: GuestSymbol[] = [
			{ name: "percpu", type: "A", address: 0x100n },
			{ name: "_text", type: "T", address: base },
			{ name: "local_function", type: "t", address: base + 0x40n },
			{ name: "_etext", type: "T", address: base + 0x1000n },
			{ name: "a_variable", type: "D", address: base + 0x2000n },
			{ name: "_sinittext", type: "T", address: base + 0x4000n },
			{ name: "start_kernel", type: "T", address: base + 0x4010n },
			{ name: "_einittext", type: "T", address: base + 0x5000n },
			{ name: "_end", type: "B", address: base + 0x6000n },
		];
		const file = join(folder, "symbols");
		writeFileSync(file, writeSymbolElf(symbols, bits));
		const read = execFileSync("nm", ["-n", file], { encoding: "utf8" })
			.trim()
			.split("\n")
			.map((line) => line.split(" "));
		expect(read.map(([address, , name]) => [BigInt(`0x${address}`), name])).toEqual(
			symbols.map(({ address, name }) => [address, name]),
		);
		expect(Object.fromEntries(read.map(([, type, name]) => [name, type]))).toMatchObject({
			percpu: "A",
			local_function: "t",
			start_kernel: "T",
			a_variable: "B",
		});
		expect(
			execFileSync("readelf", ["-W", "-S", "-s", file], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }),
		).toMatch(/FUNC +GLOBAL +DEFAULT +\d+ start_kernel/);
	} finally {
		rmSync(folder, { recursive: true });
	}
});
