import type { Interface, InterfaceAddress } from "../link/interface.ts";
import type { Neighbor } from "../link/neighbor.ts";
import { ANY6, Cidr, IpAddress, readAddress } from "../wire/address.ts";
import { get16, get32, put32 } from "../wire/bytes.ts";
import { PROTO_ICMPV6 } from "../wire/constants.ts";
import type { StackCore } from "./core.ts";
import { joinGroup, leaveGroup } from "./membership.ts";
import type { Packet } from "./packet.ts";
import { removeAddress } from "./removal.ts";
import { CallbackTimer } from "./timers.ts";
import { TX_L4 } from "./tx.ts";

export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOR_SOLICITATION = 135;
const NEIGHBOR_ADVERTISEMENT = 136;
const REDIRECT = 137;

const OPTION_SOURCE_MAC = 1;
const OPTION_TARGET_MAC = 2;
const OPTION_PREFIX = 3;
const OPTION_MTU = 5;
const OPTION_RDNSS = 25;

const RETRANS_MS = 1_000;
const RS_INTERVAL_MS = 4_000;
const MAX_RS = 3;
/** RFC 4862 5.5.3 e: an unauthenticated advertisement may not shorten a life below two hours. */
const TWO_HOURS_MS = 7_200_000;
const MAX_RA_ADDRESSES = 16;
/** All-nodes and all-routers on the link. */
export const ALL_NODES: IpAddress = /* @__PURE__ */ new IpAddress(0xff020000, 0, 0, 1);
export const ALL_ROUTERS: IpAddress = /* @__PURE__ */ new IpAddress(0xff020000, 0, 0, 2);

/** The solicited-node group of an address (RFC 4291 section 2.7.1). */
export function solicitedNode(address: IpAddress): IpAddress {
	return new IpAddress(0xff020000, 0, 1, 0xff000000 | (address.d & 0xffffff));
}

/** The interface identifier of a MAC as RFC 4291's appendix A makes it, as the low half of an address. */
export function eui64(mac: Uint8Array): [number, number] {
	return [
		((mac[0]! ^ 2) << 24) | (mac[1]! << 16) | (mac[2]! << 8) | 0xff,
		(0xfe << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!,
	];
}

/** Where an interface is in its search for routers. */
export interface Autoconf {
	readonly timer: CallbackTimer;
	solicited: number;
}

/** IPv6 neighbour discovery (RFC 4861), address autoconfiguration (RFC 4862). */
export class NdLayer {
	private readonly stack: StackCore;
	readonly autoconf: Map<Interface, Autoconf> = new Map();
	private readonly ageing: CallbackTimer;
	/** Router lifetimes by interface and router. */
	readonly routers: Map<string, { iface: Interface; address: IpAddress; until: number }> = new Map();
	/** DNS servers from advertisements (RFC 8106), by interface name. */
	readonly dnsServers: Map<string, IpAddress[]> = new Map();

	constructor(stack: StackCore) {
		this.stack = stack;
		this.ageing = new CallbackTimer((now) => this.age(now));
		const types = stack.icmp.v6Types;
		types.set(NEIGHBOR_SOLICITATION, (packet) => this.guard(packet, 24, () => this.solicitationIn(packet)));
		types.set(NEIGHBOR_ADVERTISEMENT, (packet) => this.guard(packet, 24, () => this.advertisementIn(packet)));
		types.set(ROUTER_ADVERTISEMENT, (packet) => this.guard(packet, 16, () => this.routerIn(packet)));
		types.set(REDIRECT, (packet) => this.guard(packet, 40, () => this.redirectIn(packet)));
	}

	/** RFC 4861 7.1: hop limit 255, code 0, long enough, options well-formed. */
	private guard(packet: Packet, least: number, then: () => void): void {
		const { bytes, l4, end } = packet;
		if (packet.hopLimit !== 255 || bytes[l4 + 1] !== 0 || end - l4 < least || !optionsFine(packet, least)) {
			this.stack.drop(packet, "nd-malformed");
			return;
		}
		then();
	}

	/** Starts link-local configuration and router solicitation. */
	start(iface: Interface): void {
		const [c, d] = eui64(iface.mac);
		this.stack.addAddress(iface, new Cidr(new IpAddress(0xfe800000, 0, c, d), 64), "link-local");
		this.solicitFrom(iface, 0, this.stack.now + (iface.dadTransmits > 0 ? RETRANS_MS + 1 : 0));
	}

	/** Asks for routers from `at` on, `solicited` questions having been asked. */
	solicitFrom(iface: Interface, solicited: number, at: number): void {
		const state: Autoconf = { timer: new CallbackTimer((now) => this.solicitRouters(iface, state, now)), solicited };
		this.autoconf.set(iface, state);
		this.stack.timers.schedule(state.timer, at);
	}

	stop(iface: Interface): void {
		const state = this.autoconf.get(iface);
		if (state !== undefined) this.stack.timers.cancel(state.timer);
		this.autoconf.delete(iface);
		for (const [key, router] of this.routers) if (router.iface === iface) this.routers.delete(key);
	}

	private solicitRouters(iface: Interface, state: Autoconf, now: number): void {
		if (state.solicited >= MAX_RS) return;
		state.solicited++;
		this.stack.timers.schedule(state.timer, now + RS_INTERVAL_MS);
		const path = this.stack.path(ALL_ROUTERS, undefined, iface);
		if (path === undefined) return;
		const { tx } = this.stack;
		put32(tx, TX_L4, ROUTER_SOLICITATION << 24);
		put32(tx, TX_L4 + 4, 0);
		let length = 8;
		if (!path.source.isUnspecified) length += putMac(tx, TX_L4 + 8, OPTION_SOURCE_MAC, iface.mac);
		this.stack.transmitter.transmit(path, PROTO_ICMPV6, length, 255, 0, false, 2, 0);
	}

	addressAdded(iface: Interface, address: IpAddress): void {
		joinGroup(this.stack, iface, solicitedNode(address));
		const entry = iface.find(address);
		if (entry === undefined || entry.state !== "tentative") this.advertise(iface, address, ALL_NODES, false);
		else this.probe(iface, entry);
	}

	/** Duplicate address detection (RFC 4862 5.4). */
	probe(iface: Interface, entry: InterfaceAddress): void {
		const { address } = entry;
		let probes = 0;
		const timer = new CallbackTimer((now) => {
			if (iface.find(address) !== entry || entry.state !== "tentative") return;
			if (probes < iface.dadTransmits) {
				probes++;
				this.stack.timers.schedule(timer, now + RETRANS_MS);
				this.sendSolicitation(iface, address, ANY6, solicitedNode(address));
				return;
			}
			entry.state = "preferred";
			this.stack.routesChanged();
			this.stack.trace("address", `${address} preferred`, iface);
			this.advertise(iface, address, ALL_NODES, false);
		});
		this.stack.timers.schedule(timer, this.stack.now);
	}

	addressRemoved(iface: Interface, address: IpAddress): void {
		leaveGroup(this.stack, iface, solicitedNode(address));
	}

	solicit(iface: Interface, neighbor: Neighbor, unicast: boolean): void {
		const source = iface.selectSource(neighbor.address);
		if (source === undefined) return;
		this.sendSolicitation(
			iface,
			neighbor.address,
			source,
			unicast ? neighbor.address : solicitedNode(neighbor.address),
		);
	}

	private sendSolicitation(iface: Interface, target: IpAddress, source: IpAddress, to: IpAddress): void {
		const path = this.stack.path(to, source, iface);
		if (path === undefined) return;
		const { tx } = this.stack;
		put32(tx, TX_L4, NEIGHBOR_SOLICITATION << 24);
		put32(tx, TX_L4 + 4, 0);
		target.write(tx, TX_L4 + 8);
		const option = source.isUnspecified ? 0 : putMac(tx, TX_L4 + 24, OPTION_SOURCE_MAC, iface.mac);
		this.stack.transmitter.transmit(path, PROTO_ICMPV6, 24 + option, 255, 0, false, 2, 0);
	}

	private advertise(iface: Interface, target: IpAddress, to: IpAddress, solicited: boolean): void {
		const path = this.stack.path(to, target, iface);
		if (path === undefined) return;
		const { tx } = this.stack;
		put32(tx, TX_L4, NEIGHBOR_ADVERTISEMENT << 24);
		// Router, Solicited, Override.
		put32(
			tx,
			TX_L4 + 4,
			(this.stack.forwarding || iface.acceptAny ? 0x80000000 : 0) | (solicited ? 0x40000000 : 0) | 0x20000000,
		);
		target.write(tx, TX_L4 + 8);
		this.stack.transmitter.transmit(
			path,
			PROTO_ICMPV6,
			24 + putMac(tx, TX_L4 + 24, OPTION_TARGET_MAC, iface.mac),
			255,
			0,
			false,
			2,
			0,
		);
	}

	private solicitationIn(packet: Packet): void {
		const { bytes, l4, iface } = packet;
		const target = readAddress(bytes, l4 + 8, 6);
		if (target.isMulticast) return;
		const source = packet.source();
		const entry = iface.find(target);
		if (entry === undefined) return;
		if (entry.state === "tentative") {
			// Somebody else probes for the same address (RFC 4862 5.4.3); our own looped probe cannot get here.
			if (source.isUnspecified) this.duplicate(iface, target);
			return;
		}
		const mac = findOption(packet, 24, OPTION_SOURCE_MAC);
		if (!source.isUnspecified && mac >= 0) iface.neighbors.learn(source, bytes, mac + 2, packet.now, false, true);
		this.advertise(iface, target, source.isUnspecified ? ALL_NODES : source, !source.isUnspecified);
	}

	private advertisementIn(packet: Packet): void {
		const { bytes, l4, iface, now } = packet;
		const target = readAddress(bytes, l4 + 8, 6);
		const flags = bytes[l4 + 4]!;
		const own = iface.find(target);
		if (own !== undefined) {
			if (own.state === "tentative") this.duplicate(iface, target);
			else this.stack.ethernet?.conflict(iface, target, iface.mac);
			return;
		}
		const entry = iface.neighbors.find(target);
		if (entry === undefined) return;
		const solicited = (flags & 0x40) !== 0 && !packet.groupcast;
		const override = (flags & 0x20) !== 0;
		const mac = findOption(packet, 24, OPTION_TARGET_MAC);
		if (mac >= 0) {
			let same = true;
			for (let i = 0; i < 6; i++) same &&= bytes[mac + 2 + i] === entry.mac[i];
			if (entry.state !== "incomplete" && !override && !same) {
				if (entry.state === "reachable") entry.state = "stale";
				return;
			}
			iface.neighbors.learn(target, bytes, mac + 2, now, solicited, false);
		} else if (solicited) entry.confirm(now);
		entry.isRouter = (flags & 0x80) !== 0;
	}

	private duplicate(iface: Interface, address: IpAddress): void {
		this.stack.trace("conflict", `duplicate ${address}`, iface);
		removeAddress(this.stack, iface, address);
	}

	private routerIn(packet: Packet): void {
		const { bytes, l4, iface, now } = packet;
		const router = packet.source();
		if (!router.isLinkLocal || !iface.slaac) return;
		const state = this.autoconf.get(iface);
		if (state !== undefined) {
			state.solicited = MAX_RS;
			this.stack.timers.cancel(state.timer);
		}
		const hopLimit = bytes[l4 + 4]!;
		if (hopLimit !== 0) iface.hopLimit = hopLimit;
		const lifetime = get16(bytes, l4 + 6) * 1000;
		const key = `${iface.name},${router}`;
		if (lifetime === 0) {
			this.routers.delete(key);
			this.stack.routes.remove(
				(route) => route.origin === "ra" && route.iface === iface && route.gateway?.equals(router) === true,
			);
			this.stack.routesChanged();
		} else if (this.routers.size < MAX_RA_ADDRESSES || this.routers.has(key)) {
			const known = this.routers.has(key);
			this.routers.set(key, { iface, address: router, until: now + lifetime });
			if (!known) this.stack.addRoute("::/0", router, iface, 1024, "ra");
		}
		const mac = findOption(packet, 16, OPTION_SOURCE_MAC);
		if (mac >= 0) iface.neighbors.learn(router, bytes, mac + 2, now, false, true);
		for (let at = l4 + 16; at < packet.end; at += bytes[at + 1]! << 3) {
			const units = bytes[at + 1]!;
			if (bytes[at] === OPTION_PREFIX && units === 4) this.prefixIn(iface, bytes, at, now);
			else if (bytes[at] === OPTION_MTU && units === 1) {
				const mtu = get32(bytes, at + 4) >>> 0;
				if (mtu >= 1280 && mtu <= (iface.link?.mtu ?? 65_535) && mtu !== iface.mtu) {
					iface.mtu = mtu;
					this.stack.routesChanged();
				}
			} else if (bytes[at] === OPTION_RDNSS && units >= 3) {
				const servers: IpAddress[] = [];
				for (let i = 0; i < (units - 1) >> 1 && i < 8; i++) servers.push(readAddress(bytes, at + 8 + i * 16, 6));
				this.dnsServers.set(iface.name, get32(bytes, at + 4) === 0 ? [] : servers);
			}
		}
		this.armAgeing(now);
	}

	private prefixIn(iface: Interface, bytes: Uint8Array, at: number, now: number): void {
		const length = bytes[at + 2]!;
		const flags = bytes[at + 3]!;
		const valid = (get32(bytes, at + 4) >>> 0) * 1000;
		const preferred = (get32(bytes, at + 8) >>> 0) * 1000;
		const prefix = readAddress(bytes, at + 16, 6);
		if (prefix.isLinkLocal || prefix.isMulticast || preferred > valid || length > 128) return;
		if ((flags & 0x80) !== 0) {
			const onLink = new Cidr(new Cidr(prefix, length).network, length);
			if (valid === 0)
				this.stack.routes.remove(
					(route) =>
						route.origin === "ra" && route.iface === iface && route.destination.toString() === onLink.toString(),
				);
			else this.stack.addRoute(onLink, undefined, iface, 256, "ra");
		}
		if ((flags & 0x40) === 0 || length !== 64) return;
		const [c, d] = eui64(iface.mac);
		const address = new IpAddress(prefix.a, prefix.b, c, d);
		const known = iface.find(address);
		if (known === undefined) {
			if (valid === 0 || iface.addresses.filter((entry) => entry.origin === "ra").length >= MAX_RA_ADDRESSES) return;
			this.stack.addAddress(iface, new Cidr(address, 64), "ra");
		}
		const entry = iface.find(address)!;
		if (entry.origin !== "ra") return;
		const remaining = entry.validUntil - now;
		if (known === undefined || valid > TWO_HOURS_MS || valid > remaining) entry.validUntil = until(now, valid);
		else if (remaining > TWO_HOURS_MS) entry.validUntil = now + TWO_HOURS_MS;
		entry.preferredUntil = until(now, preferred);
		if (entry.state === "deprecated" && preferred > 0) entry.state = "preferred";
	}

	private redirectIn(packet: Packet): void {
		const { bytes, l4, iface, now } = packet;
		const router = packet.source();
		if (!router.isLinkLocal || !iface.slaac) return;
		const target = readAddress(bytes, l4 + 8, 6);
		const destination = readAddress(bytes, l4 + 24, 6);
		if (destination.isMulticast || (!target.isLinkLocal && !target.equals(destination))) return;
		const current = this.stack.routes.lookup(destination, iface);
		if (current?.gateway === undefined || !current.gateway.equals(router)) return;
		const mac = findOption(packet, 40, OPTION_TARGET_MAC);
		if (mac >= 0) iface.neighbors.learn(target, bytes, mac + 2, now, false, true);
		this.stack.routes.remove((route) => route.origin === "redirect" && route.destination.address.equals(destination));
		if (this.stack.routes.list().filter((route) => route.origin === "redirect").length >= 256) return;
		this.stack.addRoute(
			new Cidr(destination, 128),
			target.equals(destination) ? undefined : target,
			iface,
			0,
			"redirect",
		);
	}

	/** Sees to the next end of a lifetime. */
	armAgeing(now: number): void {
		let next = Number.POSITIVE_INFINITY;
		for (const router of this.routers.values()) next = Math.min(next, router.until);
		for (const iface of this.stack.interfaces) {
			for (const entry of iface.addresses) {
				next = Math.min(
					next,
					entry.validUntil,
					entry.state === "preferred" ? entry.preferredUntil : Number.POSITIVE_INFINITY,
				);
			}
		}
		if (next === Number.POSITIVE_INFINITY) this.stack.timers.cancel(this.ageing);
		else this.stack.timers.schedule(this.ageing, Math.max(next, now + 1));
	}

	private age(now: number): void {
		for (const [key, router] of this.routers) {
			if (router.until > now) continue;
			this.routers.delete(key);
			this.stack.routes.remove(
				(route) =>
					route.origin === "ra" && route.iface === router.iface && route.gateway?.equals(router.address) === true,
			);
			this.stack.routesChanged();
		}
		for (const iface of this.stack.interfaces) {
			for (const entry of [...iface.addresses]) {
				if (entry.validUntil <= now) removeAddress(this.stack, iface, entry.address);
				else if (entry.preferredUntil <= now && entry.state === "preferred") {
					entry.state = "deprecated";
					this.stack.routesChanged();
				}
			}
		}
		this.armAgeing(now);
	}
}

function until(now: number, lifetime: number): number {
	return lifetime >= 0xffffffff * 1000 ? Number.POSITIVE_INFINITY : now + lifetime;
}

function putMac(bytes: Uint8Array, at: number, option: number, mac: Uint8Array): number {
	bytes[at] = option;
	bytes[at + 1] = 1;
	bytes.set(mac, at + 2);
	return 8;
}

function optionsFine(packet: Packet, from: number): boolean {
	const { bytes, l4, end } = packet;
	let at = l4 + from;
	while (at < end) {
		if (at + 8 > end) return false;
		const length = bytes[at + 1]! << 3;
		if (length === 0 || at + length > end) return false;
		at += length;
	}
	return true;
}

/** Offset of the first option of a kind, -1 without one. The options have been checked. */
function findOption(packet: Packet, from: number, kind: number): number {
	const { bytes, l4, end } = packet;
	for (let at = l4 + from; at < end; at += bytes[at + 1]! << 3) if (bytes[at] === kind) return at;
	return -1;
}
