import type { Link, Offload } from "@x/netchannel";
import type { StackCore } from "../ip/core.ts";
import { ANY6, type Cidr, type IpAddress, type IpFamily } from "../wire/address.ts";
import type { NeighborTable } from "./neighbor.ts";

/** RFC 4862's life of an address. */
export type AddressState = "tentative" | "preferred" | "deprecated";

/** An address an interface answers for. */
export interface InterfaceAddress {
	readonly cidr: Cidr;
	readonly address: IpAddress;
	state: AddressState;
	/** `static`, `dhcp`, `ra`, `link-local`, `loopback`. */
	readonly origin: string;
	/** StackCore time at which it becomes deprecated; Infinity for ever. */
	preferredUntil: number;
	/** StackCore time at which it goes. */
	validUntil: number;
}

/** Counters of one interface; numbers only grow. */
export interface InterfaceStats {
	rxFrames: number;
	rxBytes: number;
	txFrames: number;
	txBytes: number;
	rxDropped: number;
	txDropped: number;
}

/** Frames a blocked link may leave waiting before the oldest are dropped. */
const MAX_BLOCKED = 256;

/** What {@link Stack.attach} needs to know of an interface. */
export interface InterfaceOptions {
	/** @default "eth0", "eth1", … */
	name?: string;
	/** Six bytes. @default locally administered, random */
	mac?: Uint8Array;
	/** Bytes of IP packet. @default the link's */
	mtu?: number;
	/** Deliver packets for any unicast destination to this stack's sockets, as a gateway that ends connections does. */
	acceptAny?: boolean;
	/** Configure a link-local address, and global ones from router advertisements. @default false */
	slaac?: boolean;
	/** Duplicate address detection probes (RFC 4862 5.1); 0 trusts the configuration. @default 1 with slaac, else 0 */
	dadTransmits?: number;
}

/** A link with addresses. Made by {@link Stack.attach}. */
export class Interface {
	readonly stack: StackCore;
	readonly link: Link | undefined;
	readonly name: string;
	readonly mac: Uint8Array;
	readonly ethernet: boolean;
	mtu: number;
	acceptAny: boolean;
	readonly slaac: boolean;
	readonly dadTransmits: number;
	/** From router advertisements; the default of packets sent (RFC 4861 CurHopLimit). */
	hopLimit = 64;
	readonly addresses: InterfaceAddress[] = [];
	private readonly neighborTable: NeighborTable | undefined;
	/** Multicast groups joined, by text, with a count of their users. */
	readonly groups: Map<string, { group: IpAddress; users: number }> = new Map();
	readonly stats: InterfaceStats = { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, rxDropped: 0, txDropped: 0 };
	/** The link has refused a frame and not called back yet. */
	blocked = false;
	/** Frames a full link could not take. */
	waiting: { frame: Uint8Array; offload: Offload | undefined }[] = [];
	/** Sees every frame in and out; for packet sockets and captures. */
	tap: ((frame: Uint8Array, outgoing: boolean) => void) | undefined;

	constructor(stack: StackCore, link: Link | undefined, name: string, mac: Uint8Array, options: InterfaceOptions) {
		this.stack = stack;
		this.link = link;
		this.name = name;
		this.mac = mac;
		this.ethernet = link?.medium === "ethernet";
		this.mtu = Math.min(options.mtu ?? link?.mtu ?? 65_535, 65_535);
		this.acceptAny = options.acceptAny ?? false;
		this.slaac = options.slaac ?? false;
		this.dadTransmits = options.dadTransmits ?? (this.slaac ? 1 : 0);
		this.neighborTable = stack.ethernet?.neighborsOf(this);
	}

	/** Link-layer addresses of next hops; for stacks with Ethernet only. */
	get neighbors(): NeighborTable {
		return this.neighborTable!;
	}

	/** Whether a packet to these address words is for one of our addresses here. */
	owns(a: number, b: number, c: number, d: number): boolean {
		const { addresses } = this;
		for (let i = 0; i < addresses.length; i++) {
			const entry = addresses[i]!;
			const { address } = entry;
			if (address.d === d && address.c === c && address.b === b && address.a === a) return entry.state !== "tentative";
		}
		return false;
	}

	find(address: IpAddress): InterfaceAddress | undefined {
		return this.addresses.find((entry) => entry.address.equals(address));
	}

	/** The first usable address of a family, preferring global scope. */
	addressOf(family: IpFamily): IpAddress | undefined {
		const usable = this.addresses.filter((entry) => entry.cidr.family === family && entry.state !== "tentative");
		return (usable.find((entry) => !entry.address.isLinkLocal) ?? usable[0])?.address;
	}

	/**
	 * RFC 6724's source selection among this interface's addresses: same scope first, then not deprecated, then the
	 * longest common prefix. `::` while there is none.
	 */
	selectSource(destination: IpAddress): IpAddress | undefined {
		let best: InterfaceAddress | undefined;
		let bestScore = -1;
		for (const entry of this.addresses) {
			if (entry.cidr.family !== destination.family || entry.state === "tentative") continue;
			const local =
				destination.isLinkLocal ||
				(destination.isMulticast && destination.family === 6 && ((destination.a >>> 16) & 15) === 2);
			let score = commonPrefix(entry.address, destination);
			if (entry.state === "preferred") score += 200;
			if (entry.address.isLinkLocal === local) score += 400;
			if (score > bestScore) {
				best = entry;
				bestScore = score;
			}
		}
		return best?.address ?? (destination.family === 6 && destination.isMulticast ? ANY6 : undefined);
	}

	/** The IPv4 network's directed broadcast addresses are ours to hear. */
	isDirectedBroadcast(d: number): boolean {
		for (const { cidr } of this.addresses) {
			if (cidr.family === 4 && cidr.prefix < 31 && cidr.broadcast.d === d) return true;
		}
		return false;
	}

	/** Sends a finished frame; one the link has no room for waits, a bounded number of them. */
	sendFrame(frame: Uint8Array, offload: Offload | undefined): void {
		if (this.link === undefined) {
			this.stack.loop(frame);
			return;
		}
		if (this.stack.receiving) {
			this.stack.sendLater(this, frame.slice(), offload);
			return;
		}
		this.tap?.(frame, true);
		if (!this.blocked && this.link.send(frame, offload)) {
			this.stats.txFrames++;
			this.stats.txBytes += frame.length;
			return;
		}
		this.blocked = true;
		if (this.waiting.length >= MAX_BLOCKED) {
			this.stats.txDropped++;
			return;
		}
		this.waiting.push({ frame: frame.slice(), offload });
	}

	/** The link has room again: what waited goes out first. */
	unblock(): void {
		this.blocked = false;
		const queue = this.waiting;
		this.waiting = [];
		for (let i = 0; i < queue.length; i++) {
			const { frame, offload } = queue[i]!;
			if (!this.link!.send(frame, offload)) {
				this.blocked = true;
				this.waiting = queue.slice(i);
				return;
			}
			this.stats.txFrames++;
			this.stats.txBytes += frame.length;
		}
	}
}

function commonPrefix(x: IpAddress, y: IpAddress): number {
	const parts = [x.a ^ y.a, x.b ^ y.b, x.c ^ y.c, x.d ^ y.d];
	let bits = 0;
	for (const part of parts) {
		const zeros = Math.clz32(part);
		bits += zeros;
		if (zeros < 32) break;
	}
	return bits;
}
