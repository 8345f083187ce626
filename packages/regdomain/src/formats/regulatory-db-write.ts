import { RegdomainError } from "../errors.ts";
import type { Database, WmmAccessCategory } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { ByteWriter } from "./bytes.ts";
import { DB_MAGIC, DB_VERSION, DbFlag } from "./regulatory-db.ts";
import {
	compareNames,
	compareRuleLists,
	compareRules,
	compareWmm,
	type SourceCountry,
	type SourceRule,
	sourceOf,
	wmmKey,
} from "./source.ts";

const flagBits: readonly (readonly [number, number])[] = [
	[RuleFlag.NO_OFDM, DbFlag.NO_OFDM],
	[RuleFlag.NO_OUTDOOR, DbFlag.NO_OUTDOOR],
	[RuleFlag.DFS, DbFlag.DFS],
	[RuleFlag.NO_IR, DbFlag.NO_IR],
	[RuleFlag.AUTO_BW, DbFlag.AUTO_BW],
];
const expressible = flagBits.reduce((mask, [flag]) => mask | flag, 0);

function inRange(value: number, highest: number, field: string, country?: string): number {
	if (!Number.isInteger(value) || value < 0 || value > highest) {
		throw new RegdomainError(
			"DB_UNREPRESENTABLE",
			`argument out of range: ${field} is ${value}${country === undefined ? "" : ` in ${country}`}, regulatory.db holds 0 to ${highest}`,
			value,
			{ field },
		);
	}
	return value;
}

/** Puts the two bytes of a country's name: shorter names are padded with zero, longer ones cut. */
export function putName(out: ByteWriter, name: string): void {
	for (const index of [0, 1]) out.u8(inRange(index < name.length ? name.charCodeAt(index) : 0, 0xff, "country code"));
}

function putAc(out: ByteWriter, { cwMin, cwMax, aifsn, cotMs }: WmmAccessCategory): void {
	const exponent = (cw: number): number => inRange(Math.log2(cw + 1), 15, "contention window exponent");
	out.u8((exponent(cwMin) << 4) | exponent(cwMax));
	out.u8(inRange(aifsn, 0xff, "aifsn"));
	out.u16(inRange(cotMs, 0xffff, "cot"));
}

function putRule(out: ByteWriter, { rule }: SourceRule, wmmPointers: ReadonlyMap<string, number>): void {
	const lost = rule.flags & ~expressible;
	if (lost !== 0 || rule.maxGainMbi !== 0 || rule.cacMs % 1000 !== 0) {
		throw new RegdomainError(
			"DB_UNREPRESENTABLE",
			lost !== 0
				? `rule flags 0x${lost.toString(16)} have no bit in regulatory.db; drop them or write regulatory.bin`
				: "regulatory.db has no antenna gain, and CAC times in whole seconds only",
			rule,
			{ field: lost !== 0 ? "flags" : "rule" },
		);
	}
	const cacSeconds = inRange(rule.cacMs / 1000, 0xffff, "CAC time");
	const length = rule.wmm !== undefined ? 20 : cacSeconds > 0 ? 18 : 16;
	out.u8(length);
	out.u8(flagBits.reduce((bits, [flag, bit]) => ((rule.flags & flag) !== 0 ? bits | bit : bits), 0));
	out.u16(inRange(rule.maxEirpMbm, 0xffff, "maxEirpMbm"));
	out.u32(inRange(rule.startKHz, 0xffffffff, "startKHz"));
	out.u32(inRange(rule.endKHz, 0xffffffff, "endKHz"));
	out.u32(inRange(rule.maxBandwidthKHz, 0xffffffff, "maxBandwidthKHz"));
	if (length > 16) out.u16(cacSeconds);
	if (length > 16) out.u16(rule.wmm === undefined ? 0 : wmmPointers.get(wmmKey(rule.wmm))!);
}

/**
 * Writes regulatory.db (version 20) with the layout of wireless-regdb's db2fw.py: countries by name, unique WMM blocks,
 * unique rules and unique rule collections, each sorted.
 *
 * @throws RegdomainError `DB_UNREPRESENTABLE` for a flag, gain, time, power or size the format cannot hold
 */
export function compileRegulatoryDb(source: readonly SourceCountry[]): Uint8Array {
	const countries = [...source].sort((one, two) => compareNames(one.name, two.name));
	const out = new ByteWriter();
	const pointer = (): number => inRange(out.length >> 2, 0xffff, "file offset / 4");
	out.u32(DB_MAGIC);
	out.u32(DB_VERSION);
	const slots = countries.map(({ name }) => {
		putName(out, name);
		out.u16(0);
		return out.length - 2;
	});
	out.u32(0);

	const rules = new Map<string, SourceRule>();
	for (const country of countries) for (const rule of country.rules) rules.set(rule.key, rule);
	const sorted = [...rules.values()].sort(compareRules);
	const wmms = new Map(sorted.flatMap(({ rule: { wmm } }) => (wmm === undefined ? [] : [[wmmKey(wmm), wmm]])));
	const wmmPointers = new Map<string, number>();
	for (const [key, wmm] of [...wmms].sort((one, two) => compareWmm(one[1], two[1]))) {
		wmmPointers.set(key, pointer());
		for (const ac of [...wmm.client, ...wmm.ap]) putAc(out, ac);
	}

	const rulePointers = new Map<string, number>();
	for (const rule of sorted) {
		rulePointers.set(rule.key, pointer());
		putRule(out, rule, wmmPointers);
	}

	const collections = new Map<string, { country: SourceCountry; slots: number[] }>();
	for (const [index, country] of countries.entries()) {
		const key = `${country.dfsRegion}:${country.rules.map((rule) => rulePointers.get(rule.key)).join(" ")}`;
		const known = collections.get(key);
		if (known === undefined) collections.set(key, { country, slots: [slots[index]!] });
		else known.slots.push(slots[index]!);
	}
	const ordered = [...collections.values()].sort(
		({ country: one }, { country: two }) => compareRuleLists(one.rules, two.rules) || one.dfsRegion - two.dfsRegion,
	);
	for (const { country, slots: users } of ordered) {
		const at = pointer();
		for (const slot of users) out.setU16(slot, at);
		out.u8(3);
		out.u8(inRange(country.rules.length, 0xff, "number of rules", country.name));
		out.u8(inRange(country.dfsRegion, 0xff, "dfsRegion", country.name));
		out.u8(0);
		for (const rule of country.rules) out.u16(rulePointers.get(rule.key)!);
		if (country.rules.length % 2 === 1) out.u16(0);
	}
	return out.finish();
}

/**
 * Writes a database as regulatory.db (version 20), byte for byte as db2fw.py writes it.
 *
 * @throws RegdomainError `DB_UNREPRESENTABLE` for a flag, gain, time, power or size the format cannot hold
 */
export function writeRegulatoryDb(database: Database): Uint8Array {
	return compileRegulatoryDb(sourceOf(database));
}
