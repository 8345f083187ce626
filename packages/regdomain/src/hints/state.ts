import type { InterfaceType } from "../channel/beacon.ts";
import type { ChannelDefinition } from "../channel/definition.ts";
import type { ChannelSpec } from "../channel/plan.ts";
import type { Band } from "../model/bands.ts";
import type { Domain } from "../model/domain.ts";
import { ChannelFlag, RuleFlag } from "../model/flags.ts";
import type { Quirks } from "../rules/decide.ts";

/** Who asked for a regulatory domain. */
export type Initiator = "core" | "user" | "driver" | "country-element";

/** A request for a regulatory domain (`struct regulatory_request`). */
export interface RegulatoryRequest {
	/** Who asked. */
	initiator: Initiator;
	/** For which country. */
	alpha2: string;
	/** Name of the radio, for driver and country element hints. */
	radio?: string;
	/** The user hint comes from a cellular base station. */
	cellular: boolean;
	/** The result is to be intersected with the domain in force. */
	intersect: boolean;
	/** The domain arrived; until then no other request is looked at. */
	processed: boolean;
	/** Environment of the country element. */
	environment: "any" | "indoor" | "outdoor";
}

/** A radio as it is set up. */
export interface RadioOptions {
	/** Name, unique in the simulation. */
	name: string;
	/** Channels. @default the 139 of mac80211_hwsim */
	channels?: readonly ChannelSpec[];
	/** REGULATORY_STRICT_REG: the first domain of its driver limits it for good. @default false */
	strict?: boolean;
	/** REGULATORY_CUSTOM_REG with this domain, applied before registration. */
	custom?: Domain;
	/** REGULATORY_WIPHY_SELF_MANAGED: only its driver decides. @default false */
	selfManaged?: boolean;
	/** REGULATORY_COUNTRY_IE_IGNORE. @default false */
	ignoreCountryElement?: boolean;
	/** REGULATORY_DISABLE_BEACON_HINTS. @default false */
	disableBeaconHints?: boolean;
	/** REGULATORY_COUNTRY_IE_FOLLOW_POWER: country elements may raise the power above the hardware's own. @default false */
	followCountryElementPower?: boolean;
	/** NL80211_FEATURE_CELL_BASE_REG_HINTS. @default false */
	cellularHints?: boolean;
}

/** A channel of a radio, as the kernel keeps it (`struct ieee80211_channel`). */
export interface ChannelState {
	band: Band;
	channel: number;
	centreKHz: number;
	/** Flags of the hardware, or of a strict driver's domain. */
	origFlags: number;
	/** Power of the hardware, dBm; 0 = none of its own. */
	origPowerDbm: number;
	/** Gain of a strict driver's domain, dBi. */
	origGainDbi: number;
	/** Flags in force. A disabled channel keeps those of the domain before. */
	flags: number;
	/** Power in force, dBm. */
	powerDbm: number;
	/** Antenna gain in force, dBi. */
	gainDbi: number;
	/** Channel availability check, ms; kept from an earlier domain where RADAR is clear. */
	cacMs: number;
	/** A beacon was seen. */
	beaconFound: boolean;
	/** dBm/MHz. */
	psdDbm?: number;
}

/** A radio in the simulation. */
export interface RadioState {
	name: string;
	strict: boolean;
	/** Still follows its own domain; a driver hint clears this. */
	custom: boolean;
	selfManaged: boolean;
	ignoreCountryElement: boolean;
	disableBeaconHints: boolean;
	followCountryElementPower: boolean;
	cellularHints: boolean;
	/** Associated with an access point. */
	connected: boolean;
	/** The driver's own domain, if it has one. */
	domain?: Domain;
	channels: ChannelState[];
}

/** An interface that runs, checked 60 s after each change of domain. */
export interface RunningInterface {
	radio: string;
	name: string;
	type: InterfaceType;
	definition: ChannelDefinition;
}

/** Everything the regulatory core remembers: plain data that survives JSON. */
export interface RegulatoryState {
	/** Virtual time, ms. */
	nowMs: number;
	/** Kernel behaviour with or without its bugs. */
	quirks: Quirks;
	/** Kernel built with CONFIG_CFG80211_CRDA_SUPPORT: unknown countries are asked of user space. */
	crda: boolean;
	/** Kernel built with CONFIG_CFG80211_REG_CELLULAR_HINTS. */
	cellularHints: boolean;
	/** Module parameter ieee80211_regdom. */
	moduleAlpha2: string;
	/** The domain in force. */
	global: Domain;
	/** The last request that was taken up. */
	last: RegulatoryRequest;
	/** Requests not looked at yet. */
	queue: RegulatoryRequest[];
	/** Country the user asked for last; "97" when none. */
	userAlpha2: string;
	/** The domain of the last user request that arrived. */
	userDomain?: Domain;
	/** When waiting for user space ends, ms; absent when nothing is waited for. */
	answerDueMs?: number;
	/** Times user space did not answer since the last hint. */
	unanswered: number;
	/** Beacons seen, remembered for later domains. */
	beacons: { band: Band; centreKHz: number }[];
	/** User space says that the device is indoors. */
	indoor: boolean;
	/** Netlink port that controls the indoor setting; 0 = nobody. */
	indoorOwner: number;
	/** When running interfaces are checked, ms. */
	interfaceCheckMs?: number;
	interfaces: RunningInterface[];
	radios: RadioState[];
}

const worldRule = (
	startMHz: number,
	endMHz: number,
	bandwidthMHz: number,
	gainDbi: number,
	eirpDbm: number,
	flags: number,
): Domain["rules"][number] => ({
	startKHz: startMHz * 1000,
	endKHz: endMHz * 1000,
	maxBandwidthKHz: bandwidthMHz * 1000,
	maxGainMbi: gainDbi * 100,
	maxEirpMbm: eirpDbm * 100,
	cacMs: 0,
	flags,
});

/** The world domain compiled into the kernel, in force where there is no database and after a disconnect. */
export const builtInWorld: Domain = {
	alpha2: "00",
	dfsRegion: 0,
	rules: [
		worldRule(2402, 2472, 40, 6, 20, 0),
		worldRule(2457, 2482, 20, 6, 20, RuleFlag.NO_IR | RuleFlag.AUTO_BW),
		worldRule(2474, 2494, 20, 6, 20, RuleFlag.NO_IR | RuleFlag.NO_OFDM),
		worldRule(5170, 5250, 80, 6, 20, RuleFlag.NO_IR | RuleFlag.AUTO_BW),
		worldRule(5250, 5330, 80, 6, 20, RuleFlag.NO_IR | RuleFlag.AUTO_BW | RuleFlag.DFS),
		worldRule(5490, 5730, 160, 6, 20, RuleFlag.NO_IR | RuleFlag.DFS),
		worldRule(5735, 5835, 80, 6, 20, RuleFlag.NO_IR),
		worldRule(57240, 63720, 2160, 0, 0, 0),
	],
};

/** The request that stands for "nothing was asked yet". */
export const worldRequest = (): RegulatoryRequest => ({
	initiator: "core",
	alpha2: "00",
	cellular: false,
	intersect: false,
	processed: true,
	environment: "any",
});

/** No gain limit of the hardware's own (INT_MAX in the kernel). */
export const NO_GAIN_LIMIT = 0x7fffffff;

/** A channel before any domain was applied. */
export function freshChannel(spec: ChannelSpec): ChannelState {
	return {
		band: spec.band,
		channel: spec.channel,
		centreKHz: spec.centreKHz,
		origFlags: spec.flags ?? 0,
		origPowerDbm: spec.maxPowerDbm ?? 0,
		origGainDbi: NO_GAIN_LIMIT,
		flags: spec.flags ?? 0,
		powerDbm: spec.maxPowerDbm ?? 0,
		gainDbi: 0,
		cacMs: 0,
		beaconFound: false,
	};
}

/** Whether a code is the world domain's. */
export const isWorld = (alpha2: string): boolean => alpha2 === "00";

/** Whether a code is two letters (`is_an_alpha2`). */
export const isLetters = (alpha2: string): boolean => /^[A-Za-z]{2}$/.test(alpha2);

/** Whether a channel may be used. */
export const isEnabled = ({ flags }: { flags: number }): boolean => (flags & ChannelFlag.DISABLED) === 0;

/** How the kernel is built and booted. */
export interface KernelOptions {
	/** Kernel behaviour with or without its bugs. @default "linux-7.2" */
	quirks?: Quirks;
	/** CONFIG_CFG80211_CRDA_SUPPORT: unknown countries are asked of user space. @default true */
	crda?: boolean;
	/** CONFIG_CFG80211_REG_CELLULAR_HINTS. @default false */
	cellularHints?: boolean;
	/** Module parameter ieee80211_regdom. @default "00" */
	moduleAlpha2?: string;
	/** Time to start at, ms. @default 0 */
	nowMs?: number;
}

/** Nobody asked for a country (the kernel's own mark). */
export const NO_USER_ALPHA2 = "97";

/** The state before the first request. */
export function initialState(options: KernelOptions): RegulatoryState {
	return {
		nowMs: options.nowMs ?? 0,
		quirks: options.quirks ?? "linux-7.2",
		crda: options.crda ?? true,
		cellularHints: options.cellularHints ?? false,
		moduleAlpha2: options.moduleAlpha2 ?? "00",
		global: builtInWorld,
		last: worldRequest(),
		queue: [],
		userAlpha2: NO_USER_ALPHA2,
		unanswered: 0,
		beacons: [],
		indoor: false,
		indoorOwner: 0,
		interfaces: [],
		radios: [],
	};
}
