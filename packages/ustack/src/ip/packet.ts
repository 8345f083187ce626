import type { Interface } from "../link/interface.ts";
import { IpAddress } from "../wire/address.ts";
import type { FamilyOps } from "./family.ts";

/**
 * The packet being received: one object per stack, filled in by each layer in turn so that nothing is allocated. Valid
 * during the call that hands it over; the bytes are the link's.
 */
export class Packet {
	bytes: Uint8Array;
	iface: Interface;
	ops: FamilyOps;
	/** Offset of the IP header. */
	l3 = 0;
	/** Offset of the transport header. */
	l4 = 0;
	/** One past the last byte of the IP payload. */
	end = 0;
	protocol = 0;
	hopLimit = 0;
	/** Traffic class: DSCP and ECN. */
	tos = 0;
	/** Source address words, as {@link IpAddress} has them. */
	sa = 0;
	sb = 0;
	sc = 0;
	sd = 0;
	/** Destination address words. */
	da = 0;
	db = 0;
	dc = 0;
	dd = 0;
	/** The transport checksum needs no verification: the link vouched for it. */
	checked = false;
	/** Came as a link-layer broadcast or multicast. */
	linkBroadcast = false;
	/** For an IP multicast or broadcast destination. */
	groupcast = false;
	/** More than one wire segment merged by the link: its payload per segment, else 0. */
	gsoSize = 0;
	/** The datagram was put together from fragments. */
	reassembled = false;
	now = 0;

	constructor(iface: Interface, ops: FamilyOps) {
		this.bytes = new Uint8Array(0);
		this.iface = iface;
		this.ops = ops;
	}

	source(): IpAddress {
		return new IpAddress(this.sa, this.sb, this.sc, this.sd);
	}

	destination(): IpAddress {
		return new IpAddress(this.da, this.db, this.dc, this.dd);
	}

	/** Sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) for a payload length, unfolded. */
	pseudoSum(length: number): number {
		return (
			this.ops.addressSum(this.sa, this.sb, this.sc, this.sd, this.da, this.db, this.dc, this.dd) +
			this.protocol +
			length
		);
	}
}
