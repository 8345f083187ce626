import { RegdomainError } from "../errors.ts";
import type { Domain, Rule } from "../model/domain.ts";
import { NO_IR_ANY, RuleFlag } from "../model/flags.ts";

/** A domain with whom it belongs to, as `iw reg get` lists them. */
export interface OwnedDomain {
	/** `global`, or `phy#` and a number. */
	owner: string;
	/** Whether the radio manages itself. @default false */
	selfManaged?: boolean;
	/** The domain. */
	domain: Domain;
}

const dfsNames = ["DFS-UNSET", "DFS-FCC", "DFS-ETSI", "DFS-JP"];

/** Name of a DFS region, as iw and db.txt write it. */
export const dfsRegionName = (region: number): string => dfsNames[region] ?? "DFS-UNKNOWN";

// In iw's order; NO-IR is last and depends on two bits.
const flagNames: readonly (readonly [number, string])[] = [
	[RuleFlag.NO_OFDM, "NO-OFDM"],
	[RuleFlag.NO_CCK, "NO-CCK"],
	[RuleFlag.NO_INDOOR, "NO-INDOOR"],
	[RuleFlag.NO_OUTDOOR, "NO-OUTDOOR"],
	[RuleFlag.DFS, "DFS"],
	[RuleFlag.PTP_ONLY, "PTP-ONLY"],
	[RuleFlag.AUTO_BW, "AUTO-BW"],
	[RuleFlag.IR_CONCURRENT, "IR-CONCURRENT"],
	[RuleFlag.NO_HT40MINUS, "NO-HT40MINUS"],
	[RuleFlag.NO_HT40PLUS, "NO-HT40PLUS"],
	[RuleFlag.NO_80MHZ, "NO-80MHZ"],
	[RuleFlag.NO_160MHZ, "NO-160MHZ"],
	[RuleFlag.NO_HE, "NO-HE"],
	[RuleFlag.NO_320MHZ, "NO-320MHZ"],
	[RuleFlag.NO_EHT, "NO-EHT"],
];

const parsedFlags: ReadonlyMap<string, number> = new Map([
	...flagNames.map(([flag, name]): [string, number] => [name, flag]),
	["PTMP-ONLY", RuleFlag.PTMP_ONLY],
	["NO-IR", NO_IR_ANY],
	["PASSIVE-SCAN", RuleFlag.NO_IR],
	["NO-IBSS", RuleFlag.NO_IBSS],
	["NO-HT40", RuleFlag.NO_HT40],
]);

/** Names of a rule's flags as `iw` prints them: NO_IR alone is PASSIVE-SCAN, its historic other half NO-IBSS. */
export function iwRuleFlagNames(flags: number): string[] {
	const names = flagNames.filter(([flag]) => (flags & flag) !== 0).map(([, name]) => name);
	if ((flags & NO_IR_ANY) === NO_IR_ANY) names.push("NO-IR");
	else if ((flags & RuleFlag.NO_IR) !== 0) names.push("PASSIVE-SCAN");
	else if ((flags & RuleFlag.NO_IBSS) !== 0) names.push("NO-IBSS");
	return names;
}

const whole = (value: number, unit: number): number => Math.trunc(value / unit);

function ruleLine(rule: Rule): string {
	const range = `(${whole(rule.startKHz, 1000)} - ${whole(rule.endKHz, 1000)} @ ${whole(rule.maxBandwidthKHz, 1000)})`;
	const gain = rule.maxGainMbi === 0 ? "N/A" : whole(rule.maxGainMbi, 100);
	const cac = (rule.flags & RuleFlag.DFS) === 0 ? "N/A" : `${rule.cacMs} ms`;
	const parts = [range, `(${gain}, ${whole(rule.maxEirpMbm, 100)})`, `(${cac})`, ...iwRuleFlagNames(rule.flags)];
	return `\t${parts.join(", ")}\n`;
}

/** Text of `iw reg get` for one domain, without a heading: `country …` and a line per rule, whole MHz and dBm. */
export function renderDomain(domain: Domain): string {
	return `country ${domain.alpha2}: ${dfsRegionName(domain.dfsRegion)}\n${domain.rules.map(ruleLine).join("")}`;
}

/** Text of `iw reg get` (iw 6.17): every domain under its owner, with an empty line after each. */
export function renderIwRegGet(domains: readonly OwnedDomain[]): string {
	return domains
		.map(
			({ owner, selfManaged, domain }) =>
				`${owner}${selfManaged === true ? " (self-managed)" : ""}\n${renderDomain(domain)}\n`,
		)
		.join("");
}

const heading = /^(global|phy#\d+)( \(self-managed\))?\s*$/;
const country = /^country (\S\S): (DFS-[A-Z]+)\s*$/;
const ruleText =
	/^\s*\((\d+)(?:\.\d+)? - (\d+)(?:\.\d+)? @ (\d+)(?:\.\d+)?\), \((?:(N\/A|\d+)(?:\.\d+)?, )?(-?\d+)(?:\.\d+)?\)(?:, \((?:(\d+) ms|N\/A)\))?((?:, [A-Z0-9-]+)*)\s*$/;

/**
 * Reads the text of `iw reg get`. What iw cuts off is lost: figures are in whole MHz and dBm.
 *
 * @throws RegdomainError `TEXT_SYNTAX` with the line, for a line that is none of a heading, a country, a rule or empty
 */
export function parseIwRegGet(text: string): OwnedDomain[] {
	const found: OwnedDomain[] = [];
	let owner: { owner: string; selfManaged?: boolean } = { owner: "global" };
	let rules: Rule[] | undefined;
	for (const [index, line] of text.split(/\r?\n/).entries()) {
		if (line.trim() === "") continue;
		const head = heading.exec(line);
		const start = country.exec(line);
		if (head !== null) {
			owner = head[2] === undefined ? { owner: head[1]! } : { owner: head[1]!, selfManaged: true };
		} else if (start !== null) {
			rules = [];
			const dfsRegion = Math.max(dfsNames.indexOf(start[2]!), 0);
			found.push({ ...owner, domain: { alpha2: start[1]!, dfsRegion, rules } });
		} else {
			const rule = parseRuleLine(line);
			if (rules === undefined || rule === undefined) {
				throw new RegdomainError(
					"TEXT_SYNTAX",
					`line ${index + 1} is not output of iw reg get: ${JSON.stringify(line)}`,
					line,
					{
						line: index + 1,
					},
				);
			}
			rules.push(rule);
		}
	}
	return found;
}

function parseRuleLine(line: string): Rule | undefined {
	const parts = ruleText.exec(line);
	if (parts === null) return undefined;
	let flags = 0;
	for (const name of parts[7]!.split(", ").slice(1)) {
		const flag = parsedFlags.get(name);
		if (flag === undefined) return undefined;
		flags |= flag;
	}
	return {
		startKHz: Number(parts[1]) * 1000,
		endKHz: Number(parts[2]) * 1000,
		maxBandwidthKHz: Number(parts[3]) * 1000,
		maxGainMbi: parts[4] === undefined || parts[4] === "N/A" ? 0 : Number(parts[4]) * 100,
		maxEirpMbm: Number(parts[5]) * 100,
		cacMs: parts[6] === undefined ? 0 : Number(parts[6]),
		flags,
	};
}
