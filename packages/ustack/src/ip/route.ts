import type { Interface } from "../link/interface.ts";
import type { Cidr, IpAddress } from "../wire/address.ts";

/** One way out. */
export interface Route {
	readonly destination: Cidr;
	/** Next hop; undefined when the destination is on the link. */
	readonly gateway: IpAddress | undefined;
	readonly iface: Interface;
	/** Among equal prefixes the lowest wins. */
	readonly metric: number;
	/** Where it came from, so that DHCP or RA can take back their own. */
	readonly origin: string;
}

/** Longest prefix first, then metric, then age. */
export class RouteTable {
	private routes: Route[] = [];

	add(route: Route): void {
		this.remove((other) => sameRoute(other, route));
		const at = this.routes.findIndex(
			(other) =>
				bitsOf(other.destination) < bitsOf(route.destination) ||
				(bitsOf(other.destination) === bitsOf(route.destination) && other.metric > route.metric),
		);
		if (at < 0) this.routes.push(route);
		else this.routes.splice(at, 0, route);
	}

	/** Removes every route the predicate holds for; returns how many. */
	remove(which: (route: Route) => boolean): number {
		const before = this.routes.length;
		this.routes = this.routes.filter((route) => !which(route));
		return before - this.routes.length;
	}

	lookup(destination: IpAddress, iface?: Interface): Route | undefined {
		for (const route of this.routes) {
			if (iface !== undefined && route.iface !== iface) continue;
			if (route.destination.contains(destination)) return route;
		}
		return undefined;
	}

	list(): readonly Route[] {
		return this.routes;
	}
}

function bitsOf(cidr: Cidr): number {
	return cidr.family === 4 ? cidr.prefix + 96 : cidr.prefix;
}

function sameRoute(x: Route, y: Route): boolean {
	return (
		x.iface === y.iface &&
		x.metric === y.metric &&
		x.destination.toString() === y.destination.toString() &&
		x.gateway?.toString() === y.gateway?.toString()
	);
}
