import type { Link } from "@x/netchannel";
import { StackError } from "../errors.ts";
import { Stack } from "../ip/stack.ts";
import type { Interface, InterfaceOptions } from "../link/interface.ts";
import type { TcpConfig } from "../tcp/config.ts";
import { TcpLayer } from "../tcp/layer.ts";
import { UdpLayer } from "../udp/layer.ts";
import { type AddressLike, type IpAddress, parseAddress } from "../wire/address.ts";
import { type Clock, Driver, hostClock } from "./driver.ts";

/** Turns a name into addresses, the preferred first. */
export type Lookup = (name: string, family: 0 | 4 | 6) => Promise<IpAddress[]>;

/** Options of {@link createHost}. */
export interface HostOptions {
	/** @default Linux's behaviour */
	tcp?: Partial<TcpConfig>;
	/** Pass on packets for others. @default false */
	forwarding?: boolean;
	/** @default the host's */
	clock?: Clock;
	/** Fills arrays with unpredictable bytes. @default crypto.getRandomValues */
	random?: (bytes: Uint8Array) => void;
	/** @default literals and `localhost` only */
	lookup?: Lookup;
}

/** Options of {@link Host.attach}. */
export interface AttachOptions extends InterfaceOptions {
	/** Addresses with their prefix length: `10.0.0.2/24`. */
	addresses?: readonly string[];
	/** Default routes. */
	gateways?: readonly AddressLike[];
}

/** A stack with TCP and UDP, driven by the event loop: what programs use. */
export class Host {
	readonly stack: Stack;
	readonly tcp: TcpLayer;
	readonly udp: UdpLayer;
	readonly driver: Driver;
	/** Resolves names for every API of this host. */
	lookup: Lookup;

	/** @param parts - layers that are there already, instead of new ones */
	constructor(options: HostOptions = {}, parts: Pick<Host, "stack" | "tcp" | "udp"> = layersFor(options)) {
		this.stack = parts.stack;
		this.tcp = parts.tcp;
		this.udp = parts.udp;
		this.driver = new Driver(this.stack, this.tcp, options.clock ?? hostClock());
		this.lookup = options.lookup ?? literalLookup;
	}

	/** Puts a link to use as an interface. */
	attach(link: Link, options: AttachOptions = {}): Interface {
		const iface = this.driver.attach(link, options);
		for (const address of options.addresses ?? []) this.stack.addAddress(iface, address);
		for (const gateway of options.gateways ?? []) this.stack.addRoute("default", gateway, iface);
		return iface;
	}

	/** Resolves a literal without asking anybody, a name by {@link lookup}. */
	async resolve(name: string, family: 0 | 4 | 6 = 0): Promise<IpAddress[]> {
		const literal = parseAddress(name);
		if (literal !== undefined) return [literal];
		return this.lookup(name, family);
	}

	/** Stops the stack and closes its links. */
	close(): void {
		this.driver.close();
	}
}

function layersFor(options: HostOptions): Pick<Host, "stack" | "tcp" | "udp"> {
	const random =
		options.random ?? ((bytes: Uint8Array) => void crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>));
	const stack = new Stack({ random, forwarding: options.forwarding ?? false });
	return { stack, tcp: new TcpLayer(stack, options.tcp), udp: new UdpLayer(stack) };
}

/** Resolves address literals and `localhost`. */
export const literalLookup: Lookup = async (name, family) => {
	const literal = parseAddress(name);
	if (literal !== undefined) return [literal];
	if (name === "localhost" || name === "") {
		const addresses = [parseAddress("127.0.0.1")!, parseAddress("::1")!];
		return addresses.filter((address) => family === 0 || address.family === family);
	}
	throw new StackError("ENOTFOUND", `getaddrinfo ENOTFOUND ${name}`, "getaddrinfo");
};

/** A stack driven by the event loop. */
export function createHost(options: HostOptions = {}): Host {
	return new Host(options);
}
