import type { Interface } from "../link/interface.ts";
import type { IpAddress } from "../wire/address.ts";
import type { StackCore } from "./core.ts";
import { IPV4 } from "./family.ts";
import type { Packet } from "./packet.ts";
import type { Path } from "./path.ts";

const MAX_PATHS = 4096;
const MAX_PMTUS = 1024;
/** RFC 8201 section 4: try again for a larger MTU after ten minutes. */
const PMTU_LIFETIME_MS = 600_000;

/** Ways to destinations, kept while routes and addresses stay: by source selection, next hop and the MTUs routers told. */
export class PathTable {
	private readonly stack: StackCore;
	private readonly paths = new Map<number, Path>();
	/** MTUs routers told, by destination. */
	readonly pmtus = new Map<string, { mtu: number; until: number }>();

	constructor(stack: StackCore) {
		this.stack = stack;
	}

	/** Every path is looked up anew. */
	forget(): void {
		this.paths.clear();
	}

	/** The way back to a packet's source, from the address it was sent to: no allocation when the path is cached. */
	replyTo(packet: Packet): Path | undefined {
		const { sa, sb, sc, sd, da, db, dc, dd } = packet;
		const cached = this.paths.get(pathKey(dd ^ db, sd ^ sb));
		if (cached !== undefined) {
			const { source, destination } = cached;
			if (
				destination.d === sd &&
				source.d === dd &&
				destination.c === sc &&
				source.c === dc &&
				destination.b === sb &&
				source.b === db &&
				destination.a === sa &&
				source.a === da
			) {
				return cached;
			}
		}
		return this.path(packet.source(), packet.destination());
	}

	/**
	 * The way to a destination, or undefined without one (ENETUNREACH).
	 *
	 * @param source - the address to send from; chosen by RFC 6724 when absent
	 * @param iface - the interface to leave by; chosen by the routes when absent
	 */
	path(destination: IpAddress, source?: IpAddress, iface?: Interface): Path | undefined {
		const { stack } = this;
		const { loopback } = stack;
		const group = destination.isMulticast || destination.isBroadcast;
		let via = iface;
		let hop = destination;
		if (!group && stack.isLocal(destination)) via = loopback;
		else if (!group || via === undefined) {
			let route = stack.routes.lookup(destination, iface);
			if (route === undefined && iface === undefined && (group || destination.isLinkLocal)) {
				const owner = stack.interfaces.find(
					(other) =>
						other !== loopback &&
						(source === undefined
							? other.addressOf(destination.family) !== undefined
							: other.find(source) !== undefined),
				);
				via = owner ?? stack.interfaces.find((other) => other !== loopback);
			} else if (route === undefined) {
				return undefined;
			} else {
				// A link-local destination is on every link: the source's interface decides.
				if (destination.isLinkLocal && source !== undefined && iface === undefined) {
					const owner = stack.interfaces.find((other) => other.find(source) !== undefined);
					if (owner !== undefined) route = stack.routes.lookup(destination, owner) ?? route;
				}
				via = route.iface;
				hop = route.gateway ?? destination;
			}
		}
		if (via === undefined) return undefined;
		const broadcast = destination.isBroadcast || (destination.family === 4 && via.isDirectedBroadcast(destination.d));
		const from =
			source ??
			(via === loopback && stack.isLocal(destination)
				? destination
				: via.selectSource(hop === destination ? destination : hop.isLinkLocal ? destination : hop)) ??
			this.anySource(destination);
		if (from === undefined) return undefined;
		const ops = stack.ops(destination.family);
		if (ops === undefined) return undefined;
		let { mtu } = via;
		const known = this.pmtus.get(destination.toString());
		if (known !== undefined && known.until > stack.now) mtu = Math.min(mtu, known.mtu);
		const path: Path = {
			source: from,
			destination,
			ops,
			iface: via,
			neighbor: via.ethernet && !group && !broadcast ? via.neighbors.obtain(hop) : undefined,
			groupMac: via.ethernet && (group || broadcast) ? stack.ethernet?.groupMac(destination, broadcast) : undefined,
			mtu,
			addressSum: ops.addressSum(
				from.a,
				from.b,
				from.c,
				from.d,
				destination.a,
				destination.b,
				destination.c,
				destination.d,
			),
			generation: stack.generation,
		};
		if (source !== undefined && iface === undefined) {
			if (this.paths.size >= MAX_PATHS) this.paths.clear();
			this.paths.set(pathKey(source.d ^ source.b, destination.d ^ destination.b), path);
		}
		return path;
	}

	private anySource(destination: IpAddress): IpAddress | undefined {
		for (const iface of this.stack.interfaces) {
			const address = iface === this.stack.loopback ? undefined : iface.selectSource(destination);
			if (address !== undefined && !address.isUnspecified) return address;
		}
		return undefined;
	}

	/** A Packet Too Big: remembers the smaller MTU for ten minutes (RFC 1191, RFC 8201). Returns the MTU now in use. */
	learnMtu(destination: IpAddress, mtu: number): number {
		const ops = this.stack.ops(destination.family) ?? IPV4;
		// RFC 1191 section 7's plateau for routers that do not tell; never below what every link carries.
		const floor = ops.family === 4 ? 552 : ops.minimumMtu;
		const bounded = Math.max(mtu, floor);
		const key = destination.toString();
		const known = this.pmtus.get(key);
		if (known !== undefined && known.until > this.stack.now && known.mtu <= bounded) return known.mtu;
		if (this.pmtus.size >= MAX_PMTUS) this.pmtus.delete(this.pmtus.keys().next().value!);
		this.pmtus.set(key, { mtu: bounded, until: this.stack.now + PMTU_LIFETIME_MS });
		this.stack.routesChanged();
		return bounded;
	}
}

function pathKey(source: number, destination: number): number {
	return Math.imul(source, 0x9e3779b1) ^ Math.imul(destination, 0x85ebca6b);
}
