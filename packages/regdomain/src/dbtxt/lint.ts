import { RuleFlag } from "../model/flags.ts";
import type { DbTxt, DbTxtItem } from "./parse.ts";

/** One finding in a db.txt. */
export interface LintFinding {
	/** Line, counted from 1. */
	line: number;
	/** `error` will not compile or is refused by the kernel; `warning` is probably a mistake; `note` is worth a look. */
	severity: "error" | "warning" | "note";
	/** Which check. */
	check:
		| "compiler"
		| "power-unit"
		| "power-range"
		| "gap"
		| "overlap"
		| "duplicate-range"
		| "bandwidth"
		| "auto-bw-alone"
		| "dfs-missing"
		| "dfs-region"
		| "dropped"
		| "unsupported-flag"
		| "outside-bands"
		| "rule-count";
	/** What is wrong and what is expected. */
	message: string;
}

const knownBands: readonly (readonly [number, number])[] = [
	[755, 928],
	[2400, 2500],
	[4900, 5000],
	[5000, 5925],
	[5925, 7125],
	[57000, 71000],
];

const standardWidths = new Set([1, 2, 4, 5, 8, 10, 16, 20, 40, 80, 160, 320, 2160]);

const steps = (first: number, last: number, step: number): number[] =>
	Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, index) => first + index * step);

const channelCentres = [
	...steps(2412, 2472, 5),
	...steps(5180, 5320, 20),
	...steps(5500, 5720, 20),
	...steps(5745, 5885, 20),
	...steps(5955, 7115, 20),
];

/** Whether a gap narrower than a channel lies inside a channel; the usual one from 5730 to 5735 MHz does not. */
const cutsChannel = (endMHz: number, startMHz: number): boolean =>
	startMHz - endMHz < 20 && channelCentres.some((centre) => centre - 10 < startMHz && centre + 10 > endMHz);

const rangeText = ({ startMHz, endMHz }: DbTxtItem): string => `${startMHz} - ${endMHz} MHz`;

function* itemFindings(item: DbTxtItem): Generator<LintFinding> {
	const { line, startMHz, endMHz, bandwidthMHz, eirpDbm, powerText, flags } = item;
	const finding = (severity: LintFinding["severity"], check: LintFinding["check"], message: string): LintFinding => ({
		line,
		severity,
		check,
		message,
	});
	const unit = powerText.endsWith("mW") ? "mW" : "dBm";
	const figure = Number.parseFloat(powerText);
	if (unit === "dBm" && figure > 50) {
		yield finding(
			"warning",
			"power-unit",
			`${figure} dBm is ${Math.round(10 ** (figure / 10) / 1000)} W; ${figure} mW was probably meant`,
		);
	} else if (unit === "mW" && figure <= 36 && ![1, 5, 10, 20, 25].includes(figure)) {
		yield finding(
			"warning",
			"power-unit",
			`${figure} mW is only ${eirpDbm.toFixed(1)} dBm; ${figure} dBm was probably meant`,
		);
	}
	if (eirpDbm < 0) yield finding("error", "power-range", `${eirpDbm} dBm: regulatory.db holds powers from 0 dBm only`);
	if (!knownBands.some(([low, high]) => startMHz >= low && endMHz <= high)) {
		yield finding("note", "outside-bands", `${rangeText(item)} reaches outside the Wi-Fi bands`);
	}
	if (!standardWidths.has(bandwidthMHz)) {
		yield finding("note", "bandwidth", `${bandwidthMHz} MHz is no width of a Wi-Fi channel`);
	}
	const dfsRange = startMHz < 5725 && endMHz > 5260 && endMHz < 5925;
	if (dfsRange && (flags & RuleFlag.DFS) === 0) {
		yield finding(
			"note",
			"dfs-missing",
			`${rangeText(item)} has no DFS; most administrations ask for radar detection there`,
		);
	}
	if (item.dropped) yield finding("note", "dropped", "a rule with NO-INDOOR is left out of the compiled files");
	const unsupported = RuleFlag.NO_CCK | RuleFlag.PTP_ONLY | RuleFlag.PTMP_ONLY | RuleFlag.NO_HT40;
	if ((flags & unsupported) !== 0) {
		yield finding("error", "unsupported-flag", "NO-CCK, PTP-ONLY, PTMP-ONLY and NO-HT40 have no bit in regulatory.db");
	}
}

function* countryFindings(country: string, items: readonly DbTxtItem[]): Generator<LintFinding> {
	const sorted = items
		.filter(({ dropped }) => !dropped)
		.sort((one, two) => one.startMHz - two.startMHz || one.endMHz - two.endMHz);
	if (sorted.length > 128) {
		yield {
			line: sorted[128]!.line,
			severity: "error",
			check: "rule-count",
			message: `${country} has ${sorted.length} rules; the kernel takes 128`,
		};
	}
	for (const [index, item] of sorted.entries()) {
		const next = sorted[index + 1];
		const autoBw = (item.flags & RuleFlag.AUTO_BW) !== 0;
		const touching = [sorted[index - 1], next].some(
			(other) => other !== undefined && other.startMHz <= item.endMHz && other.endMHz >= item.startMHz,
		);
		const span = item.endMHz - item.startMHz;
		if (autoBw && !touching && item.bandwidthMHz >= span) {
			yield {
				line: item.line,
				severity: "note",
				check: "auto-bw-alone",
				message: `${country}: AUTO-BW has no effect, no rule touches ${rangeText(item)}`,
			};
		}
		if (next === undefined) continue;
		const message = `${country}: ${rangeText(item)} and ${rangeText(next)} (line ${next.line})`;
		const gap = next.startMHz - item.endMHz;
		const same = item.startMHz === next.startMHz && item.endMHz === next.endMHz;
		if (same)
			yield {
				line: next.line,
				severity: "warning",
				check: "duplicate-range",
				message: `${message} are the same range; the first rule in sorted order wins`,
			};
		else if (gap < 0 && item.startMHz >= 3000)
			yield { line: next.line, severity: "warning", check: "overlap", message: `${message} overlap` };
		else if (gap > 0 && cutsChannel(item.endMHz, next.startMHz))
			yield {
				line: next.line,
				severity: "warning",
				check: "gap",
				message: `${message} leave ${gap} MHz between them, so that a channel across them is lost`,
			};
	}
}

/**
 * Looks a parsed db.txt over for mistakes: milliwatts written as dBm and the other way round, gaps narrower than a
 * channel, overlaps, duplicate ranges, AUTO-BW without a neighbour, missing radar detection, widths that do not exist,
 * definitions never used (the compiler's own warnings).
 *
 * @returns findings by line
 */
export function lintDbTxt(parsed: DbTxt): LintFinding[] {
	const findings: LintFinding[] = parsed.warnings.map(({ line, message }) => ({
		line,
		severity: "warning",
		check: "compiler",
		message,
	}));
	const byCountry = new Map<string, DbTxtItem[]>();
	for (const item of parsed.items) {
		findings.push(...itemFindings(item));
		for (const country of item.countries) byCountry.set(country, [...(byCountry.get(country) ?? []), item]);
	}
	for (const [country, items] of byCountry) findings.push(...countryFindings(country, items));
	for (const { name, dfsRegion, rules } of parsed.countries) {
		const first = byCountry.get(name)?.[0];
		const needs = rules.some(({ rule }) => (rule.flags & RuleFlag.DFS) !== 0);
		if (needs && dfsRegion === 0 && name !== "00" && first !== undefined) {
			findings.push({
				line: first.line,
				severity: "note",
				check: "dfs-region",
				message: `${name} has rules with DFS but names no DFS region`,
			});
		}
	}
	return findings.sort((one, two) => one.line - two.line);
}

/** Figures about a db.txt. */
export interface DbTxtStatistics {
	/** Countries. */
	countries: number;
	/** Rules written, before they are merged. */
	rules: number;
	/** Rules that differ. */
	uniqueRules: number;
	/** Countries that share all their rules and the DFS region with another. */
	shared: number;
	/** Countries by DFS region: none, FCC, ETSI, Japan. */
	byDfsRegion: [number, number, number, number];
	/** Countries with a rule in the 6 GHz band. */
	with6GHz: number;
	/** Countries with a rule in the 60 GHz band. */
	with60GHz: number;
}

/** Counts what a parsed db.txt holds. */
export function dbTxtStatistics(parsed: DbTxt): DbTxtStatistics {
	const { countries } = parsed;
	const byDfsRegion: [number, number, number, number] = [0, 0, 0, 0];
	const uses = new Map<string, number>();
	const key = ({ dfsRegion, rules }: (typeof countries)[number]): string =>
		`${dfsRegion} ${rules.map((rule) => rule.key).join()}`;
	for (const country of countries) {
		byDfsRegion[country.dfsRegion]!++;
		uses.set(key(country), (uses.get(key(country)) ?? 0) + 1);
	}
	const within = (low: number, high: number): number =>
		countries.filter(({ rules }) => rules.some(({ rule }) => rule.startKHz >= low && rule.endKHz <= high)).length;
	return {
		countries: countries.length,
		rules: parsed.items.length,
		uniqueRules: new Set(countries.flatMap(({ rules }) => rules.map((rule) => rule.key))).size,
		shared: countries.filter((country) => uses.get(key(country))! > 1).length,
		byDfsRegion,
		with6GHz: within(5_925_000, 7_125_000),
		with60GHz: within(56_000_000, 72_000_000),
	};
}
