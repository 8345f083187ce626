import { type CoreOptions, StackCore } from "./core.ts";
import { Ethernet } from "./ethernet.ts";
import { Forwarder } from "./forward.ts";
import { Fragments } from "./fragments.ts";
import { GroupReporter } from "./groups.ts";
import { IcmpLayer } from "./icmp-errors.ts";
import { Ipv6 } from "./ipv6.ts";
import type { NdLayer } from "./nd.ts";

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
}
