import { RegdomainError } from "../errors.ts";
import { compileRegulatoryBin } from "../formats/regulatory-bin.ts";
import { compileRegulatoryDb } from "../formats/regulatory-db-write.ts";
import type { SourceCountry } from "../formats/source.ts";
import type { Database, Domain } from "../model/domain.ts";
import { RuleFlag, ruleFlagNames } from "../model/flags.ts";
import type { DbTxt } from "./parse.ts";

const db2fwFlags = RuleFlag.NO_OFDM | RuleFlag.NO_OUTDOOR | RuleFlag.DFS | RuleFlag.NO_IR | RuleFlag.AUTO_BW;

function refuse(code: "DBTXT_RANGE" | "DBTXT_UNSUPPORTED_FLAG", message: string, value: unknown): RegdomainError {
	return new RegdomainError(code, message, value);
}

/** Reports figures no integer field can hold in the original's words. */
function checkFigures(countries: readonly SourceCountry[]): void {
	for (const { name, rules } of countries) {
		for (const { rule } of rules) {
			const { startKHz, endKHz, maxBandwidthKHz, maxEirpMbm } = rule;
			for (const figure of [maxEirpMbm, startKHz, endKHz, maxBandwidthKHz]) {
				if (Number.isNaN(figure)) {
					throw refuse("DBTXT_RANGE", `ValueError: cannot convert float NaN to integer (country ${name})`, figure);
				}
				if (!Number.isFinite(figure)) {
					throw refuse(
						"DBTXT_RANGE",
						`OverflowError: cannot convert float infinity to integer (country ${name})`,
						figure,
					);
				}
			}
			if (maxEirpMbm < 0) {
				const power = `${maxEirpMbm / 100} dBm in country ${name}; powers must be 0 dBm or more`;
				throw refuse("DBTXT_RANGE", `struct.error: argument out of range (${power})`, maxEirpMbm);
			}
		}
	}
}

function inOriginalWords<T>(run: () => T): T {
	try {
		return run();
	} catch (error) {
		if (error instanceof RegdomainError && error.code === "DB_UNREPRESENTABLE") {
			throw new RegdomainError("DBTXT_RANGE", `struct.error: ${error.message}`, error.value, error.place);
		}
		throw error;
	}
}

/**
 * Compiles a parsed db.txt to regulatory.db (version 20), byte for byte as wireless-regdb's db2fw.py.
 *
 * @throws RegdomainError `DBTXT_UNSUPPORTED_FLAG` for NO-CCK, PTP-ONLY, PTMP-ONLY and NO-HT40, which db2fw.py asserts
 * against; `DBTXT_RANGE` for a figure the format cannot hold, such as a power below 0 dBm
 */
export function dbTxtToRegulatoryDb(parsed: DbTxt): Uint8Array {
	for (const { name, rules } of parsed.countries) {
		for (const { rule } of rules) {
			const others = rule.flags & ~db2fwFlags;
			if (others === 0) continue;
			const names = ruleFlagNames(others).join(", ").replaceAll("_", "-");
			throw refuse(
				"DBTXT_UNSUPPORTED_FLAG",
				`AssertionError: ${names} in country ${name} has no bit in regulatory.db; remove it or write regulatory.bin`,
				others,
			);
		}
	}
	checkFigures(parsed.countries);
	return inOriginalWords(() => compileRegulatoryDb(parsed.countries));
}

/**
 * Compiles a parsed db.txt to an unsigned regulatory.bin (version 19), byte for byte as wireless-regdb's db2bin.py.
 *
 * @throws RegdomainError `DBTXT_RANGE` for a figure the format cannot hold
 */
export function dbTxtToRegulatoryBin(parsed: DbTxt): Uint8Array {
	checkFigures(parsed.countries);
	return inOriginalWords(() => compileRegulatoryBin(parsed.countries));
}

/** The domains of a parsed db.txt. Names are cut to two characters, and of equal ones the first in byte order counts. */
export function dbTxtToDatabase(parsed: DbTxt): Database {
	const domains = new Map<string, Domain>();
	for (const { name, dfsRegion, rules } of [...parsed.countries].sort((one, two) => (one.name < two.name ? -1 : 1))) {
		const alpha2 = name.slice(0, 2);
		if (!domains.has(alpha2)) domains.set(alpha2, { alpha2, dfsRegion, rules: rules.map(({ rule }) => rule) });
	}
	return { domains };
}
