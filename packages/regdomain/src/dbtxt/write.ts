import { RegdomainError } from "../errors.ts";
import { readDbCountries } from "../formats/regulatory-db.ts";
import { compareWmm, wmmKey } from "../formats/source.ts";
import type { Database, Rule, WmmRule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { dbTxtToRegulatoryDb } from "./compile.ts";
import { dbTxtFlags, parseDbTxt } from "./parse.ts";

const dfsNames = ["", " DFS-FCC", " DFS-ETSI", " DFS-JP"];
const expressible = [...dbTxtFlags.values()].reduce((mask, flag) => mask | flag, 0);

/** Milliwatts that people write, whose dBm the compiler cuts to an odd number of mBm. */
const roundMilliwatts: ReadonlyMap<number, number> = new Map(
	[1, 2, 5, 10, 20, 25, 50, 100, 125, 150, 200, 250, 400, 500, 800, 1000, 1500, 2000, 4000]
		.map((milliwatts): [number, number] => [Math.trunc(10 * Math.log10(milliwatts) * 100), milliwatts])
		.filter(([mbm]) => mbm % 100 !== 0),
);

/**
 * Shortest decimal text that, read as a double and multiplied by the scale, is cut to the integer wanted. Where plain
 * division falls just short (16.99 × 100 = 1698.99…) a further digit is added.
 *
 * @param nudge - 0 for the shortest text, 1, 2, … for ever larger numbers that are cut to the same integer
 */
function scaled(value: number, scale: number, nudge: number): string {
	const plain = value / scale;
	const digits = Math.log10(scale);
	if (nudge === 0 && Math.trunc(plain * scale) === value) return String(plain);
	return (plain + (nudge + 1) / scale / 1000).toFixed(digits + 3);
}

function powerText(mbm: number, nudge: number): string {
	const milliwatts = roundMilliwatts.get(mbm);
	return nudge === 0 && milliwatts !== undefined ? `${milliwatts} mW` : scaled(mbm, 100, nudge);
}

function flagText(flags: number): string {
	return [...dbTxtFlags]
		.filter(([, flag]) => (flags & flag) !== 0)
		.map(([name]) => `, ${name}`)
		.join("");
}

function unwritable(rule: Rule, alpha2: string, why: string): RegdomainError {
	return new RegdomainError(
		"DB_UNREPRESENTABLE",
		`a rule of ${JSON.stringify(alpha2)} cannot be written as db.txt: ${why}`,
		rule,
	);
}

function ruleText(rule: Rule, alpha2: string, wmmNames: ReadonlyMap<string, string>, nudge: number): string {
	if ((rule.flags & ~expressible) !== 0) throw unwritable(rule, alpha2, "it has flags that only nl80211 knows");
	if ((rule.flags & RuleFlag.NO_INDOOR) !== 0) throw unwritable(rule, alpha2, "compilers drop rules with NO-INDOOR");
	if (rule.maxGainMbi !== 0) throw unwritable(rule, alpha2, "db.txt has no antenna gain");
	if (rule.cacMs !== 0) throw unwritable(rule, alpha2, "db.txt has no CAC time");
	if (!(rule.startKHz > 0 && rule.endKHz > rule.startKHz && rule.maxBandwidthKHz <= rule.endKHz - rule.startKHz)) {
		throw unwritable(rule, alpha2, "its range is empty or narrower than its bandwidth");
	}
	const [start, plainEnd, width] = [rule.startKHz, rule.endKHz, rule.maxBandwidthKHz].map((khz) =>
		scaled(khz, 1000, 0),
	);
	// As doubles, the difference of the edges may fall just short of a bandwidth as wide as the range.
	const end = Number(width) > Number(plainEnd) - Number(start) ? scaled(rule.endKHz, 1000, 1) : plainEnd;
	const wmm = rule.wmm === undefined ? "" : `, wmmrule=${wmmNames.get(wmmKey(rule.wmm))}`;
	return `\t(${start} - ${end} @ ${width}), (${powerText(rule.maxEirpMbm, nudge)})${flagText(rule.flags)}${wmm}\n`;
}

const acNames = ["vo_c", "vi_c", "be_c", "bk_c", "vo_ap", "vi_ap", "be_ap", "bk_ap"];

function wmmText(name: string, wmm: WmmRule): string {
	const lines = [...wmm.client, ...wmm.ap].map(
		({ cwMin, cwMax, aifsn, cotMs }, index) =>
			`\t${acNames[index]}: cw_min=${cwMin}, cw_max=${cwMax}, aifsn=${aifsn}, cot=${cotMs}\n`,
	);
	return `wmmrule ${name}:\n${lines.join("")}\n`;
}

interface WrittenCountry {
	alpha2: string;
	dfsRegion: number;
	rules: readonly { rule: Rule; nudge: number }[];
}

function writeCountries(countries: readonly WrittenCountry[], heading: string): string {
	const wmms = new Map(
		countries.flatMap(({ rules }) =>
			rules.flatMap(({ rule: { wmm } }) => (wmm === undefined ? [] : [[wmmKey(wmm), wmm]])),
		),
	);
	const sorted = [...wmms].sort((one, two) => compareWmm(one[1], two[1]));
	const names = new Map(sorted.map(([key], index) => [key, sorted.length === 1 ? "ETSI" : `WMM${index + 1}`]));
	const blocks = countries.map(({ alpha2, dfsRegion, rules }) => {
		if (!/^[^\s#:,\x80-\uffff]{2}$/.test(alpha2) || dfsNames[dfsRegion] === undefined) {
			throw new RegdomainError(
				"DB_UNREPRESENTABLE",
				`country ${JSON.stringify(alpha2)} with DFS region ${dfsRegion} cannot be written as db.txt`,
				alpha2,
			);
		}
		const lines = rules.map(({ rule, nudge }) => ruleText(rule, alpha2, names, nudge));
		return `country ${alpha2}:${dfsNames[dfsRegion]}\n${lines.join("")}`;
	});
	return heading + sorted.map(([key, wmm]) => wmmText(names.get(key)!, wmm)).join("") + blocks.join("\n");
}

/**
 * Writes a database as db.txt, countries by name. Compiling the text gives the same domains.
 *
 * @throws RegdomainError `DB_UNREPRESENTABLE` for what db.txt cannot say: antenna gain, CAC times, flags of nl80211 alone
 */
export function writeDbTxt(database: Database): string {
	const countries = [...database.domains.values()]
		.sort((one, two) => (one.alpha2 < two.alpha2 ? -1 : 1))
		.map(({ alpha2, dfsRegion, rules }) => ({ alpha2, dfsRegion, rules: rules.map((rule) => ({ rule, nudge: 0 })) }));
	return writeCountries(countries, "");
}

/** A decompiled database. */
export interface Decompiled {
	/** The db.txt. */
	text: string;
	/** Whether compiling the text gives the very same bytes; false for files that db2fw.py could not have written. */
	identical: boolean;
}

/**
 * Decompiles a regulatory.db (version 20) to a db.txt that compiles to the same bytes. Rules that have equal figures but
 * separate places in the file, as db2fw.py writes for `23.01` beside `200 mW`, get texts that keep them apart.
 *
 * @throws RegdomainError a `DB_` code when the file is malformed or holds what db.txt cannot say
 */
export function decompileRegulatoryDb(bytes: Uint8Array): Decompiled {
	const countries = readDbCountries(bytes);
	const figures = ({ startKHz, endKHz, maxBandwidthKHz, maxEirpMbm, flags, wmm }: Rule): string =>
		`${startKHz} ${endKHz} ${maxBandwidthKHz} ${maxEirpMbm} ${flags} ${wmmKey(wmm)}`;
	const places = new Map<string, number[]>();
	for (const { domain, rulePointers } of countries) {
		for (const [index, rule] of domain.rules.entries()) {
			const known = places.get(figures(rule)) ?? [];
			const pointer = rulePointers[index]!;
			if (!known.includes(pointer))
				places.set(
					figures(rule),
					[...known, pointer].sort((one, two) => one - two),
				);
		}
	}
	const written = countries.map(({ alpha2, domain, rulePointers }) => ({
		alpha2,
		dfsRegion: domain.dfsRegion,
		rules: domain.rules.map((rule, index) => {
			const among = places.get(figures(rule))!;
			const at = among.indexOf(rulePointers[index]!);
			return { rule, nudge: among.length === 1 ? 0 : at + 1 };
		}),
	}));
	const text = writeCountries(written, "");
	const compiled = dbTxtToRegulatoryDb(parseDbTxt(text));
	const identical = compiled.length === bytes.length && compiled.every((byte, index) => byte === bytes[index]);
	return { text, identical };
}
