import { RegdomainError } from "../errors.ts";
import type { Database, Domain, Rule } from "../model/domain.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { DB_MAGIC } from "./regulatory-db.ts";
import { putName } from "./regulatory-db-write.ts";
import {
	compareNames,
	compareRuleLists,
	compareRules,
	type SourceCountry,
	type SourceRule,
	sourceOf,
} from "./source.ts";

/** Version of regulatory.bin, the file of the user-space agent crda. */
export const BIN_VERSION = 19;

/** A regulatory.bin taken apart. */
export interface RegulatoryBin {
	/** The domains. */
	database: Database;
	/** What the signature covers: everything before it. */
	signedBytes: Uint8Array;
	/** RSA PKCS #1 v1.5 signature with SHA-1; empty when the file is not signed. */
	signature: Uint8Array;
}

// A country's collection is bounded by the file itself, but many countries may share one; this bounds the product.
const MAX_TOTAL_RULES = 1_000_000;

/**
 * Reads a regulatory.bin (version 19).
 *
 * @throws RegdomainError `BIN_MAGIC`, `BIN_VERSION`, `BIN_TRUNCATED`, `BIN_POINTER` or `BIN_LIMIT`
 */
export function readRegulatoryBin(bytes: Uint8Array): RegulatoryBin {
	const reader = new ByteReader(bytes, "BIN_TRUNCATED");
	const magic = reader.u32(0, "header");
	if (magic !== DB_MAGIC) {
		throw new RegdomainError(
			"BIN_MAGIC",
			`not a regulatory database: it starts with 0x${magic.toString(16)}, not "RGDB"`,
			magic,
			{
				offset: 0,
			},
		);
	}
	const version = reader.u32(4, "header");
	if (version !== BIN_VERSION) {
		throw new RegdomainError("BIN_VERSION", `regulatory.bin has version 19, this file ${version}`, version, {
			offset: 4,
		});
	}
	const countryPointer = reader.u32(8, "header");
	const countryCount = reader.u32(12, "header");
	const signatureLength = reader.u32(16, "header");
	if (signatureLength > bytes.length - 20) {
		throw new RegdomainError(
			"BIN_TRUNCATED",
			`the signature of ${signatureLength} bytes does not fit the file`,
			signatureLength,
			{
				offset: 16,
			},
		);
	}
	const end = bytes.length - signatureLength;
	const inside = (offset: number, size: number, what: string): number => {
		if (offset < 20 || offset + size > end) {
			throw new RegdomainError(
				"BIN_POINTER",
				`${what} at byte ${offset} lies outside the file's ${end} signed bytes`,
				offset,
				{
					offset,
					field: what,
				},
			);
		}
		return offset;
	};
	inside(countryPointer, countryCount * 8, "country table");

	const rules = new Map<number, Rule>();
	const rule = (pointer: number): Rule => {
		const known = rules.get(pointer);
		if (known !== undefined) return known;
		inside(pointer, 12, "rule");
		const range = inside(reader.u32(pointer, "rule"), 12, "frequency range");
		const power = inside(reader.u32(pointer + 4, "rule"), 8, "power rule");
		const made: Rule = {
			startKHz: reader.u32(range, "frequency range"),
			endKHz: reader.u32(range + 4, "frequency range"),
			maxBandwidthKHz: reader.u32(range + 8, "frequency range"),
			maxGainMbi: reader.u32(power, "power rule"),
			maxEirpMbm: reader.u32(power + 4, "power rule"),
			cacMs: 0,
			flags: reader.u32(pointer + 8, "rule") | 0,
		};
		rules.set(pointer, made);
		return made;
	};
	const collections = new Map<number, Rule[]>();
	let total = 0;
	const collection = (pointer: number): Rule[] => {
		const known = collections.get(pointer);
		if (known !== undefined) return known;
		inside(pointer, 4, "collection");
		const count = reader.u32(pointer, "collection");
		inside(pointer + 4, count * 4, "collection");
		total += count;
		if (total > MAX_TOTAL_RULES) {
			throw new RegdomainError("BIN_LIMIT", `the collections hold more than ${MAX_TOTAL_RULES} rules together`, total, {
				offset: pointer,
			});
		}
		const list = Array.from({ length: count }, (_, index) => rule(reader.u32(pointer + 4 + index * 4, "collection")));
		collections.set(pointer, list);
		return list;
	};
	const domains = new Map<string, Domain>();
	for (let index = 0; index < countryCount; index++) {
		const at = countryPointer + index * 8;
		const alpha2 = reader.alpha2(at);
		const domain = {
			alpha2,
			dfsRegion: reader.u8(at + 3, "country") & 3,
			rules: collection(reader.u32(at + 4, "country")),
		};
		if (!domains.has(alpha2)) domains.set(alpha2, domain);
	}
	return { database: { domains }, signedBytes: bytes.subarray(0, end), signature: bytes.subarray(end) };
}

function inRange(value: number, field: string): number {
	if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
		throw new RegdomainError(
			"DB_UNREPRESENTABLE",
			`argument out of range: ${field} is ${value}, regulatory.bin holds 0 to 4294967295`,
			value,
			{ field },
		);
	}
	return value;
}

/**
 * Writes an unsigned regulatory.bin (version 19) with the layout of wireless-regdb's db2bin.py: powers and ranges in
 * first-use order over the sorted countries, rules and collections sorted.
 *
 * @param signatureLength - bytes of the signature to be appended, for the header; the signature covers this field
 * @throws RegdomainError `DB_UNREPRESENTABLE`
 */
export function compileRegulatoryBin(source: readonly SourceCountry[], signatureLength = 0): Uint8Array {
	const countries = [...source].sort((one, two) => compareNames(one.name, two.name));
	const powers = new Map<string, SourceRule>();
	const ranges = new Map<string, SourceRule>();
	const rules = new Map<string, SourceRule>();
	const powerKey = ({ order }: SourceRule): string => `${order[3]} ${order[4]}`;
	const rangeKey = ({ order }: SourceRule): string => `${order[0]} ${order[1]} ${order[2]}`;
	for (const country of countries) {
		for (const rule of country.rules) {
			if (!ranges.has(rangeKey(rule))) ranges.set(rangeKey(rule), rule);
			if (!powers.has(powerKey(rule))) powers.set(powerKey(rule), rule);
			rules.set(rule.key, rule);
		}
	}
	const out = new ByteWriter();
	out.u32(DB_MAGIC);
	out.u32(BIN_VERSION);
	out.u32(0);
	out.u32(countries.length);
	out.u32(signatureLength);
	const powerPointers = new Map<string, number>();
	for (const [key, { rule }] of powers) {
		powerPointers.set(key, out.length);
		out.u32(inRange(rule.maxGainMbi, "maxGainMbi"));
		out.u32(inRange(rule.maxEirpMbm, "maxEirpMbm"));
	}
	const rangePointers = new Map<string, number>();
	for (const [key, { rule }] of ranges) {
		rangePointers.set(key, out.length);
		out.u32(inRange(rule.startKHz, "startKHz"));
		out.u32(inRange(rule.endKHz, "endKHz"));
		out.u32(inRange(rule.maxBandwidthKHz, "maxBandwidthKHz"));
	}
	const rulePointers = new Map<string, number>();
	for (const rule of [...rules.values()].sort(compareRules)) {
		rulePointers.set(rule.key, out.length);
		out.u32(rangePointers.get(rangeKey(rule))!);
		out.u32(powerPointers.get(powerKey(rule))!);
		out.u32(rule.rule.flags >>> 0);
	}
	const keyOf = (country: SourceCountry): string => country.rules.map(({ key }) => rulePointers.get(key)).join(" ");
	const collections = new Map(countries.map((country) => [keyOf(country), country.rules]));
	const collectionPointers = new Map<string, number>();
	for (const [key, list] of [...collections].sort((one, two) => compareRuleLists(one[1], two[1]))) {
		collectionPointers.set(key, out.length);
		out.u32(list.length);
		for (const rule of list) out.u32(rulePointers.get(rule.key)!);
	}
	out.setU32(8, out.length);
	for (const country of countries) {
		putName(out, country.name);
		out.u8(0);
		out.u8(country.dfsRegion & 0xff);
		out.u32(collectionPointers.get(keyOf(country))!);
	}
	return out.finish();
}

/**
 * Writes a database as an unsigned regulatory.bin (version 19), byte for byte as db2bin.py writes it.
 *
 * @throws RegdomainError `DB_UNREPRESENTABLE` for a power below 0 dBm or a figure beyond 32 bits
 */
export function writeRegulatoryBin(database: Database): Uint8Array {
	return compileRegulatoryBin(sourceOf(database));
}
