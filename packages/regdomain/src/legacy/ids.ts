/**
 * Legacy regulatory-domain ids: the pairs of a 5 GHz and a 2.4 GHz group that Atheros cards keep in their EEPROM. The 34 of
 * the 2006 patch and DEBUG, and those that ath5k and ath9k added later (drivers/net/wireless/ath/regd.h, ISC).
 */
const ids2006: readonly (readonly [number, string])[] = [
	[0x03, "NULL_WORLD"],
	[0x07, "NULL_ETSIB"],
	[0x08, "NULL_ETSIC"],
	[0x10, "FCC1_FCCA"],
	[0x11, "FCC1_WORLD"],
	[0x20, "FCC2_FCCA"],
	[0x21, "FCC2_WORLD"],
	[0x22, "FCC2_ETSIC"],
	[0x30, "ETSI4_WORLD"],
	[0x32, "ETSI3_ETSIA"],
	[0x34, "ETSI6_WORLD"],
	[0x35, "ETSI2_WORLD"],
	[0x36, "ETSI3_WORLD"],
	[0x37, "ETSI1_WORLD"],
	[0x38, "ETSI4_ETSIC"],
	[0x39, "ETSI5_WORLD"],
	[0x3a, "FCC3_FCCA"],
	[0x40, "MKK1_MKKA"],
	[0x41, "MKK1_MKKB"],
	[0x42, "APL4_WORLD"],
	[0x43, "MKK2_MKKA"],
	[0x45, "APL2_WORLD"],
	[0x46, "APL2_APLC"],
	[0x47, "APL3_WORLD"],
	[0x48, "MKK1_FCCA"],
	[0x49, "APL2_APLD"],
	[0x4a, "MKK1_MKKA1"],
	[0x4b, "MKK1_MKKA2"],
	[0x52, "APL1_WORLD"],
	[0x53, "APL1_FCCA"],
	[0x54, "APL1_APLA"],
	[0x55, "APL1_ETSIC"],
	[0x56, "APL2_ETSIC"],
	[0x58, "APL5_WORLD"],
	[0xff, "DEBUG"],
];

const idsLater: readonly (readonly [number, string])[] = [
	[0x14, "FCC6_FCCA"],
	[0x23, "FCC6_WORLD"],
	[0x3b, "FCC3_WORLD"],
	[0x50, "APL3_FCCA"],
	[0x5b, "APL6_WORLD"],
	[0x5d, "APL8_WORLD"],
	[0x5e, "APL9_WORLD"],
];

/** A legacy regulatory-domain id. */
export interface LegacyId {
	/** Code in the EEPROM. */
	id: number;
	/** Name: 5 GHz group, underscore, 2.4 GHz group. */
	name: string;
	/** 5 GHz group, such as `FCC1`; `NULL` has no 5 GHz channels. */
	group5: string;
	/** 2.4 GHz group, such as `FCCA` or `WORLD`. */
	group24: string;
	/** Whether the 2006 patch knew it. */
	in2006: boolean;
}

const entry = ([id, name]: readonly [number, string], in2006: boolean): LegacyId => {
	const [group5 = "DEBUG", group24 = "DEBUG"] = name.split("_");
	return { id, name, group5, group24, in2006 };
};

/** Every known id, those of 2006 first. */
export const legacyIds: readonly LegacyId[] = [
	...ids2006.map((pair) => entry(pair, true)),
	...idsLater.map((pair) => entry(pair, false)),
];

/** The id of countries without an entry: no 5 GHz, the world's 2.4 GHz channels. */
export const DEFAULT_LEGACY_ID = 0x03;

// The countries of ath's table (regd_common.h, ISC), by id; where a country has several, the first is the usual one.
const countriesById: readonly (readonly [number, string])[] = [
	[0x03, "AE AL BD DZ HN ID IL KZ LB MK PK RO RU SA SY UA VN YE ZW"],
	[0x10, "CO DO GT GU MX PA PR"],
	[0x11, "CR EC PG SV"],
	[0x21, "AU BB MO"],
	[0x22, "NZ"],
	[0x30, "AM AZ GE MC"],
	[0x34, "BG"],
	[0x35, "JO"],
	[0x36, "CZ EG KW TN TR"],
	[
		0x37,
		"AN AT AW BA BE BY CH CS CY DE DK EE ES FI FR GB GL GR HR HT HU IE IS IT KH LI LT LU LV ME MT MU NL NO PL PT RS SE SI SK",
	],
	[0x3a, "BM CA GD NI US UZ"],
	[0x3b, "AR BR BS HK JM LK OM PY TH TT UG UY ZA"],
	[0x40, "JP"],
	[0x41, "JP"],
	[0x42, "MA"],
	[0x43, "JP"],
	[0x48, "JP"],
	[0x4a, "JP"],
	[0x4b, "JP"],
	[0x50, "TW"],
	[0x52, "BN CN IR KE NP PE PH QA TZ"],
	[0x55, "BO BZ"],
	[0x56, "VE"],
	[0x5b, "BH CL IN SG"],
	[0x5d, "MY"],
	[0x5e, "KP KR"],
	[0x45, "KR"],
	[0x23, "AU"],
	[0x14, "CA"],
];

/** The entry of an id or name (`0x10`, 16, `FCC1_FCCA`); undefined when it is not known. */
export function legacyId(idOrName: number | string): LegacyId | undefined {
	if (typeof idOrName === "number") return legacyIds.find(({ id }) => id === idOrName);
	const number = /^0x[0-9a-f]{1,2}$/i.test(idOrName) ? Number(idOrName) : undefined;
	return legacyIds.find(({ id, name }) => id === number || name === idOrName.toUpperCase());
}

/** Ids that cards sold in a country carry, the usual one first; the world's default where the country has none. */
export function legacyIdsOfCountry(alpha2: string): LegacyId[] {
	const ids = countriesById.filter(([, codes]) => codes.split(" ").includes(alpha2)).map(([id]) => id);
	return (ids.length === 0 ? [DEFAULT_LEGACY_ID] : ids).map((id) => legacyId(id)!);
}

/** Countries whose cards carry an id, by code. */
export function countriesOfLegacyId(id: number): string[] {
	return countriesById
		.filter(([known]) => known === id)
		.flatMap(([, codes]) => codes.split(" "))
		.sort();
}
