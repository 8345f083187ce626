import type { Interface } from "../link/interface.ts";
import type { AddressLike, IpAddress } from "../wire/address.ts";
import { type CoreOptions, StackCore } from "./core.ts";
import { Ethernet } from "./ethernet.ts";
import { Forwarder } from "./forward.ts";
import { Fragments } from "./fragments.ts";
import { GroupReporter } from "./groups.ts";
import { IcmpLayer } from "./icmp-errors.ts";
import { Ipv6 } from "./ipv6.ts";
import { joinGroup, leaveGroup } from "./membership.ts";
import type { NdLayer } from "./nd.ts";
import { detach, removeAddress } from "./removal.ts";

/** The whole stack: the core with Ethernet, all of ICMP, IPv6, fragments, forwarding and multicast reports. */
export class Stack extends StackCore {
	declare readonly icmp: IcmpLayer;

	constructor(options: CoreOptions) {
		super(options, {
			ethernet: (stack) => new Ethernet(stack),
			icmp: (stack) => new IcmpLayer(stack),
			ipv6: (stack) => new Ipv6(stack),
			fragments: (stack) => new Fragments(stack),
			forwarder: (stack) => new Forwarder(stack),
			groups: (stack) => new GroupReporter(stack),
		});
	}

	/** IPv6 neighbour discovery. */
	get nd(): NdLayer {
		return this.ipv6!.nd;
	}

	/** Takes an interface and everything it brought away; the link is the caller's to close. */
	detach(iface: Interface): void {
		detach(this, iface);
	}

	/** Takes an address away, and its network's route unless another address is on it. */
	removeAddress(iface: Interface, address: AddressLike): void {
		removeAddress(this, iface, address);
	}

	/** Joins a multicast group on an interface; pair with {@link leaveGroup}. */
	joinGroup(iface: Interface, group: IpAddress): void {
		joinGroup(this, iface, group);
	}

	leaveGroup(iface: Interface, group: IpAddress): void {
		leaveGroup(this, iface, group);
	}

	/** Fixes the MTU towards a destination until it is set again, whatever routers say (`ip route … mtu lock`). */
	lockMtu(destination: IpAddress, mtu: number): void {
		this.paths.pmtus.set(destination.toString(), { mtu, until: Number.POSITIVE_INFINITY });
		this.routesChanged();
	}
}
