/**
 * ISO 3166-1 country codes, today's and withdrawn ones.
 *
 * @packageDocumentation
 */
import { RegdomainError } from "../errors.ts";
import { currentEntries, withdrawnEntries } from "./table.ts";

/** An entry of ISO 3166-1. */
export interface Country {
	/** Two letters. */
	alpha2: string;
	/** Three letters. */
	alpha3: string;
	/** Three digits as a number; absent for withdrawn entries that never had one. */
	numeric?: number;
	/** Short English name. */
	name: string;
	/** For withdrawn entries: when, and which codes took its place. */
	withdrawn?: { year: number; replacedBy: string[] };
}

/** What a two-character code is, beyond assigned entries. */
export type Alpha2Kind = "assigned" | "withdrawn" | "user-assigned" | "reserved" | "unassigned" | "kernel" | "invalid";

const numericOf = (text: string): { numeric?: number } => (text === "---" ? {} : { numeric: Number(text) });

/** The 249 entries of today, by alpha-2 code. */
export const countries: readonly Country[] = currentEntries.split("\n").map((line) => ({
	alpha2: line.slice(0, 2),
	alpha3: line.slice(3, 6),
	...numericOf(line.slice(7, 10)),
	name: line.slice(11),
}));

/** The entries withdrawn since 1974 (ISO 3166-3). */
export const withdrawnCountries: readonly Country[] = withdrawnEntries.split("\n").map((line) => {
	const [alpha2, alpha3, numeric, year, replacedBy, ...name] = line.split(" ");
	return {
		alpha2: alpha2!,
		alpha3: alpha3!,
		...numericOf(numeric!),
		name: name.join(" "),
		withdrawn: { year: Number(year), replacedBy: replacedBy!.split(",") },
	};
});

const plain = (text: string): string =>
	text
		.normalize("NFD")
		.replaceAll(/\p{M}/gu, "")
		.toLowerCase()
		.replaceAll(/[^a-z]+/g, " ")
		.trim();

/** Other names people use. */
const aliases: Readonly<Record<string, string>> = {
	"bolivia plurinational state of": "BO",
	"cape verde": "CV",
	"czech republic": "CZ",
	"east timor": "TL",
	england: "GB",
	"great britain": "GB",
	holland: "NL",
	"iran islamic republic of": "IR",
	"ivory coast": "CI",
	"korea democratic people s republic of": "KP",
	"korea republic of": "KR",
	korea: "KR",
	"lao people s democratic republic": "LA",
	macau: "MO",
	macedonia: "MK",
	"moldova republic of": "MD",
	palestine: "PS",
	russia: "RU",
	swaziland: "SZ",
	"syrian arab republic": "SY",
	"taiwan province of china": "TW",
	"tanzania united republic of": "TZ",
	turkey: "TR",
	uk: "GB",
	"united kingdom of great britain and northern ireland": "GB",
	"united states": "US",
	"vatican city": "VA",
	"venezuela bolivarian republic of": "VE",
	vietnam: "VN",
};

function match(code: string): (entry: Country) => boolean {
	if (/^\d{1,3}$/.test(code)) return ({ numeric }) => numeric === Number(code);
	const upper = code.toUpperCase();
	if (/^[A-Z]{2}$/.test(upper)) return ({ alpha2 }) => alpha2 === upper;
	if (/^[A-Z]{3}$/.test(upper) && aliases[plain(code)] === undefined) return ({ alpha3 }) => alpha3 === upper;
	const name = plain(code);
	return (entry) => plain(entry.name) === name;
}

/**
 * The entry for a code of any kind: alpha-2, alpha-3, numeric (with or without leading zeros) or name (case, accents and
 * punctuation do not matter; common other names work). Today's entries come before withdrawn ones.
 *
 * @returns undefined when there is none
 */
export function findCountry(code: string): Country | undefined {
	const fits = match(code.trim());
	const found = countries.find(fits);
	if (found !== undefined) return found;
	const alias = aliases[plain(code)];
	if (alias !== undefined) return countries.find(({ alpha2 }) => alpha2 === alias);
	return [...withdrawnCountries].sort((one, two) => two.withdrawn!.year - one.withdrawn!.year).find(fits);
}

/**
 * The entry for a code of any kind; see {@link findCountry}.
 *
 * @throws RegdomainError `UNKNOWN_COUNTRY`
 */
export function country(code: string): Country {
	const found = findCountry(code);
	if (found === undefined) {
		throw new RegdomainError(
			"UNKNOWN_COUNTRY",
			`ISO 3166-1 has no ${JSON.stringify(code)}; give an alpha-2, alpha-3 or numeric code or a short English name`,
			code,
		);
	}
	return found;
}

// Exceptionally, transitionally and indeterminately reserved codes that people meet.
const reserved = new Set(
	"AC AN BU CP CQ CS DG DY EA EU EW EZ FL FX IC JA LF NT PI RA RB RC RH RI RL RM RN RP SF SU TA TP UK UN WG WL WV YU YV ZR".split(
		" ",
	),
);

/**
 * What a two-character code is. `kernel` are the four the kernel uses for itself: 00 world, 97 none, 98 intersection, 99
 * unknown or a driver's own.
 */
export function alpha2Kind(code: string): Alpha2Kind {
	if (["00", "97", "98", "99"].includes(code)) return "kernel";
	if (!/^[A-Za-z]{2}$/.test(code)) return "invalid";
	const upper = code.toUpperCase();
	if (countries.some(({ alpha2 }) => alpha2 === upper)) return "assigned";
	if (withdrawnCountries.some(({ alpha2 }) => alpha2 === upper)) return "withdrawn";
	if (upper === "AA" || upper === "ZZ" || /^(Q[M-Z]|X[A-Z])$/.test(upper)) return "user-assigned";
	return reserved.has(upper) ? "reserved" : "unassigned";
}

/** A line of a country picker. */
export interface CountryChoice {
	/** Code to set. */
	alpha2: string;
	/** Name to show. */
	name: string;
	/** Whether a database has rules for it. */
	known: boolean;
}

/** Today's entries for a country picker, by name, with a mark for those a database has rules for. */
export function countryChoices(database: { domains: ReadonlyMap<string, unknown> }): CountryChoice[] {
	return countries
		.map(({ alpha2, name }) => ({ alpha2, name, known: database.domains.has(alpha2) }))
		.sort((one, two) => (plain(one.name) < plain(two.name) ? -1 : 1));
}
