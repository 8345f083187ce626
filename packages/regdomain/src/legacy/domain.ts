import { RegdomainError } from "../errors.ts";
import { findCountry } from "../iso3166/index.ts";
import type { Domain, Rule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { DEFAULT_LEGACY_ID, type LegacyId, legacyId, legacyIds, legacyIdsOfCountry } from "./ids.ts";
import {
	DIPOLE_ANTENNA_DBI,
	Modulation,
	type PowerGroup,
	restrictions,
	type SubBandRestrictions,
	subBandOf,
	subBandPlaces,
} from "./sub-bands.ts";

/** A channel of a legacy domain. */
export interface LegacyChannel {
	/** Centre, MHz. */
	centreMHz: number;
	/** Channel number of the 2006 patch; 15-26 lie above 2.5 GHz. */
	channel: number;
	/** Power with a dipole: point-to-multipoint EIRP less 2 dBi, dBm. */
	powerDbm: number;
	/** Whether probe requests may be sent. */
	activeScan: boolean;
	/** Whether ad-hoc networks may be started. */
	ibss: boolean;
}

/** A sub-band of a legacy domain with its channels. */
export interface LegacySubBand extends SubBandRestrictions {
	/** Channels. */
	channels: LegacyChannel[];
}

/** A regulatory domain as the 2006 patch models it (`struct ieee80211_regdomain`). */
export interface LegacyDomain extends LegacyId {
	/** Sub-bands that have channels, at most seven. */
	subBands: LegacySubBand[];
}

/**
 * Channel number of a centre frequency as the 2006 patch counts (`regdomain_mhz2ieee`): 1-14, 15-26 in 20 MHz steps from
 * 2512 MHz, and 5 GHz from 5005 to 6100 MHz.
 *
 * @returns 0 where there is no channel
 */
export function legacyChannelNumber(centreMHz: number): number {
	if (centreMHz === 2484) return 14;
	if (centreMHz >= 2412 && centreMHz < 2484) return Math.trunc((centreMHz - 2407) / 5);
	if (centreMHz >= 2512 && centreMHz <= 2732) return Math.trunc((centreMHz - 2512) / 20) + 15;
	if (centreMHz >= 5005 && centreMHz <= 6100) return Math.trunc((centreMHz - 5000) / 5);
	return 0;
}

type Span = readonly [first: number, last: number];

// Channel centres of each group; in 5 GHz every 20 MHz, in 2.4 GHz every 5 MHz.
const spans: Readonly<Record<string, readonly Span[]>> = {
	FCC1: [
		[5180, 5320],
		[5745, 5825],
	],
	FCC2: [
		[5260, 5320],
		[5745, 5825],
	],
	FCC3: [
		[5180, 5320],
		[5500, 5700],
		[5745, 5825],
	],
	FCC6: [
		[5180, 5320],
		[5500, 5580],
		[5660, 5700],
		[5745, 5825],
	],
	ETSI1: [
		[5180, 5320],
		[5500, 5700],
	],
	ETSI2: [[5180, 5240]],
	ETSI3: [[5180, 5320]],
	ETSI4: [[5180, 5320]],
	ETSI5: [[5180, 5240]],
	ETSI6: [
		[5180, 5280],
		[5500, 5700],
	],
	MKK1: [[5170, 5230]],
	MKK2: [
		[5040, 5080],
		[5170, 5230],
	],
	APL1: [[5745, 5825]],
	APL2: [[5745, 5805]],
	APL3: [
		[5280, 5320],
		[5745, 5805],
	],
	APL4: [
		[5180, 5240],
		[5745, 5825],
	],
	APL5: [[5745, 5825]],
	APL6: [
		[5180, 5320],
		[5745, 5825],
	],
	APL8: [
		[5260, 5320],
		[5745, 5825],
	],
	APL9: [
		[5180, 5320],
		[5500, 5620],
		[5745, 5805],
	],
	FCCA: [[2412, 2462]],
	ETSIA: [[2457, 2472]],
	ETSIB: [[2432, 2442]],
	ETSIC: [[2412, 2472]],
	MKKA: [
		[2412, 2472],
		[2484, 2484],
	],
	MKKB: [
		[2412, 2472],
		[2484, 2484],
	],
	MKKA1: [
		[2412, 2472],
		[2484, 2484],
	],
	MKKA2: [
		[2412, 2472],
		[2484, 2484],
	],
	APLA: [[2412, 2472]],
	APLC: [[2412, 2472]],
	APLD: [[2412, 2472]],
	WORLD: [[2412, 2472]],
};

const powerGroup = (group: string): PowerGroup =>
	(/^(FCC|ETSI|MKK|APL)/.exec(group)?.[0] as PowerGroup | undefined) ?? "WORLD";

function channelOf(centreMHz: number, subBand: SubBandRestrictions, japan: boolean): LegacyChannel {
	return {
		centreMHz,
		channel: legacyChannelNumber(centreMHz),
		powerDbm: subBand.maxEirpPtmpDbm - DIPOLE_ANTENNA_DBI,
		// Japan's old channels are kept for old stations only; those with radar are closed to ad-hoc networks.
		activeScan: !(japan && [5170, 5190, 5210, 5230].includes(centreMHz)),
		ibss: !(japan && [5260, 5280, 5300, 5320].includes(centreMHz)),
	};
}

function subBandsOf(group: string, step: number, japan: boolean): LegacySubBand[] {
	const found = new Map<string, LegacySubBand>();
	for (const [first, last] of spans[group] ?? []) {
		for (let centre = first; centre <= last; centre += step) {
			const name = subBandOf(centre)!;
			// The 2.4 GHz groups of Asia had no limits of their own.
			const powers = name === "ISM24" && group.startsWith("APL") ? "WORLD" : powerGroup(group);
			const limits = restrictions(name, powers);
			if (limits === undefined) continue;
			const subBand = found.get(name) ?? { ...limits, channels: [] };
			subBand.channels.push(channelOf(centre, limits, japan));
			found.set(name, subBand);
		}
	}
	return [...found.values()];
}

/**
 * A regulatory domain of the 2006 patch (`ieee80211_regdomain_init`).
 *
 * @param idOrName - code or name of the pair, such as 0x10 or `FCC1_FCCA`
 * @throws RegdomainError `BAD_ARGUMENT` for a pair that is not known
 */
export function legacyDomain(idOrName: number | string): LegacyDomain {
	const id = legacyId(idOrName);
	if (id === undefined) {
		throw new RegdomainError(
			"BAD_ARGUMENT",
			`no legacy regulatory domain ${idOrName}; known ones are 0x03 to 0x5e, such as 0x10 or FCC1_FCCA`,
			idOrName,
		);
	}
	const japan = id.group5.startsWith("MKK");
	return { ...id, subBands: [...subBandsOf(id.group24, 5, japan), ...subBandsOf(id.group5, 20, japan)] };
}

/**
 * The legacy domain as a domain of today, so that everything that judges channels can enforce it: a rule per run of
 * channels, 20 MHz wide (40 in 2.4 GHz), point-to-multipoint EIRP, indoor sub-bands with NO_OUTDOOR, radar bands of FCC and
 * ETSI groups with DFS, channels without active scan with NO_IR.
 */
export function legacyToDomain(domain: LegacyDomain): Domain {
	const rules: Rule[] = [];
	for (const subBand of domain.subBands) {
		let last: { centreMHz: number; flags: number } | undefined;
		for (const { centreMHz, activeScan } of subBand.channels) {
			const radar = centreMHz > 5250 && centreMHz < 5725 && !domain.group5.startsWith("APL");
			const flags =
				(subBand.environment === "I" ? RuleFlag.NO_OUTDOOR : 0) |
				(radar ? RuleFlag.DFS : 0) |
				(activeScan ? 0 : RuleFlag.NO_IR) |
				(centreMHz === 2484 ? RuleFlag.NO_OFDM : 0);
			const endKHz = (centreMHz + 10) * 1000;
			if (last !== undefined && last.flags === flags && centreMHz - last.centreMHz <= 20 && centreMHz !== 2484) {
				rules[rules.length - 1] = { ...rules[rules.length - 1]!, endKHz };
			} else {
				const wide = subBand.band === "2.4" && centreMHz !== 2484 && subBand.channels.length >= 5;
				rules.push({
					startKHz: (centreMHz - 10) * 1000,
					endKHz,
					maxBandwidthKHz: wide ? 40_000 : 20_000,
					maxGainMbi: subBand.maxAntennaGainDbi * 100,
					maxEirpMbm: subBand.maxEirpPtmpDbm * 100,
					cacMs: 0,
					flags,
				});
			}
			last = { centreMHz, flags };
		}
	}
	const dfsRegion = domain.group5.startsWith("FCC")
		? 1
		: domain.group5.startsWith("ETSI")
			? 2
			: domain.group5.startsWith("MKK")
				? 3
				: 0;
	return { alpha2: "99", dfsRegion, rules };
}

/** A text for a person (`print_regdomain`). */
export function renderLegacyDomain(domain: LegacyDomain): string {
	const environments = { I: "Indoor", O: "Outdoor", " ": "Indoor & Outdoor" };
	const lines = [`Regulatory Domain: ${domain.name} (0x${domain.id.toString(16).padStart(2, "0")})`];
	for (const subBand of domain.subBands) {
		const modes = (subBand.modulations & Modulation.A) !== 0 ? "802.11a" : "802.11b/g";
		lines.push(
			`  ${subBand.name} (${subBandPlaces[subBand.name]!.minMHz} - ${subBandPlaces[subBand.name]!.maxMHz} MHz), ${modes}, ${environments[subBand.environment]}`,
			`    IR ${subBand.maxIrPtmpDbm}/${subBand.maxIrPtpDbm} dBm, EIRP ${subBand.maxEirpPtmpDbm}/${subBand.maxEirpPtpDbm} dBm (PtMP/PtP), antenna ${subBand.maxAntennaGainDbi} dBi`,
			`    channels ${subBand.channels.map(({ channel }) => channel).join(" ")}`,
		);
	}
	return `${lines.join("\n")}\n`;
}

/** The 2006 patch's registry: which domain is current, which are known, which country has which. */
export interface LegacyRegistry {
	/** The current domain. */
	readonly current: LegacyDomain;
	/** Ids that are known. */
	list(): readonly LegacyId[];
	/** Makes a domain current. @throws RegdomainError `BAD_ARGUMENT` for an unknown one */
	setCurrent(idOrName: number | string): LegacyDomain;
	/** The id of a country; the world's default where there is no entry. */
	idOf(alpha2: string): number;
	/**
	 * Adds a country to the map (`add_iso3166_reg_map`).
	 *
	 * @throws RegdomainError `BAD_ARGUMENT` for a country ISO 3166-1 lacks, or one that is in the map already
	 */
	add(alpha2: string, id: number): void;
}

/** Starts a registry with the map of {@link legacyIdsOfCountry} and a current domain. @param initial - @default 0x03 */
export function createLegacyRegistry(initial: number | string = DEFAULT_LEGACY_ID): LegacyRegistry {
	const added = new Map<string, number>();
	let current = legacyDomain(initial);
	const mapped = (alpha2: string): number | undefined => {
		const [first] = legacyIdsOfCountry(alpha2);
		return added.get(alpha2) ?? (first!.id === DEFAULT_LEGACY_ID ? undefined : first!.id);
	};
	return {
		get current() {
			return current;
		},
		list: () => legacyIds,
		setCurrent(idOrName) {
			current = legacyDomain(idOrName);
			return current;
		},
		idOf: (alpha2) => mapped(alpha2) ?? DEFAULT_LEGACY_ID,
		add(alpha2, id) {
			if (findCountry(alpha2)?.alpha2 !== alpha2)
				throw new RegdomainError("BAD_ARGUMENT", `ISO 3166-1 has no country ${alpha2}`, alpha2);
			if (mapped(alpha2) !== undefined)
				throw new RegdomainError("BAD_ARGUMENT", `${alpha2} is in the map already`, alpha2);
			legacyDomain(id);
			added.set(alpha2, id);
		},
	};
}
