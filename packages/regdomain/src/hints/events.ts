import type { InterfaceType } from "../channel/beacon.ts";
import type { ChannelDefinition } from "../channel/definition.ts";
import type { Domain } from "../model/domain.ts";
import type { RadioOptions } from "./state.ts";

/** What can happen to the regulatory core. */
export type RegulatoryEvent =
	/** The user (or user space) names a country, as `iw reg set` does. */
	| { kind: "user"; alpha2: string; cellular?: boolean }
	/** A driver names the country its hardware is made for. */
	| { kind: "driver"; radio: string; alpha2: string }
	/** The access point a radio associated with sent a country element. */
	| { kind: "country-element"; radio: string; alpha2: string; environment?: "any" | "indoor" | "outdoor" }
	/** A scan saw a beacon. */
	| { kind: "beacon"; radio: string; centreKHz: number }
	/** A self-managed radio's driver sets its domain. */
	| { kind: "self-managed"; radio: string; domain: Domain }
	/** A radio is plugged in. */
	| { kind: "register"; radio: RadioOptions }
	/** A radio is removed. */
	| { kind: "unregister"; radio: string }
	/** A radio associates, without a country element. */
	| { kind: "connect"; radio: string }
	/** A radio loses its access point. When no radio is connected any more, settings are restored. */
	| { kind: "disconnect"; radio: string }
	/** User space says whether the device is indoors; `owner` (a netlink port) keeps the setting over restores. */
	| { kind: "indoor"; indoor: boolean; owner?: number }
	/** An interface starts to run on a channel. */
	| { kind: "interface-up"; radio: string; name: string; type: InterfaceType; definition: ChannelDefinition }
	/** An interface stops. */
	| { kind: "interface-down"; radio: string; name: string }
	/** User space answers a pending request with a domain, as crda does. */
	| { kind: "answer"; domain: Domain }
	/** Time passes, ms. */
	| { kind: "advance"; ms: number };

/** What the core did and why. */
export interface TraceEntry {
	/** Virtual time, ms. */
	atMs: number;
	/** What happened: to a request, a radio, an interface or the whole state. */
	what:
		| "taken"
		| "intersected"
		| "ignored"
		| "already-set"
		| "pending"
		| "rejected"
		| "queued"
		| "failed"
		| "restored"
		| "radio-unchanged"
		| "beacon"
		| "left"
		| "quirk";
	/** What it was about, such as `user DE`. */
	subject: string;
	/** Why, in words for a person. */
	why: string;
}
