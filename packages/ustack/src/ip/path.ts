import type { Interface } from "../link/interface.ts";
import type { Neighbor } from "../link/neighbor.ts";
import type { IpAddress } from "../wire/address.ts";
import type { FamilyOps } from "./family.ts";

/**
 * A resolved way from a source to a destination: what a connection keeps so that sending looks nothing up. Stale once
 * the stack's `generation` has moved on.
 */
export interface Path {
	readonly source: IpAddress;
	readonly destination: IpAddress;
	readonly ops: FamilyOps;
	readonly iface: Interface;
	/** The next hop's link-layer entry; undefined on links without addresses and for groups (see `groupMac`). */
	readonly neighbor: Neighbor | undefined;
	/** Destination MAC of a multicast or broadcast path. */
	readonly groupMac: Uint8Array | undefined;
	/** The path's MTU, from the interface or a Packet Too Big, in bytes of IP packet. */
	readonly mtu: number;
	/** Unfolded sum of both addresses for pseudo-headers. */
	readonly addressSum: number;
	readonly generation: number;
}
