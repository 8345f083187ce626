/**
 * The bundled database: the figures of a release of wireless-regdb.
 *
 * @packageDocumentation
 */
import type { Database, Domain, Rule, WmmAccessCategory } from "../model/domain.ts";
import * as tables from "./database.generated.ts";

/** Release of wireless-regdb the bundled figures come from, such as `2026.05.30`. */
export const bundledVersion: string = tables.version;

/** SHA-256, in hex, of the regulatory.db the bundled figures come from. */
export const bundledSha256: string = tables.sha256;

/** The tables of a module that `regdomain update` generates. */
export interface DatabaseTables {
	/** Release. */
	version: string;
	/** WMM rows: cw_min, cw_max, aifsn, cot of eight access categories. */
	wmms: readonly (readonly number[])[];
	/** Rules: start, end, bandwidth (kHz), EIRP (mBm), flags, WMM row counted from 1, CAC (ms). */
	rules: readonly (readonly number[])[];
	/** Domains: countries, DFS region, rule numbers. */
	domains: readonly (readonly [string, number, readonly number[]])[];
}

/** The database in the tables of a generated module. */
export function decodeTables(tables: DatabaseTables): Database {
	const categories = (row: readonly number[], from: number): WmmAccessCategory[] =>
		[0, 4, 8, 12].map((at) => ({
			cwMin: row[from + at]!,
			cwMax: row[from + at + 1]!,
			aifsn: row[from + at + 2]!,
			cotMs: row[from + at + 3]!,
		}));
	const wmms = tables.wmms.map((row) => ({ client: categories(row, 0), ap: categories(row, 16) }));
	const rules = tables.rules.map(([startKHz, endKHz, maxBandwidthKHz, maxEirpMbm, flags, wmm = 0, cacMs = 0]): Rule => {
		const rule = {
			startKHz: startKHz!,
			endKHz: endKHz!,
			maxBandwidthKHz: maxBandwidthKHz!,
			maxGainMbi: 0,
			maxEirpMbm: maxEirpMbm!,
			cacMs,
			flags: flags!,
		};
		return wmm === 0 ? rule : { ...rule, wmm: wmms[wmm - 1]! };
	});
	const domains = tables.domains.flatMap(([names, dfsRegion, numbers]) =>
		names
			.split(" ")
			.map((alpha2): [string, Domain] => [
				alpha2,
				{ alpha2, dfsRegion, rules: numbers.map((number) => rules[number]!) },
			]),
	);
	return { version: tables.version, domains: new Map(domains.sort(([one], [two]) => (one < two ? -1 : 1))) };
}

let decoded: Database | undefined;

/** The bundled database; decoded on first use and shared by all callers, who must not change it. */
export function bundledDatabase(): Database {
	decoded ??= decodeTables(tables);
	return decoded;
}
