import type { Interface } from "../link/interface.ts";
import { IpAddress } from "../wire/address.ts";
import type { StackCore } from "./core.ts";
import { IPV4 } from "./family.ts";
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

	/** {@link path} by address words, for replies: no allocation when the path is cached. */
	pathFor(
		sa: number,
		sb: number,
		sc: number,
		sd: number,
		da: number,
		db: number,
		dc: number,
		dd: number,
	): Path | undefined {
		const cached = this.paths.get(pathKey(sd ^ sb, dd ^ db));
		if (cached !== undefined) {
			const { source, destination } = cached;
			if (
				destination.d === dd &&
				source.d === sd &&
				destination.c === dc &&
				source.c === sc &&
				destination.b === db &&
				source.b === sb &&
				destination.a === da &&
				source.a === sa
			) {
				return cached;
			}
		}
		return this.path(new IpAddress(da, db, dc, dd), new IpAddress(sa, sb, sc, sd));
	}

	/**
	 * The way to a destination, or undefined without one (ENETUNREACH).
	 *
	 * @param source - the address to send from; chosen by RFC 6724 when absent
	 * @param iface - the interface to leave by; chosen by the routes when absent
	 */
	path(destination: IpAddress, source?: IpAddress, iface?: Interface): Path | undefined {
		const group = destination.isMulticast || destination.isBroadcast;
		let via = iface;
		let hop = destination;
		if (!group && this.stack.isLocal(destination)) via = this.stack.loopback;
		else if (!group || via === undefined) {
			let route = this.stack.routes.lookup(destination, iface);
			if (route === undefined && iface === undefined && (group || destination.isLinkLocal)) {
				const owner = this.stack.interfaces.find(
					(other) =>
						other !== this.stack.loopback &&
						(source === undefined
							? other.addressOf(destination.family) !== undefined
							: other.find(source) !== undefined),
				);
				via = owner ?? this.stack.interfaces.find((other) => other !== this.stack.loopback);
			} else if (route === undefined) {
				return undefined;
			} else {
				// A link-local destination is on every link: the source's interface decides.
				if (destination.isLinkLocal && source !== undefined && iface === undefined) {
					const owner = this.stack.interfaces.find((other) => other.find(source) !== undefined);
					if (owner !== undefined) route = this.stack.routes.lookup(destination, owner) ?? route;
				}
				via = route.iface;
				hop = route.gateway ?? destination;
			}
		}
		if (via === undefined) return undefined;
		const broadcast = destination.isBroadcast || (destination.family === 4 && via.isDirectedBroadcast(destination.d));
		const from =
			source ??
			(via === this.stack.loopback && this.stack.isLocal(destination)
				? destination
				: via.selectSource(hop === destination ? destination : hop.isLinkLocal ? destination : hop)) ??
			this.anySource(destination);
		if (from === undefined) return undefined;
		const ops = this.stack.ops(destination.family);
		if (ops === undefined) return undefined;
		let { mtu } = via;
		const known = this.pmtus.get(destination.toString());
		if (known !== undefined && known.until > this.stack.now) mtu = Math.min(mtu, known.mtu);
		const path: Path = {
			source: from,
			destination,
			ops,
			iface: via,
			neighbor: via.ethernet && !group && !broadcast ? via.neighbors.obtain(hop) : undefined,
			groupMac:
				via.ethernet && (group || broadcast) ? this.stack.ethernet?.groupMac(destination, broadcast) : undefined,
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
			generation: this.stack.generation,
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
