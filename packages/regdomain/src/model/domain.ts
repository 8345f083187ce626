import { RegdomainError } from "../errors.ts";

/** EDCA parameters of one access category, as ETSI EN 301 893 limits them. */
export interface WmmAccessCategory {
	/** Smallest contention window, slots: 2^n − 1. */
	cwMin: number;
	/** Largest contention window, slots: 2^n − 1. */
	cwMax: number;
	/** Arbitration inter-frame spacing number, slots. */
	aifsn: number;
	/** Channel occupancy time, ms. */
	cotMs: number;
}

/** WMM limits of a rule: four access categories (voice, video, best effort, background) for each role. */
export interface WmmRule {
	/** Limits for clients: voice, video, best effort, background. */
	client: readonly WmmAccessCategory[];
	/** Limits for access points, in the same order. */
	ap: readonly WmmAccessCategory[];
}

/** One rule of a regulatory domain: what may be sent in a range of frequencies. */
export interface Rule {
	/** Lower edge, kHz. */
	startKHz: number;
	/** Upper edge, kHz. */
	endKHz: number;
	/** Widest channel, kHz. With AUTO_BW the kernel computes it from contiguous rules instead. */
	maxBandwidthKHz: number;
	/** Highest antenna gain, mBi (1/100 dBi); 0 = not given. */
	maxGainMbi: number;
	/** Highest equivalent isotropically radiated power, mBm (1/100 dBm). */
	maxEirpMbm: number;
	/** Channel availability check, ms; 0 = the default of 60 s where radar detection is needed. */
	cacMs: number;
	/** {@link RuleFlag} bits. */
	flags: number;
	/** Power spectral density, dBm/MHz; meaningful with the PSD flag. */
	psdDbm?: number;
	/** EDCA limits. */
	wmm?: WmmRule;
}

/** DFS region (`enum nl80211_dfs_regions`): 0 none, 1 FCC, 2 ETSI, 3 Japan. */
export type DfsRegion = number;

/** The values of {@link DfsRegion} that the kernel knows. */
export const Dfs = { UNSET: 0, FCC: 1, ETSI: 2, JP: 3 } as const;

/** A regulatory domain. */
export interface Domain {
	/** ISO 3166 code, or "00" world, "99" built by a driver, "98" an intersection. */
	alpha2: string;
	/** DFS region. */
	dfsRegion: DfsRegion;
	/** Rules in the order the kernel looks them up: the first that fits wins. */
	rules: readonly Rule[];
}

/** A set of domains, as one regulatory database holds it. */
export interface Database {
	/** Release of wireless-regdb, such as "2026.05.30", when it is known (the binary formats do not hold it). */
	version?: string;
	/** Domains by country code. */
	domains: ReadonlyMap<string, Domain>;
}

/** The most rules a domain may have in the kernel (NL80211_MAX_SUPP_REG_RULES). */
export const MAX_RULES = 128;

/** Whether the kernel would take the rule (`is_valid_reg_rule`): positive range, bandwidth within it. */
export function isValidRule(rule: Rule): boolean {
	return (
		rule.startKHz > 0 &&
		rule.endKHz > 0 &&
		rule.endKHz > rule.startKHz &&
		rule.maxBandwidthKHz <= rule.endKHz - rule.startKHz
	);
}

/** Whether the kernel would take the domain (`is_valid_rd`): 1 to 128 rules, each valid. */
export function isValidDomain(domain: Domain): boolean {
	return domain.rules.length > 0 && domain.rules.length <= MAX_RULES && domain.rules.every(isValidRule);
}

/** The domain of a country.
 * @param alpha2 - code as the database spells it, upper case
 * @throws RegdomainError `UNKNOWN_COUNTRY` when the database has no entry for it
 */
export function domainOf(database: Database, alpha2: string): Domain {
	const domain = database.domains.get(alpha2);
	if (domain === undefined) {
		throw new RegdomainError(
			"UNKNOWN_COUNTRY",
			`the database has no country ${JSON.stringify(alpha2)}; give one of its ${database.domains.size} codes, such as DE or 00`,
			alpha2,
		);
	}
	return domain;
}

/**
 * WMM limits at a channel centre (`reg_query_regdb_wmm`): those of the first rule that holds the centre and has some.
 *
 * @param centreKHz - kHz
 */
export function wmmRuleAt(domain: Domain, centreKHz: number): WmmRule | undefined {
	return domain.rules.find(
		({ startKHz, endKHz, wmm }) => wmm !== undefined && centreKHz >= startKHz && centreKHz <= endKHz,
	)?.wmm;
}

const integerFields = ["startKHz", "endKHz", "maxBandwidthKHz", "maxGainMbi", "maxEirpMbm", "cacMs", "flags"] as const;
const optionalFields = new Set<string>(["maxGainMbi", "cacMs", "flags"]);

/**
 * A domain from untrusted JSON: `{alpha2, dfsRegion, rules: [{startKHz, endKHz, maxBandwidthKHz, maxGainMbi,
 * maxEirpMbm, cacMs, flags}]}`. Gain, CAC time, flags and the DFS region may be left out and are then 0; the region may also
 * be a name, such as `ETSI` or `DFS-ETSI`.
 *
 * @throws RegdomainError `BAD_RULE` naming the field, when a value is missing, of another type or beyond 32 bits, or
 * when the kernel would refuse the rules
 */
export function parseDomain(json: unknown): Domain {
	const bad = (field: string, expected: string, value: unknown): RegdomainError =>
		new RegdomainError("BAD_RULE", `${field} must be ${expected}`, value, { field });
	if (typeof json !== "object" || json === null) throw bad("domain", "an object {alpha2, dfsRegion, rules}", json);
	const { alpha2, dfsRegion = 0, rules } = json as Record<string, unknown>;
	if (typeof alpha2 !== "string" || !/^[0-9A-Za-z]{2}$/.test(alpha2))
		throw bad("alpha2", "two letters or digits", alpha2);
	const region =
		typeof dfsRegion === "string" ? (Dfs as Record<string, number>)[dfsRegion.replace(/^DFS-/, "")] : dfsRegion;
	if (typeof region !== "number" || !Number.isInteger(region) || region < 0 || region > 255) {
		throw bad("dfsRegion", "0 (none), 1 (FCC), 2 (ETSI) or 3 (JP)", dfsRegion);
	}
	if (!Array.isArray(rules)) throw bad("rules", "an array", rules);
	const parsed = rules.map((entry, index) => parseRule(entry, `rules[${index}]`, bad));
	const domain = { alpha2: alpha2.toUpperCase(), dfsRegion: region, rules: parsed };
	if (!isValidDomain(domain)) {
		const at = parsed.findIndex((rule) => !isValidRule(rule));
		throw at < 0
			? bad("rules", `1 to ${MAX_RULES} rules, as the kernel accepts`, parsed.length)
			: bad(`rules[${at}]`, "0 < startKHz < endKHz with maxBandwidthKHz within the range", parsed[at]);
	}
	return domain;
}

function parseRule(
	entry: unknown,
	path: string,
	bad: (field: string, expected: string, value: unknown) => RegdomainError,
): Rule {
	if (typeof entry !== "object" || entry === null) throw bad(path, "an object", entry);
	const source = entry as Record<string, unknown>;
	const rule = {} as Record<(typeof integerFields)[number], number>;
	for (const field of integerFields) {
		const value = source[field] ?? (optionalFields.has(field) ? 0 : undefined);
		const signed = field === "maxEirpMbm" || field === "maxGainMbi";
		if (
			typeof value !== "number" ||
			!Number.isInteger(value) ||
			value < (signed ? -0x80000000 : 0) ||
			value > (signed ? 0x7fffffff : 0xffffffff)
		) {
			throw bad(`${path}.${field}`, "a 32-bit integer", value);
		}
		rule[field] = value;
	}
	const psd = source["psdDbm"];
	if (psd === undefined) return rule;
	if (typeof psd !== "number" || !Number.isInteger(psd) || psd < -128 || psd > 127) {
		throw bad(`${path}.psdDbm`, "an integer from -128 to 127", psd);
	}
	return { ...rule, psdDbm: psd };
}
