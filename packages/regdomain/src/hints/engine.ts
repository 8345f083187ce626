import { RegdomainError } from "../errors.ts";
import { type Database, type Domain, isValidDomain } from "../model/domain.ts";
import { ChannelFlag } from "../model/flags.ts";
import { intersectDomains } from "../rules/intersect.ts";
import type { RegulatoryEvent, TraceEntry } from "./events.ts";
import { interfacesToLeave } from "./interfaces.ts";
import { applyBeacon, applyCustom, applyRadioHt40, createRadio, restoreCustom, updateRadio } from "./radio.ts";
import {
	builtInWorld,
	type Initiator,
	initialState,
	isLetters,
	isWorld,
	type KernelOptions,
	NO_USER_ALPHA2,
	type RadioOptions,
	type RadioState,
	type RegulatoryRequest,
	type RegulatoryState,
	worldRequest,
} from "./state.ts";
import { type Decision, ofCountryElement, ofDriver, ofUser } from "./treatment.ts";

/** How long the kernel waits for user space to supply a domain it does not know, ms. */
export const ANSWER_WAIT_MS = 3142;

/** How long interfaces may stay on a channel that a change forbade, ms (REG_ENFORCE_GRACE_MS). */
export const ENFORCE_GRACE_MS = 60_000;

const MAX_UNANSWERED = 10;

// A module parameter that names no known country makes the kernel wait and restore for ever.
const MAX_TIMERS = 10_000;

/** How to start a regulatory core. */
export interface RegulatoryOptions extends KernelOptions {
	/** The database the kernel loads; absent: none, or one it refuses, so that only the built-in world domain remains. */
	database?: Database;
	/** Radios present from the start, registered in order. */
	radios?: readonly RadioOptions[];
	/** A state saved earlier, to continue from; the other options but `database` are then not used. */
	state?: RegulatoryState;
}

/**
 * The regulatory core of cfg80211 in virtual time: takes hints from core, users, drivers, country elements and beacons,
 * decides as net/wireless/reg.c of Linux 7.2 does, and keeps every radio's channels. All work that the kernel defers
 * without delay is done before a call returns; what it delays (3142 ms for user space, 60 s grace) waits for `advance`.
 */
export class RegulatoryCore {
	/** Everything that is remembered; plain data. */
	readonly state: RegulatoryState;
	readonly #database: Database | undefined;
	#trace: TraceEntry[] = [];

	constructor(options: RegulatoryOptions) {
		this.#database = options.database;
		if (options.state !== undefined) {
			this.state = structuredClone(options.state);
			return;
		}
		this.state = initialState(options);
		this.#hintCore();
		if (!isWorld(this.state.moduleAlpha2)) this.#hintUser(this.state.moduleAlpha2, false);
		this.#drain();
		for (const radio of options.radios ?? []) this.apply({ kind: "register", radio });
	}

	/** What happened while the core started; events return their own traces. */
	get pendingTrace(): readonly TraceEntry[] {
		return this.#trace;
	}

	/**
	 * Lets something happen.
	 *
	 * @returns what the core did about it, in order
	 * @throws RegdomainError `SCENARIO_SYNTAX` for a radio that does not exist, a name used twice or a negative time
	 */
	apply(event: RegulatoryEvent): TraceEntry[] {
		this.#trace = [];
		this.#dispatch(event);
		this.#drain();
		const trace = this.#trace;
		this.#trace = [];
		return trace;
	}

	/** A radio by its name. */
	radio(name: string): RadioState {
		const radio = this.state.radios.find((candidate) => candidate.name === name);
		if (radio === undefined) {
			throw new RegdomainError("SCENARIO_SYNTAX", `there is no radio ${JSON.stringify(name)}`, name, {
				field: "radio",
			});
		}
		return radio;
	}

	#log(what: TraceEntry["what"], subject: string, why: string): void {
		this.#trace.push({ atMs: this.state.nowMs, what, subject, why });
	}

	#dispatch(event: RegulatoryEvent): void {
		switch (event.kind) {
			case "user":
				this.#hintUser(event.alpha2, event.cellular ?? false);
				break;
			case "driver": {
				const radio = this.radio(event.radio);
				radio.custom = false;
				this.state.unanswered = 0;
				this.#queue("driver", event.alpha2, { radio: radio.name });
				break;
			}
			case "country-element":
				this.#hintCountryElement(event);
				break;
			case "beacon":
				this.#hintBeacon(this.radio(event.radio), event.centreKHz);
				break;
			case "self-managed":
				this.#setSelfManaged(this.radio(event.radio), event.domain);
				break;
			case "register":
				this.#register(event.radio);
				break;
			case "unregister":
				this.#unregister(this.radio(event.radio));
				break;
			case "connect":
				this.radio(event.radio).connected = true;
				break;
			case "disconnect":
				this.#disconnect(this.radio(event.radio));
				break;
			case "indoor":
				this.#setIndoor(event.indoor, event.owner ?? 0);
				break;
			case "interface-up": {
				const { radio, name, type, definition } = event;
				this.radio(radio);
				this.#removeInterface(radio, name);
				this.state.interfaces.push({ radio, name, type, definition });
				break;
			}
			case "interface-down":
				this.#removeInterface(event.radio, event.name);
				break;
			case "answer":
				this.#drain();
				this.state.unanswered = 0;
				this.#setDomain(event.domain);
				break;
			case "advance":
				this.#advance(event.ms);
				break;
		}
	}

	#removeInterface(radio: string, name: string): void {
		this.state.interfaces = this.state.interfaces.filter((known) => known.radio !== radio || known.name !== name);
	}

	// ---- hints ----

	#queue(initiator: Initiator, alpha2: string, more: Partial<RegulatoryRequest> = {}): void {
		this.state.queue.push({ ...worldRequest(), processed: false, initiator, alpha2: alpha2.toUpperCase(), ...more });
	}

	#hintCore(): void {
		this.#queue("core", "00");
	}

	#hintUser(alpha2: string, cellular: boolean): boolean {
		if (!isWorld(alpha2) && !isLetters(alpha2)) {
			this.#log("rejected", `user ${alpha2}`, "a user hint is two letters, or 00");
			return false;
		}
		this.state.unanswered = 0;
		this.#queue("user", alpha2, { cellular });
		return true;
	}

	#hintCountryElement(event: Extract<RegulatoryEvent, { kind: "country-element" }>): void {
		const radio = this.radio(event.radio);
		radio.connected = true;
		const { last } = this.state;
		const subject = `country-element ${event.alpha2} on ${radio.name}`;
		if (last.initiator === "country-element" && last.radio !== undefined) {
			this.#log(
				"ignored",
				subject,
				`the country element of ${last.radio}'s access point is in force until a disconnect`,
			);
			return;
		}
		this.state.unanswered = 0;
		this.#queue("country-element", event.alpha2, { radio: radio.name, environment: event.environment ?? "any" });
	}

	#hintBeacon(radio: RadioState, centreKHz: number): void {
		const channel = radio.channels.find((candidate) => candidate.centreKHz === centreKHz);
		const subject = `beacon on ${centreKHz / 1000} MHz`;
		if (channel === undefined) {
			this.#log("ignored", subject, `${radio.name} has no such channel`);
		} else if (channel.beaconFound) {
			this.#log("ignored", subject, "a beacon was seen there before");
		} else if ((channel.flags & ChannelFlag.RADAR) !== 0) {
			this.#log("ignored", subject, "beacons on radar channels prove nothing");
		} else if (channel.band === "2.4" && channel.channel < 12) {
			this.#log("ignored", subject, "in 2.4 GHz only channels 12, 13 and 14 matter");
		} else {
			this.#drain();
			const beacon = { band: channel.band, centreKHz };
			const lifted = this.state.radios.filter((candidate) => applyBeacon(this.state, candidate, beacon));
			this.state.beacons.push(beacon);
			const names = lifted.map(({ name }) => name).join(", ");
			this.#log(
				"beacon",
				subject,
				lifted.length > 0 ? `lifts NO_IR on ${names}` : "no world-roaming radio had NO_IR there",
			);
		}
	}

	// ---- the queue ----

	#drain(): void {
		while (this.state.queue.length > 0) {
			if (!this.state.last.processed) {
				const { initiator, alpha2 } = this.state.last;
				const waiting = this.state.queue.map((request) => `${request.initiator} ${request.alpha2}`).join(", ");
				this.#log("queued", waiting, `${initiator} ${alpha2} still waits for user space`);
				return;
			}
			this.#process(this.state.queue.shift()!);
		}
	}

	#process(request: RegulatoryRequest): void {
		const subject = `${request.initiator} ${request.alpha2}${request.radio === undefined ? "" : ` on ${request.radio}`}`;
		const radio = this.state.radios.find(({ name }) => name === request.radio);
		if (request.radio !== undefined && radio === undefined) {
			this.#log("ignored", subject, "the radio is gone");
			return;
		}
		const decision = this.#decide(request, radio);
		if (decision.treatment === "ignore" || (decision.treatment === "already-set" && request.initiator !== "driver")) {
			this.#log(decision.treatment === "ignore" ? "ignored" : "already-set", subject, decision.why);
			return;
		}
		if (decision.treatment === "invalid") {
			if (this.state.quirks === "none") {
				this.#log("ignored", subject, decision.why);
				return;
			}
			this.#log("quirk", subject, `${decision.why}, yet the kernel goes on to look it up`);
		}
		if (request.initiator === "driver" && decision.treatment !== "ok") radio!.domain = this.state.global;
		request.intersect = decision.treatment === "intersect";
		if (decision.treatment === "already-set") {
			this.#log("already-set", subject, decision.why);
			this.state.last = request;
			this.#finished();
			if (radio!.strict) this.#update(radio!, request.initiator);
			this.#scheduleInterfaceCheck(radio!.strict);
			return;
		}
		this.#lookUp(request, subject, decision);
	}

	#decide(request: RegulatoryRequest, radio: RadioState | undefined): Decision {
		switch (request.initiator) {
			case "core":
				return { treatment: "ok", why: "the core asks for the world domain" };
			case "user":
				return ofUser(this.state, request);
			case "driver":
				return ofDriver(this.state, request);
			case "country-element":
				return ofCountryElement(this.state, request, radio!);
		}
	}

	#lookUp(request: RegulatoryRequest, subject: string, decision: Decision): void {
		const domain = this.#database?.domains.get(request.alpha2);
		if (domain === undefined && (!this.state.crda || this.state.unanswered > MAX_UNANSWERED)) {
			this.#log("ignored", subject, "the database has no such country");
			return;
		}
		this.state.last = request;
		if (request.initiator === "user") this.state.userAlpha2 = request.alpha2;
		if (domain === undefined) {
			this.state.answerDueMs = this.state.nowMs + ANSWER_WAIT_MS;
			this.#log("pending", subject, `not in the database; user space has ${ANSWER_WAIT_MS} ms to supply it`);
			return;
		}
		this.#log(request.intersect ? "intersected" : "taken", subject, decision.why);
		this.#setDomain(domain);
	}

	/** `reg_set_request_processed`. */
	#finished(): void {
		this.state.last.processed = true;
		delete this.state.answerDueMs;
	}

	// ---- setting a domain ----

	/** `set_regdom`. */
	#setDomain(domain: Domain): void {
		const { last } = this.state;
		const subject = `${last.initiator} ${last.alpha2}`;
		if (last.processed || last.alpha2 !== domain.alpha2) {
			this.#log("failed", `domain ${domain.alpha2}`, "nobody asked for it");
			return;
		}
		if (last.initiator === "user") this.state.userDomain = domain;
		const failure = this.#install(domain, last);
		if (failure === "already") {
			this.#finished();
			return;
		}
		if (failure !== undefined) {
			this.#log("failed", subject, failure);
			this.#restore(last.initiator === "user", false);
			return;
		}
		this.#updateAll(last.initiator);
		this.#finished();
	}

	/** `reg_set_rd_*`: puts a domain in force. Returns "already", or why it cannot. */
	#install(domain: Domain, request: RegulatoryRequest): string | undefined {
		if (request.initiator === "core") {
			if (!isWorld(domain.alpha2)) return "the core takes only the world domain";
			this.state.global = domain;
			return undefined;
		}
		const same = this.state.global.alpha2 === domain.alpha2;
		if (request.initiator === "driver" && isWorld(domain.alpha2)) return "a driver may not ask for the world domain";
		if (same && request.initiator !== "country-element") return "already";
		if (!isValidDomain(domain)) return "the domain has an invalid rule, or none";
		const radio = this.state.radios.find(({ name }) => name === request.radio);
		if (request.radio !== undefined && radio === undefined) return "the radio is gone";
		if (!request.intersect) {
			if (request.initiator === "driver") radio!.domain = domain;
			this.state.global = domain;
			return undefined;
		}
		const common = intersectDomains(domain, this.state.global);
		if (common === undefined) return "nothing is common to both domains";
		if (request.initiator === "driver") radio!.domain = domain;
		this.state.global = common;
		return undefined;
	}

	#update(radio: RadioState, initiator: Initiator): void {
		const ignored = updateRadio(this.state, radio, initiator);
		if (ignored !== undefined) this.#log("radio-unchanged", radio.name, ignored);
	}

	#updateAll(initiator: Initiator): void {
		for (const radio of this.state.radios) this.#update(radio, initiator);
		this.#scheduleInterfaceCheck(true);
	}

	#scheduleInterfaceCheck(changed: boolean): void {
		if (changed) this.state.interfaceCheckMs = this.state.nowMs + ENFORCE_GRACE_MS;
	}

	// ---- restoring ----

	/** `restore_regulatory_settings`: back to the world domain, then the user's or the module parameter's country. */
	#restore(resetUser: boolean, cached: boolean): void {
		const { state } = this;
		if (state.indoor && state.indoorOwner === 0) {
			state.indoor = false;
			this.#scheduleInterfaceCheck(true);
		}
		state.global = this.#restoredWorld(cached);
		state.last = worldRequest();
		delete state.answerDueMs;
		let alpha2 = isWorld(state.moduleAlpha2) ? NO_USER_ALPHA2 : state.moduleAlpha2;
		if (state.userAlpha2 !== NO_USER_ALPHA2) {
			if (resetUser) state.userAlpha2 = NO_USER_ALPHA2;
			else alpha2 = state.userAlpha2;
		}
		const stashed = state.queue;
		state.queue = [];
		state.beacons = [];
		for (const radio of state.radios) if (radio.custom && !radio.selfManaged) restoreCustom(radio);
		this.#log("restored", "settings", isLetters(alpha2) ? `world domain, then ${alpha2} again` : "world domain");
		if (cached && (!isLetters(alpha2) || state.userDomain !== undefined)) {
			this.#updateAll("core");
			if (isLetters(alpha2)) {
				state.last = { ...worldRequest(), processed: false, initiator: "user", alpha2 };
				this.#setDomain(state.userDomain!);
			}
		} else {
			this.#hintCore();
			if (isLetters(alpha2)) this.#hintUser(alpha2, false);
		}
		state.queue.push(...stashed);
	}

	/**
	 * The world domain right after a restore. After a disconnect the kernel means to take the one it read before, but has
	 * just replaced that by the built-in one.
	 */
	#restoredWorld(cached: boolean): Domain {
		const read = this.#database?.domains.get("00");
		return cached && this.state.quirks === "none" && read !== undefined ? read : builtInWorld;
	}

	/** `regulatory_hint_disconnect`, once every radio is idle. */
	#disconnect(radio: RadioState): void {
		radio.connected = false;
		if (this.state.radios.some(({ connected }) => connected)) {
			this.#log("ignored", `disconnect of ${radio.name}`, "another radio is still connected");
			return;
		}
		if (this.state.radios.every(({ ignoreCountryElement }) => ignoreCountryElement)) {
			const forgets = this.state.radios.some(({ disableBeaconHints }) => !disableBeaconHints);
			if (forgets) this.state.beacons = [];
			this.#log(
				"ignored",
				`disconnect of ${radio.name}`,
				"every radio ignores country elements; only beacons are forgotten",
			);
			return;
		}
		this.#restore(false, true);
	}

	// ---- radios ----

	#register(options: RadioOptions): void {
		const { name } = options;
		if (this.state.radios.some((known) => known.name === name)) {
			throw new RegdomainError("SCENARIO_SYNTAX", `there are two radios ${JSON.stringify(name)}`, name, {
				field: "name",
			});
		}
		const radio = createRadio(options);
		this.state.radios.push(radio);
		this.#update(radio, this.state.last.initiator);
	}

	#unregister(radio: RadioState): void {
		this.state.radios = this.state.radios.filter((known) => known !== radio);
		this.state.interfaces = this.state.interfaces.filter((known) => known.radio !== radio.name);
		if (this.state.last.radio === radio.name) {
			delete this.state.last.radio;
			this.state.last.environment = "any";
		}
	}

	#setSelfManaged(radio: RadioState, domain: Domain): void {
		if (!radio.selfManaged || !isValidDomain(domain)) {
			const why = radio.selfManaged ? "the domain has an invalid rule, or none" : "the radio is not self-managed";
			this.#log("rejected", `self-managed domain of ${radio.name}`, why);
			return;
		}
		this.#drain();
		radio.domain = domain;
		applyCustom(radio, domain);
		applyRadioHt40(this.state, radio);
		this.#log("taken", `self-managed ${domain.alpha2} on ${radio.name}`, "its driver decides alone");
		this.#scheduleInterfaceCheck(true);
	}

	#setIndoor(indoor: boolean, owner: number): void {
		this.state.indoor = indoor;
		if (!indoor) this.state.indoorOwner = 0;
		else if (this.state.indoorOwner === 0) this.state.indoorOwner = owner;
		this.#scheduleInterfaceCheck(!indoor);
	}

	// ---- time ----

	#advance(ms: number): void {
		const tooFar = (why: string): RegdomainError =>
			new RegdomainError("SCENARIO_SYNTAX", `time cannot advance by ${ms} ms: ${why}`, ms, { field: "advanceMs" });
		if (!(ms >= 0 && this.state.nowMs + ms <= Number.MAX_SAFE_INTEGER))
			throw tooFar("give 0 or more, up to 2^53 in all");
		const { state } = this;
		const end = state.nowMs + ms;
		this.#drain();
		for (let fired = 0; ; fired++) {
			if (fired > MAX_TIMERS) throw tooFar(`more than ${MAX_TIMERS} waits would end; advance in steps`);
			const answer = state.answerDueMs ?? Number.POSITIVE_INFINITY;
			const check = state.interfaceCheckMs ?? Number.POSITIVE_INFINITY;
			const next = Math.min(answer, check);
			if (next > end) break;
			state.nowMs = Math.max(state.nowMs, next);
			if (answer <= check) {
				const { initiator, alpha2 } = state.last;
				state.unanswered++;
				this.#log("failed", `${initiator} ${alpha2}`, "user space did not supply the domain in time");
				this.#restore(true, false);
				this.#drain();
			} else {
				delete state.interfaceCheckMs;
				this.#checkInterfaces();
			}
		}
		state.nowMs = end;
	}

	#checkInterfaces(): void {
		for (const { name, radio } of interfacesToLeave(this.state)) {
			this.#removeInterface(radio, name);
			this.#log("left", `${name} on ${radio}`, "its channel is no longer allowed");
		}
	}
}

/** Starts a regulatory core; see {@link RegulatoryCore}. */
export function createRegulatoryCore(options: RegulatoryOptions = {}): RegulatoryCore {
	return new RegulatoryCore(options);
}
