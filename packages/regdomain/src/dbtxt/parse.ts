import { RegdomainError, type RegdomainErrorCode } from "../errors.ts";
import { compareRules, type SourceCountry, type SourceRule, wmmKey } from "../formats/source.ts";
import type { WmmAccessCategory, WmmRule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { Definitions } from "./definitions.ts";
import { pythonFloat, pythonInt, pythonRepr, strip, wrongArgumentCount } from "./python.ts";

/** Flags of db.txt and their nl80211 bits. */
export const dbTxtFlags: ReadonlyMap<string, number> = new Map([
	["NO-OFDM", RuleFlag.NO_OFDM],
	["NO-CCK", RuleFlag.NO_CCK],
	["NO-INDOOR", RuleFlag.NO_INDOOR],
	["NO-OUTDOOR", RuleFlag.NO_OUTDOOR],
	["DFS", RuleFlag.DFS],
	["PTP-ONLY", RuleFlag.PTP_ONLY],
	["PTMP-ONLY", RuleFlag.PTMP_ONLY],
	["NO-IR", RuleFlag.NO_IR],
	["NO-HT40", RuleFlag.NO_HT40],
	["AUTO-BW", RuleFlag.AUTO_BW],
]);

const dfsRegions: ReadonlyMap<string, number> = new Map([
	["DFS-FCC", 1],
	["DFS-ETSI", 2],
	["DFS-JP", 3],
]);

/** A remark that does not stop the parse. */
export interface DbTxtWarning {
	/** Line, counted from 1. */
	line: number;
	/** The original compiler's words. */
	message: string;
}

/** A rule where it stood in the text. */
export interface DbTxtItem {
	/** Line, counted from 1. */
	line: number;
	/** Countries it was given to. */
	countries: readonly string[];
	/** MHz, as written. */
	startMHz: number;
	/** MHz, as written. */
	endMHz: number;
	/** MHz, as written or 20 where the text has none that parses. */
	bandwidthMHz: number;
	/** dBm; milliwatts are converted. */
	eirpDbm: number;
	/** Power as written, such as `200mW` or `23`. */
	powerText: string;
	/** nl80211 bits. */
	flags: number;
	/** Whether the compilers drop it, as they do with NO-INDOOR. */
	dropped: boolean;
}

/** What a db.txt says. */
export interface DbTxt {
	/** Countries in the order of the text, for the compilers. */
	countries: readonly SourceCountry[];
	/** Remarks, in the order the original prints them. */
	warnings: readonly DbTxtWarning[];
	/** Rules in the order of the text, for tools that look at the source. */
	items: readonly DbTxtItem[];
}

interface Range {
	start: number;
	end: number;
	bandwidth: number;
}

interface Power {
	eirp: number;
	text: string;
}

/** A WMM rule that rules name, with its identity. */
interface NamedWmm {
	wmm: WmmRule;
	key: string;
}

interface Country {
	name: string;
	dfsRegion: number;
	rules: Map<string, SourceRule>;
}

const wmmCategories = ["vo_c", "vi_c", "be_c", "bk_c", "vo_ap", "vi_ap", "be_ap", "bk_ap"];

const partition = (text: string, separator: string): [string, string] | undefined => {
	const at = text.indexOf(separator);
	return at < 0 ? undefined : [text.slice(0, at), text.slice(at + separator.length)];
};

class Parser {
	readonly warnings: DbTxtWarning[] = [];
	readonly items: DbTxtItem[] = [];
	readonly countries = new Map<string, Country>();
	readonly #bands = new Definitions<Range>();
	readonly #powers = new Definitions<Power>();
	readonly #wmm = new Map<string, Map<string, readonly number[]>>();
	readonly #wmmRules = new Map<string, NamedWmm>();
	#currentCountries: Map<string, Country> | undefined;
	#currentRegions: Set<string> | undefined;
	#line = 0;

	#fail(code: RegdomainErrorCode, message: string, value: unknown): RegdomainError {
		return new RegdomainError(code, message, value, { line: this.#line });
	}

	#syntax(detail: string, value: unknown): RegdomainError {
		return this.#fail("DBTXT_SYNTAX", `Syntax error in line ${this.#line} (${detail})`, value);
	}

	/** A fault that the original meets with an uncaught Python exception. */
	#uncaught(code: RegdomainErrorCode, exception: string, expected: string, value: unknown): RegdomainError {
		return this.#fail(code, `${exception} in line ${this.#line} (${expected})`, value);
	}

	#warn(message: string): void {
		this.warnings.push({ line: this.#line, message });
	}

	parse(text: string): void {
		for (const line of text.split(/\r\n|\r|\n/)) {
			this.#line++;
			this.#statement(line);
		}
		for (const [kind, definitions] of [
			["band", this.#bands],
			["power", this.#powers],
		] as const) {
			for (const { name, line } of definitions.unused()) {
				this.#line = line;
				this.#warn(`Unused ${kind} definition "${name}"`);
			}
		}
	}

	#statement(raw: string): void {
		const compact = strip(raw).replaceAll(/[ \t]+/g, "");
		if (compact === "") this.#currentRegions = undefined;
		const comment = compact.indexOf("#");
		const line = comment < 0 ? compact : compact.slice(0, comment);
		if (line === "") return;
		if (line.startsWith("band")) {
			this.#band(line.slice(4));
			this.#currentCountries = undefined;
			this.#currentRegions = undefined;
		} else if (line.startsWith("power")) {
			this.#power(line.slice(5));
			this.#currentCountries = undefined;
			this.#currentRegions = undefined;
		} else if (line.startsWith("country")) {
			this.#country(line.slice(7));
			this.#currentRegions = undefined;
		} else if (this.#currentCountries !== undefined) {
			this.#currentRegions = undefined;
			this.#countryItem(line, this.#currentCountries);
		} else if (line.startsWith("wmmrule")) {
			this.#wmmRule(line.slice(7));
		} else if (this.#currentRegions !== undefined) {
			this.#wmmItem(line, this.#currentRegions);
		} else {
			throw this.#syntax("Expected band, power or country definition", line);
		}
	}

	#named(line: string, kind: "band" | "power"): [string, string] {
		const parts = partition(line, ":");
		if (parts === undefined) throw this.#syntax(`${kind} name must be followed by colon`, line);
		if (parts[0] === "") throw this.#syntax(`'${kind}' keyword must be followed by name`, line);
		if (dbTxtFlags.has(parts[0])) throw this.#syntax(`Invalid ${kind} name`, parts[0]);
		return parts;
	}

	#band(line: string): void {
		const [name, definition] = this.#named(line, "band");
		const earlier = this.#bandDefinition(name, definition);
		if (earlier !== undefined) this.#warn(`Duplicate band definition ("${name}" and "${earlier}")`);
	}

	/** `'%d' % value`, which Python refuses for infinities. */
	#whole(value: number): string {
		if (Number.isFinite(value)) return String(BigInt(Math.trunc(value)));
		throw this.#uncaught(
			"DBTXT_VALUE",
			"OverflowError: cannot convert float infinity to integer",
			"give a frequency in MHz",
			value,
		);
	}

	#bandDefinition(name: string, definition: string): string | undefined {
		const parts = definition.split("@");
		if (parts.length !== 2) {
			throw this.#uncaught(
				"DBTXT_VALUE",
				"UnboundLocalError: cannot access local variable 'freqs' where it is not associated with a value",
				"a band is START - END @ BANDWIDTH in MHz",
				definition,
			);
		}
		const bandwidth = pythonFloat(parts[1]!) ?? 20;
		const edges = parts[0]!.split("-").map(pythonFloat);
		const [start, end] = edges;
		if (edges.length !== 2 || start === undefined || end === undefined) {
			throw this.#syntax("band must have frequency range", definition);
		}
		if (start <= 0) throw this.#syntax(`Invalid start freq (${this.#whole(start)})`, start);
		if (end <= 0) throw this.#syntax(`Invalid end freq (${this.#whole(end)})`, end);
		if (start > end)
			throw this.#syntax(`Inverted freq range (${this.#whole(start)} - ${this.#whole(end)})`, definition);
		if (start === end) throw this.#syntax(`Start and end freqs are equal (${this.#whole(start)})`, start);
		if (bandwidth > end - start) {
			const range = `(${this.#whole(start)} - ${this.#whole(end)})`;
			throw this.#syntax(`BW is larger than freq_diff ${range} (${this.#whole(bandwidth)})`, bandwidth);
		}
		return this.#bands.add(name, { start, end, bandwidth }, `${start} ${end} ${bandwidth}`, this.#line);
	}

	#power(line: string): void {
		const [name, definition] = this.#named(line, "power");
		const earlier = this.#powerDefinition(name, definition);
		if (earlier !== undefined) this.#warn(`Duplicate power definition ("${name}" and "${earlier}")`);
	}

	#powerDefinition(name: string, text: string): string | undefined {
		const milliwatts = text.endsWith("mW") ? pythonFloat(text.slice(0, -2)) : undefined;
		let eirp: number | undefined;
		if (text === "N/A") eirp = 0;
		else if (!text.endsWith("mW")) eirp = pythonFloat(text);
		else if (milliwatts !== undefined && !(milliwatts <= 0)) eirp = 10 * Math.log10(milliwatts);
		if (eirp === undefined) throw this.#syntax("invalid power data", text);
		return this.#powers.add(name, { eirp, text }, String(eirp), this.#line);
	}

	#wmmRule(line: string): void {
		const regions = strip(line.slice(0, -1));
		if (regions === "") throw this.#syntax("'wmmrule' keyword must be followed by region", line);
		this.#currentRegions = new Set();
		for (const region of regions.split(",")) {
			if (this.#wmm.has(region)) this.#warn(`region ${region} was added already to wmm rules`);
			this.#currentRegions.add(region);
		}
	}

	#wmmItem(line: string, regions: ReadonlySet<string>): void {
		const parts = line.split(":");
		if (parts.length !== 2) throw this.#syntax("access category must be followed by colon", line);
		const [category, list] = parts as [string, string];
		if (category === "") throw this.#syntax("wmm item must have ac prefix", line);
		const values = list.split(",").map((entry) => {
			const assignment = partition(entry, "=");
			if (assignment === undefined) {
				throw this.#uncaught("DBTXT_VALUE", "IndexError: list index out of range", "a WMM item is NAME=VALUE,…", entry);
			}
			const value = pythonInt(assignment[1]);
			if (value === undefined) {
				const literal = pythonRepr(assignment[1]);
				throw this.#uncaught(
					"DBTXT_VALUE",
					`ValueError: invalid literal for int() with base 10: ${literal}`,
					"WMM values are integers",
					entry,
				);
			}
			return value;
		});
		if (values.length !== 4) {
			throw this.#uncaught(
				"DBTXT_VALUE",
				wrongArgumentCount("DBParser._validate_input", ["cw_min", "cw_max", "aifsn", "cot"], values.length),
				"a WMM item has cw_min, cw_max, aifsn and cot",
				list,
			);
		}
		this.#checkWmm(values as [number, number, number, number]);
		for (const region of regions) {
			const rules = this.#wmm.get(region) ?? new Map<string, readonly number[]>();
			this.#wmm.set(region, rules.set(category, values));
			this.#wmmRules.delete(region);
		}
	}

	#checkWmm([cwMin, cwMax, aifsn, cot]: [number, number, number, number]): void {
		const whole = (value: number): string => String(BigInt(value));
		const window = (value: number): boolean => value < 2 ** 15 && (value & (value + 1)) === 0;
		if (cwMin < 1) throw this.#syntax(`Invalid cw_min value (${whole(cwMin)})`, cwMin);
		if (cwMax < 1) throw this.#syntax(`Invalid cw_max value (${whole(cwMax)})`, cwMax);
		if (cwMin > cwMax) throw this.#syntax(`Inverted contention window (${whole(cwMin)} - ${whole(cwMax)})`, cwMin);
		if (!window(cwMin)) throw this.#syntax(`Invalid cw_min value should be power of 2 - 1 (${whole(cwMin)})`, cwMin);
		if (!window(cwMax)) throw this.#syntax(`Invalid cw_max value should be power of 2 - 1 (${whole(cwMax)})`, cwMax);
		if (aifsn < 1) throw this.#syntax(`Invalid aifsn value (${whole(aifsn)})`, aifsn);
		if (cot < 0) throw this.#syntax(`Invalid cot value (${whole(cot)})`, cot);
		if (aifsn > 0xff) throw this.#syntax(`unexpected input size expect 1 got ${whole(aifsn)}`, aifsn);
		if (cot > 0xffff) throw this.#syntax(`unexpected input size expect 2 got ${whole(cot)}`, cot);
	}

	#country(line: string): void {
		const parts = partition(line, ":");
		if (parts === undefined) throw this.#syntax("country name must be followed by colon", line);
		if (parts[0] === "") throw this.#syntax("'country' keyword must be followed by name", line);
		const region = strip(parts[1]);
		this.#currentCountries = new Map();
		for (const name of parts[0].split(",")) {
			const characters = [...name];
			if (characters.length !== 2) this.#warn(`country '${name}' not alpha2`);
			const foreign = characters.findIndex((character) => character.codePointAt(0)! > 0x7f);
			if (foreign >= 0) throw this.#notAscii(characters, foreign);
			let country = this.countries.get(name);
			if (country === undefined) {
				const dfsRegion = region === "" ? 0 : dfsRegions.get(region);
				if (dfsRegion === undefined) {
					throw this.#uncaught(
						"DBTXT_DFS_REGION",
						`DFSRegionError: ${region}`,
						"a DFS region is DFS-FCC, DFS-ETSI or DFS-JP",
						region,
					);
				}
				country = { name, dfsRegion, rules: new Map() };
				this.countries.set(name, country);
			}
			this.#currentCountries.set(name, country);
		}
	}

	#notAscii(characters: readonly string[], at: number): RegdomainError {
		const code = characters[at]!.codePointAt(0)!;
		const hex = code.toString(16);
		const escaped =
			code < 0x100
				? `\\x${hex.padStart(2, "0")}`
				: code < 0x10000
					? `\\u${hex.padStart(4, "0")}`
					: `\\U${hex.padStart(8, "0")}`;
		let end = at;
		while (end + 1 < characters.length && characters[end + 1]!.codePointAt(0)! > 0x7f) end++;
		const what = end === at ? `character '${escaped}' in position ${at}` : `characters in position ${at}-${end}`;
		return this.#uncaught(
			"DBTXT_ENCODING",
			`UnicodeEncodeError: 'ascii' codec can't encode ${what}: ordinal not in range(128)`,
			"country codes are ASCII",
			characters.join(""),
		);
	}

	#countryItem(line: string, countries: ReadonlyMap<string, Country>): void {
		const [bandName, rest] = this.#itemBand(line);
		const [powerName, flagNames] = this.#itemPower(rest);
		let wmm: NamedWmm | undefined;
		if (flagNames.at(-1)?.includes("wmmrule") === true) wmm = this.#itemWmm(flagNames.pop()!);
		const bandEntry = this.#bands.byName.get(bandName);
		if (bandEntry === undefined) throw this.#syntax("band does not exist", bandName);
		const powerEntry = this.#powers.byName.get(powerName);
		if (powerEntry === undefined) throw this.#syntax("power does not exist", powerName);
		bandEntry.used = true;
		powerEntry.used = true;
		let flags = 0;
		for (const name of flagNames) {
			const flag = dbTxtFlags.get(name);
			if (flag === undefined) throw this.#syntax(`Invalid flag '${name}'`, name);
			flags |= flag;
		}
		const band = bandEntry.canonical;
		const power = powerEntry.canonical;
		const range = (band === bandName ? bandEntry : this.#bands.byName.get(band)!).value;
		const { eirp, text } = (power === powerName ? powerEntry : this.#powers.byName.get(power)!).value;
		const dropped = (flags & RuleFlag.NO_INDOOR) !== 0;
		this.items.push({
			line: this.#line,
			countries: [...countries.keys()],
			startMHz: range.start,
			endMHz: range.end,
			bandwidthMHz: range.bandwidth,
			eirpDbm: eirp,
			powerText: text,
			flags,
			dropped,
		});
		if (dropped) return;
		const rule = sourceRule(range, eirp, flags, wmm);
		for (const [name, country] of countries) {
			if (country.rules.has(rule.key)) this.#warn(`Rule "${band}, ${power}" added to "b${pythonRepr(name)}" twice`);
			else country.rules.set(rule.key, rule);
		}
	}

	#itemBand(line: string): [string, string] {
		if (line.startsWith("(")) {
			const parts = partition(line.slice(1), "),");
			const name = `UNNAMED ${this.#line}`;
			try {
				if (parts === undefined) throw this.#syntax("", line);
				this.#bandDefinition(name, parts[0]);
				return [name, parts[1]];
			} catch (error) {
				// The original catches everything here, so that the real reason is lost.
				if (!(error instanceof RegdomainError)) throw error;
				throw this.#syntax("Badly parenthesised band definition", line);
			}
		}
		const parts = partition(line, ",");
		if (parts === undefined) throw this.#syntax("country definition must have band and power", line);
		if (parts[0] === "") throw this.#syntax("country definition must have band", line);
		if (parts[1] === "") throw this.#syntax("country definition must have power", line);
		return parts;
	}

	#itemPower(rest: string): [string, string[]] {
		if (rest === "") {
			throw this.#uncaught(
				"DBTXT_VALUE",
				"IndexError: string index out of range",
				"a rule is (BAND), (POWER)[, FLAG…]",
				rest,
			);
		}
		if (!rest.startsWith("(")) {
			const [name, ...flags] = rest.split(",");
			return [name!, flags];
		}
		const parts = partition(rest, "),");
		if (parts === undefined && !rest.endsWith(")")) throw this.#syntax("Badly parenthesised power definition", rest);
		const text = parts === undefined ? rest.slice(1, -1) : parts[0].slice(1);
		const name = `UNNAMED ${this.#line}`;
		this.#powerDefinition(name, text);
		return [name, parts === undefined ? [] : parts[1].split(",")];
	}

	#itemWmm(flag: string): NamedWmm {
		const assignment = partition(flag, "=");
		if (assignment === undefined) throw this.#syntax("flags is empty list or no region was found", flag);
		const known = this.#wmmRules.get(assignment[1]);
		if (known !== undefined) return known;
		const categories = this.#wmm.get(assignment[1]);
		if (categories === undefined) throw this.#syntax(`No wmm rule for ${assignment[1]}`, assignment[1]);
		if (categories.size !== 8) {
			throw this.#uncaught(
				"DBTXT_VALUE",
				wrongArgumentCount("WmmRule.__init__", wmmCategories, categories.size),
				`wmmrule ${assignment[1]} must have 8 access categories`,
				categories.size,
			);
		}
		const all = [...categories.values()].map(
			([cwMin, cwMax, aifsn, cotMs]): WmmAccessCategory => ({
				cwMin: cwMin!,
				cwMax: cwMax!,
				aifsn: aifsn!,
				cotMs: cotMs!,
			}),
		);
		const wmm = { client: all.slice(0, 4), ap: all.slice(4) };
		const named = { wmm, key: wmmKey(wmm) };
		this.#wmmRules.set(assignment[1], named);
		return named;
	}
}

function sourceRule(
	{ start, end, bandwidth }: Range,
	eirp: number,
	flags: number,
	wmm: NamedWmm | undefined,
): SourceRule {
	const rule = {
		startKHz: Math.trunc(start * 1000),
		endKHz: Math.trunc(end * 1000),
		maxBandwidthKHz: Math.trunc(bandwidth * 1000),
		maxGainMbi: 0,
		maxEirpMbm: Math.trunc(eirp * 100) + 0,
		cacMs: 0,
		flags,
	};
	return {
		order: [start, end, bandwidth, 0, eirp],
		key: `${start} ${end} ${bandwidth} ${eirp} ${flags} ${wmm?.key ?? ""}`,
		rule: wmm === undefined ? rule : { ...rule, wmm: wmm.wmm },
	};
}

/**
 * Reads a db.txt as wireless-regdb's dbparse.py reads it: the same texts are accepted, errors have the same words and line
 * numbers, warnings the same words and order. A rule with NO-INDOOR is dropped, as there.
 *
 * @throws RegdomainError `DBTXT_SYNTAX` with the original's message ("Syntax error in line 2 (…)"); `DBTXT_DFS_REGION`,
 * `DBTXT_ENCODING` and `DBTXT_VALUE` where the original ends in an uncaught exception, which the message names
 */
export function parseDbTxt(text: string): DbTxt {
	const parser = new Parser();
	parser.parse(text);
	const countries = [...parser.countries.values()].map(({ name, dfsRegion, rules }) => ({
		name,
		dfsRegion,
		rules: [...rules.values()].sort(compareRules),
	}));
	return { countries, warnings: parser.warnings, items: parser.items };
}
