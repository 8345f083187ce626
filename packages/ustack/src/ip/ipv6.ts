import { type AddressParser, parseAddress } from "../wire/address.ts";
import type { StackCore } from "./core.ts";
import { type ExtensionWalk, walkExtensions } from "./extension.ts";
import type { FamilyOps } from "./family.ts";
import { IPV6 } from "./family6.ts";
import { NdLayer } from "./nd.ts";
import type { Packet } from "./packet.ts";

/** IPv6 as a part of the stack: its header, extension headers, neighbour discovery and autoconfiguration. */
export class Ipv6 {
	readonly ops: FamilyOps = IPV6;
	readonly nd: NdLayer;
	/** Reads addresses of both families. */
	readonly parse: AddressParser = parseAddress;
	/** Where the last walk over extension headers ended. */
	readonly walk: ExtensionWalk = { result: "ok", pointer: 0, code: 0, nextHeaderAt: 0, routerAlert: false };
	private readonly stack: StackCore;

	constructor(stack: StackCore) {
		this.stack = stack;
		this.nd = new NdLayer(stack);
	}

	/** Steps over a reassembled packet's extension headers; false where they end it. */
	pastExtensions(packet: Packet): boolean {
		walkExtensions(packet, this.walk);
		return this.walk.result === "ok";
	}

	/** Steps over a packet's extension headers; true when its payload is next. */
	extensions(packet: Packet): boolean {
		const { walk, stack } = this;
		walkExtensions(packet, walk);
		if (walk.result === "ok") return true;
		if (walk.result === "fragment") {
			if (stack.fragments === undefined) stack.drop(packet, "fragment-dropped");
			else stack.fragments.input(packet, walk.nextHeaderAt);
			return false;
		}
		if (walk.result === "problem") stack.icmp.sendError(packet, "parameter-problem", walk.pointer, walk.code);
		stack.drop(packet, "ip6-extension");
		return false;
	}
}
