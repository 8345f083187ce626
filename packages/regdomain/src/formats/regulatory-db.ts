import { RegdomainError } from "../errors.ts";
import type { Database, Domain, Rule, WmmAccessCategory, WmmRule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { ByteReader } from "./bytes.ts";

/** "RGDB", the magic number of both binary formats. */
export const DB_MAGIC = 0x52474442;
/** Version of regulatory.db, the kernel's firmware file. */
export const DB_VERSION = 20;

/** Flags byte of a rule in regulatory.db. */
export const DbFlag = { NO_OFDM: 1, NO_OUTDOOR: 2, DFS: 4, NO_IR: 8, AUTO_BW: 16 } as const;

const flagOfBit: readonly (readonly [number, number])[] = [
	[DbFlag.NO_OFDM, RuleFlag.NO_OFDM],
	[DbFlag.NO_OUTDOOR, RuleFlag.NO_OUTDOOR],
	[DbFlag.DFS, RuleFlag.DFS],
	[DbFlag.NO_IR, RuleFlag.NO_IR],
	[DbFlag.AUTO_BW, RuleFlag.AUTO_BW],
];

/** One country of a regulatory.db and where its parts lie. */
export interface DbCountry {
	/** Two bytes as characters. */
	alpha2: string;
	/** Its domain. */
	domain: Domain;
	/** Byte offset of each rule, in order. */
	rulePointers: readonly number[];
	/** Byte offset of the collection. */
	collectionPointer: number;
}

function readAc(reader: ByteReader, offset: number): WmmAccessCategory {
	const ecw = reader.u8(offset, "WMM");
	const cwMin = (1 << (ecw >> 4)) - 1;
	const cwMax = (1 << (ecw & 15)) - 1;
	const aifsn = reader.u8(offset + 1, "WMM");
	if (cwMin >= cwMax || aifsn < 1) {
		throw new RegdomainError(
			"DB_WMM",
			`WMM parameters at byte ${offset} have cw_min ${cwMin}, cw_max ${cwMax}, aifsn ${aifsn}; cw_min must be below cw_max and aifsn at least 1`,
			ecw,
			{ offset },
		);
	}
	return { cwMin, cwMax, aifsn, cotMs: reader.u16(offset + 2, "WMM") };
}

function readWmm(reader: ByteReader, offset: number): WmmRule {
	reader.need(offset, 32, "WMM block");
	const four = (from: number): WmmAccessCategory[] => [0, 4, 8, 12].map((at) => readAc(reader, from + at));
	return { client: four(offset), ap: four(offset + 16) };
}

function readRule(reader: ByteReader, offset: number): Rule {
	const length = reader.u8(offset, "rule");
	if (length < 16) {
		throw new RegdomainError("DB_RULE", `rule at byte ${offset} has length ${length}; the shortest is 16`, length, {
			offset,
		});
	}
	reader.need(offset, Math.min(length, 20), "rule");
	const bits = reader.u8(offset + 1, "rule");
	const rule: Rule = {
		startKHz: reader.u32(offset + 4, "rule"),
		endKHz: reader.u32(offset + 8, "rule"),
		maxBandwidthKHz: reader.u32(offset + 12, "rule"),
		maxGainMbi: 0,
		maxEirpMbm: reader.u16(offset + 2, "rule"),
		cacMs: length >= 18 ? reader.u16(offset + 16, "rule") * 1000 : 0,
		flags: flagOfBit.reduce((flags, [bit, flag]) => ((bits & bit) !== 0 ? flags | flag : flags), 0),
	};
	if (length >= 20) rule.wmm = readWmm(reader, reader.u16(offset + 18, "rule") * 4);
	return rule;
}

/**
 * Reads the countries of a regulatory.db (version 20) with the kernel's checks (`valid_regdb`), and beyond them that
 * every rule lies inside the file, which the kernel does not look at. Rules and WMM blocks that countries share are
 * shared objects.
 *
 * @throws RegdomainError `DB_MAGIC`, `DB_VERSION`, `DB_TRUNCATED`, `DB_COLLECTION`, `DB_RULE` or `DB_WMM`
 */
export function readDbCountries(bytes: Uint8Array): DbCountry[] {
	const reader = new ByteReader(bytes, "DB_TRUNCATED");
	const magic = reader.u32(0, "header");
	if (magic !== DB_MAGIC) {
		throw new RegdomainError(
			"DB_MAGIC",
			`not a regulatory database: it starts with 0x${magic.toString(16)}, not "RGDB"`,
			magic,
			{
				offset: 0,
			},
		);
	}
	const version = reader.u32(4, "header");
	if (version !== DB_VERSION) {
		throw new RegdomainError("DB_VERSION", `regulatory.db has version 20, this file ${version}`, version, {
			offset: 4,
		});
	}
	const rules = new Map<number, Rule>();
	const rule = (offset: number): Rule => {
		const known = rules.get(offset);
		if (known !== undefined) return known;
		const read = readRule(reader, offset);
		rules.set(offset, read);
		return read;
	};
	const countries: DbCountry[] = [];
	for (let at = 8; at + 4 <= reader.length; at += 4) {
		const collection = reader.u16(at + 2, "country") * 4;
		if (collection === 0) break;
		const alpha2 = reader.alpha2(at);
		const length = reader.u8(collection, "collection");
		const count = reader.u8(collection + 1, "collection");
		if (length < 3) {
			throw new RegdomainError(
				"DB_COLLECTION",
				`collection at byte ${collection} of ${JSON.stringify(alpha2)} has length ${length}; the shortest is 3`,
				length,
				{ offset: collection },
			);
		}
		const first = collection + length + (length & 1);
		reader.need(collection, first - collection + count * 2, "collection");
		const rulePointers = Array.from({ length: count }, (_, index) => reader.u16(first + index * 2, "collection") * 4);
		const domain = {
			alpha2,
			dfsRegion: reader.u8(collection + 2, "collection"),
			rules: rulePointers.map(rule),
		};
		countries.push({ alpha2, domain, rulePointers, collectionPointer: collection });
	}
	return countries;
}

/**
 * Reads a regulatory.db (version 20), the file the kernel loads as firmware. Of two countries with the same code the
 * first counts, as in the kernel.
 *
 * @throws RegdomainError `DB_MAGIC`, `DB_VERSION`, `DB_TRUNCATED`, `DB_COLLECTION`, `DB_RULE` or `DB_WMM`
 */
export function readRegulatoryDb(bytes: Uint8Array): Database {
	const domains = new Map<string, Domain>();
	for (const { alpha2, domain } of readDbCountries(bytes)) if (!domains.has(alpha2)) domains.set(alpha2, domain);
	return { domains };
}
