import { canBeacon } from "../channel/beacon.ts";
import { type ChannelDefinition, definitionFault } from "../channel/definition.ts";
import { alpha2Kind } from "../iso3166/index.ts";
import type { Database } from "../model/domain.ts";
import { evaluateDomain } from "../rules/evaluate.ts";
import { explainChannel } from "../rules/explain.ts";

/** One finding in a configuration. */
export interface ConfigFinding {
	/** Line, counted from 1; absent when something is missing. */
	line?: number;
	/** Section and option it is about. */
	field: string;
	/** `error` will not start or is illegal, `warning` will disappoint, `note` is worth knowing. */
	severity: "error" | "warning" | "note";
	/** What is wrong and what to do. */
	message: string;
}

/** A value with the line it stands on. */
export interface Located {
	value: string;
	line: number;
}

/** A finding about a located value. */
export function finding(
	severity: ConfigFinding["severity"],
	field: string,
	message: string,
	at?: Located,
): ConfigFinding {
	return at === undefined ? { field, severity, message } : { line: at.line, field, severity, message };
}

/** Findings about a country: missing, malformed, unassigned, unknown to the database. Also says which domain then rules. */
export function checkCountry(
	database: Database,
	field: string,
	code: Located | undefined,
): { alpha2: string; findings: ConfigFinding[] } {
	const world = "channels 12 to 14 and nearly all of 5 and 6 GHz are then closed to access points";
	if (code === undefined) {
		return {
			alpha2: "00",
			findings: [finding("warning", field, `no country is set, so the world domain rules: ${world}; set ${field}`)],
		};
	}
	const alpha2 = code.value.toUpperCase();
	if (database.domains.has(alpha2)) {
		const lower =
			alpha2 === code.value
				? []
				: [finding("warning", field, `write ${alpha2} in capitals; some tools refuse ${code.value}`, code)];
		return { alpha2, findings: lower };
	}
	const kind = alpha2Kind(alpha2);
	const why =
		kind === "assigned" ? "is a country, but the database has no rules for it" : `is no country code (${kind})`;
	return { alpha2: "00", findings: [finding("error", field, `${code.value} ${why}: ${world}`, code)] };
}

/** Findings about an access point's channel definition in a domain. */
export function checkAccessPoint(
	database: Database,
	alpha2: string,
	definition: ChannelDefinition,
	field: string,
	at: Located | undefined,
): ConfigFinding[] {
	const domain = database.domains.get(alpha2);
	if (domain === undefined) return [];
	const explanation = explainChannel(domain, definition);
	if (definitionFault(definition) !== undefined) return [finding("error", field, explanation.problems.join("; "), at)];
	if (!explanation.usable || (!explanation.canBeacon && explanation.cacMs === 0)) {
		return [finding("error", field, explanation.summary, at)];
	}
	const findings: ConfigFinding[] = [];
	const cleared = evaluateDomain(domain).map((decision) => ({ ...decision, dfsState: "available" as const }));
	if (explanation.cacMs > 0 && !canBeacon(cleared, definition).usable) {
		findings.push(finding("error", field, explanation.summary, at));
	} else if (explanation.cacMs > 0) {
		findings.push(
			finding(
				"note",
				field,
				`the access point listens ${explanation.cacMs / 1000} s for radar before it starts, and leaves for 30 min when it sees any`,
				at,
			),
		);
	}
	return findings;
}
