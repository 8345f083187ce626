import { RegdomainError } from "../errors.ts";
import { type Domain, parseDomain } from "../model/domain.ts";
import type { Quirks } from "../rules/decide.ts";
import type { RegulatoryEvent } from "./events.ts";
import type { RadioOptions } from "./state.ts";

/** A simulation read from JSON. */
export interface Scenario {
	/** Database file, relative to the scenario; absent: the bundled one. */
	db?: string;
	/** Kernel behaviour with or without its bugs. */
	quirks?: Quirks;
	/** Kernel built with CRDA support. */
	crda?: boolean;
	/** Kernel built with cellular hints. */
	cellularHints?: boolean;
	/** Module parameter ieee80211_regdom. */
	moduleAlpha2?: string;
	/** Radios, registered in order. */
	radios: RadioOptions[];
	/** What happens, step by step. */
	steps: RegulatoryEvent[];
}

type Json = Record<string, unknown>;

const bad = (field: string, expected: string, value: unknown): RegdomainError =>
	new RegdomainError("SCENARIO_SYNTAX", `${field} must be ${expected}`, value, { field });

function object(value: unknown, field: string): Json {
	if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(field, "an object", value);
	return value as Json;
}

function list(value: unknown, field: string): unknown[] {
	if (!Array.isArray(value)) throw bad(field, "an array", value);
	return value;
}

function text(value: unknown, field: string): string {
	if (typeof value !== "string") throw bad(field, "a string", value);
	return value;
}

function figure(value: unknown, field: string): number {
	if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw bad(field, "a number, 0 or more", value);
	return value;
}

function flag(source: Json, name: string, field: string): boolean | undefined {
	const value = source[name];
	if (value !== undefined && typeof value !== "boolean") throw bad(`${field}.${name}`, "true or false", value);
	return value as boolean | undefined;
}

function alpha2(value: unknown, field: string): string {
	const code = text(value, field);
	if ([...code].length !== 2) throw bad(field, "two characters", code);
	return code;
}

function customDomain(value: unknown, field: string): Domain {
	const domain = Array.isArray(value)
		? { alpha2: "99", dfsRegion: 0, rules: value }
		: { alpha2: "99", ...object(value, field) };
	return parseDomain(domain);
}

function radio(value: unknown, field: string): RadioOptions {
	const source = object(value, field);
	const options: RadioOptions = { name: text(source["name"], `${field}.name`) };
	for (const name of [
		"strict",
		"selfManaged",
		"ignoreCountryElement",
		"disableBeaconHints",
		"followCountryElementPower",
		"cellularHints",
	] as const) {
		const given = flag(source, name, field);
		if (given !== undefined) options[name] = given;
	}
	if (source["customRules"] !== undefined && source["customRules"] !== null) {
		options.custom = customDomain(source["customRules"], `${field}.customRules`);
	}
	return options;
}

const environments = ["any", "indoor", "outdoor"] as const;

function step(value: unknown, field: string): RegulatoryEvent {
	const source = object(value, field);
	if (source["advanceMs"] !== undefined)
		return { kind: "advance", ms: figure(source["advanceMs"], `${field}.advanceMs`) };
	const radioName = (): string => text(source["radio"], `${field}.radio`);
	const country = (): string => alpha2(source["alpha2"], `${field}.alpha2`);
	switch (source["hint"] ?? source["event"]) {
		case "user":
			return { kind: "user", alpha2: country(), cellular: flag(source, "cellular", field) ?? false };
		case "driver":
			return { kind: "driver", radio: radioName(), alpha2: country() };
		case "country-element": {
			const environment = source["environment"] ?? "any";
			const known = environments.find((name) => name === environment);
			if (known === undefined) throw bad(`${field}.environment`, "any, indoor or outdoor", environment);
			return { kind: "country-element", radio: radioName(), alpha2: country(), environment: known };
		}
		case "beacon":
			return {
				kind: "beacon",
				radio: radioName(),
				centreKHz: Math.round(figure(source["freqMHz"], `${field}.freqMHz`) * 1000),
			};
		case "self-managed":
			return {
				kind: "self-managed",
				radio: radioName(),
				domain: customDomain(source["rules"] ?? source["domain"], `${field}.rules`),
			};
		case "register":
			return { kind: "register", radio: radio(source["radio"], `${field}.radio`) };
		case "unregister":
			return { kind: "unregister", radio: radioName() };
		case "connect":
			return { kind: "connect", radio: radioName() };
		case "disconnect":
			return { kind: "disconnect", radio: radioName() };
		case "indoor":
			return {
				kind: "indoor",
				indoor: flag(source, "indoor", field) ?? true,
				owner: figure(source["owner"] ?? 0, `${field}.owner`),
			};
		default:
			throw bad(
				field,
				"{hint: user, driver, country-element, beacon or self-managed}, {event: disconnect, connect, register, unregister or indoor} or {advanceMs}",
				value,
			);
	}
}

/**
 * Reads a scenario from parsed JSON: `{db?, radios: [{name, strict?, customRules?, ignoreCountryElement?, …}], steps: [{hint:
 * "user", alpha2} | {hint: "driver", radio, alpha2} | {hint: "country-element", radio, alpha2} | {hint: "beacon", radio,
 * freqMHz} | {event: "disconnect", radio} | {advanceMs} | …]}`.
 *
 * @throws RegdomainError `SCENARIO_SYNTAX` or `BAD_RULE`, naming the field
 */
export function parseScenario(json: unknown): Scenario {
	const source = object(json, "scenario");
	const scenario: Scenario = {
		radios: list(source["radios"] ?? [], "radios").map((entry, index) => radio(entry, `radios[${index}]`)),
		steps: list(source["steps"] ?? [], "steps").map((entry, index) => step(entry, `steps[${index}]`)),
	};
	if (source["db"] !== undefined && source["db"] !== null) scenario.db = text(source["db"], "db");
	if (source["moduleAlpha2"] !== undefined) scenario.moduleAlpha2 = alpha2(source["moduleAlpha2"], "moduleAlpha2");
	for (const name of ["crda", "cellularHints"] as const) {
		const given = flag(source, name, "scenario");
		if (given !== undefined) scenario[name] = given;
	}
	const quirks = source["quirks"];
	if (quirks === undefined) return scenario;
	if (quirks !== "none" && quirks !== "linux-7.2") throw bad("quirks", "none or linux-7.2", quirks);
	return { ...scenario, quirks };
}
