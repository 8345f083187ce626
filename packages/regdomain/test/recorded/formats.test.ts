import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { dbTxtToDatabase, dbTxtToRegulatoryBin, dbTxtToRegulatoryDb } from "../../src/dbtxt/compile.ts";
import { parseDbTxt } from "../../src/dbtxt/parse.ts";
import { readRegulatoryBin, writeRegulatoryBin } from "../../src/formats/regulatory-bin.ts";
import { readRegulatoryDb } from "../../src/formats/regulatory-db.ts";
import { writeRegulatoryDb } from "../../src/formats/regulatory-db-write.ts";
import { haveShared, shared } from "../support/shared.ts";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe.skipIf(!haveShared)("wireless-regdb 2026.05.30 (skipped where ../shared/data is absent)", () => {
	const parsed = haveShared ? parseDbTxt(shared("db-2026.05.30.txt")) : { countries: [], warnings: [], items: [] };

	test("db.txt compiles to the released regulatory.db", () => {
		const bytes = dbTxtToRegulatoryDb(parsed);
		expect(bytes).toHaveLength(6380);
		expect(sha256(bytes)).toBe("2fb33ca0074db573e05ef7dd50bb45b63c0ff98b7e852e1105ebad536fae8e6b");
		expect(parsed.warnings).toEqual([]);
		expect(parsed.countries).toHaveLength(182);
		expect(parsed.items.filter(({ dropped }) => !dropped)).toHaveLength(1013);
		expect(parsed.items.filter(({ dropped }) => dropped).map(({ countries }) => countries)).toEqual([["IR"], ["OM"]]);
	});

	test("db.txt compiles to the unsigned regulatory.bin", () => {
		const bytes = dbTxtToRegulatoryBin(parsed);
		expect(sha256(bytes)).toBe("a92fdae7f9a968a22c99809c67f51c121fa11b73dbf9bd24b17e12b66988a0e0");
		const { database, signature } = readRegulatoryBin(bytes);
		expect(signature).toHaveLength(0);
		expect(database.domains.size).toBe(182);
		expect(sha256(writeRegulatoryBin(database))).not.toBe("");
	});

	test("reading and writing regulatory.db gives the same bytes", () => {
		const bytes = dbTxtToRegulatoryDb(parsed);
		const database = readRegulatoryDb(bytes);
		expect(writeRegulatoryDb(database)).toEqual(bytes);
		expect(dbTxtToDatabase(parsed).domains).toEqual(new Map([...database.domains].sort()));
	});
});

interface Quirk {
	case: string;
	text: string;
	ok: boolean;
	dbHex?: string;
	error?: string;
	warnings?: string[];
}

describe.skipIf(!haveShared)("db.txt quirks of the original compiler (skipped where ../shared/data is absent)", () => {
	const quirks = haveShared ? (JSON.parse(shared("dbtxt_quirks.json")) as Quirk[]) : [];
	test.each(quirks.map((quirk) => [quirk.case, quirk] as const))("%s", (_, quirk) => {
		const compile = (): { hex: string; warnings: string[] } => {
			const parsed = parseDbTxt(quirk.text);
			return {
				hex: Buffer.from(dbTxtToRegulatoryDb(parsed)).toString("hex"),
				warnings: parsed.warnings.map(({ line, message }) => `Warning (line ${line}): ${message}`),
			};
		};
		if (quirk.ok) {
			expect(compile()).toEqual({ hex: quirk.dbHex, warnings: quirk.warnings ?? [] });
		} else {
			expect(compile).toThrow(quirk.error!.replace(/^SyntaxError: /, ""));
		}
	});
});
