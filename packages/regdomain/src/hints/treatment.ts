import type { RadioState, RegulatoryRequest, RegulatoryState } from "./state.ts";
import { isLetters } from "./state.ts";

/** What becomes of a request. */
export type Treatment = "ok" | "ignore" | "intersect" | "already-set" | "invalid";

/** A treatment with its reason, in words for a person. */
export interface Decision {
	treatment: Treatment;
	why: string;
}

const changes = (state: RegulatoryState, alpha2: string): boolean => state.global.alpha2 !== alpha2;

function ofCellular(state: RegulatoryState, request: RegulatoryRequest): Decision {
	if (!state.cellularHints || !state.radios.some(({ cellularHints }) => cellularHints)) {
		return { treatment: "ignore", why: "the kernel or no radio takes cellular base station hints" };
	}
	if (state.last.cellular && !changes(state, request.alpha2)) {
		return { treatment: "already-set", why: "the base station already said so" };
	}
	return { treatment: "ok", why: "a cellular base station is trusted over users and access points" };
}

/** `__reg_process_hint_user`. */
export function ofUser(state: RegulatoryState, request: RegulatoryRequest): Decision {
	const { last } = state;
	if (request.cellular) return ofCellular(state, request);
	if (last.cellular) return { treatment: "ignore", why: "a cellular base station spoke last" };
	if (last.initiator === "country-element") {
		return { treatment: "intersect", why: "a country element is in force; the user can only restrict it further" };
	}
	if (last.initiator === "user" && last.intersect) {
		return { treatment: "ignore", why: "an earlier user request is already intersected with a country element" };
	}
	if (changes(state, last.alpha2)) {
		return { treatment: "ignore", why: `the last request (${last.initiator} ${last.alpha2}) is not what is in force` };
	}
	if (!changes(state, request.alpha2)) return { treatment: "already-set", why: "that domain is in force" };
	return { treatment: "ok", why: "the user may choose" };
}

/** `__reg_process_hint_driver`. */
export function ofDriver(state: RegulatoryState, request: RegulatoryRequest): Decision {
	const { last } = state;
	if (last.initiator === "core") {
		return changes(state, request.alpha2)
			? { treatment: "ok", why: "no user, driver or access point spoke yet" }
			: { treatment: "already-set", why: "that domain is in force" };
	}
	if (last.initiator === "driver" && !changes(state, request.alpha2)) {
		return { treatment: "already-set", why: "another driver asked for the same domain" };
	}
	return { treatment: "intersect", why: `${last.initiator} ${last.alpha2} spoke before` };
}

/** `__reg_process_hint_country_ie`. */
export function ofCountryElement(state: RegulatoryState, request: RegulatoryRequest, radio: RadioState): Decision {
	const { last } = state;
	const same: Decision = { treatment: "already-set", why: "that domain is in force" };
	if (last.cellular) {
		return changes(state, request.alpha2)
			? { treatment: "ignore", why: "a cellular base station is trusted over the access point" }
			: same;
	}
	if (radio.ignoreCountryElement) return { treatment: "ignore", why: "the radio ignores country elements" };
	if (!isLetters(request.alpha2)) return { treatment: "invalid", why: "the country is not two letters" };
	if (last.initiator !== "country-element") return { treatment: "ok", why: "no other access point spoke before" };
	if (last.radio !== radio.name) {
		return changes(state, request.alpha2)
			? { treatment: "ignore", why: "another radio's access point names another country" }
			: same;
	}
	return changes(state, request.alpha2) ? { treatment: "ok", why: "the access point changed its country" } : same;
}
