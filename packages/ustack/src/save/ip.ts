import type { Link, Offload } from "@x/netchannel";
import { Stack } from "../ip/stack.ts";
import { Interface } from "../link/interface.ts";
import type { Neighbor } from "../link/neighbor.ts";
import { toAddress, toCidr } from "../wire/address.ts";
import { assignFields, bytesToText, fieldsOf, type PlainFields, textToBytes } from "./plain.ts";

interface SavedFrame {
	frame: string;
	offload?: PlainFields;
}

interface SavedNeighbor {
	address: string;
	fields: PlainFields;
	queue: string[];
	/** When its timer is due, if it runs. */
	due?: number;
}

interface SavedInterface {
	name: string;
	mac: string;
	/** Its options, counters and hop limit. */
	fields: PlainFields;
	addresses: { cidr: string; fields: PlainFields }[];
	groups: { group: string; users: number }[];
	neighbors: SavedNeighbor[];
	waiting: SavedFrame[];
	/** Where it is in its search for routers. */
	routerSearch?: { solicited: number; due?: number };
	dnsServers: string[];
}

/** Everything below the transports. */
export interface SavedIp {
	now: number;
	forwarding: boolean;
	hopLimit: number;
	identification: number;
	interfaces: SavedInterface[];
	routes: { destination: string; gateway?: string; iface: string; metric: number; origin: string }[];
	pathMtus: { destination: string; mtu: number; until?: number }[];
	routers: { iface: string; address: string; until?: number }[];
	/** Frames and packets to ourselves that wait for the next poll. */
	later: (SavedFrame & { iface: string })[];
	looped: string[];
}

const INTERFACE_PARTS = new Set([
	"stack",
	"link",
	"name",
	"mac",
	"ethernet",
	"addresses",
	"neighborTable",
	"groups",
	"blocked",
	"waiting",
	"tap",
]);
const NEIGHBOR_PARTS = new Set(["table", "address", "queue", "queuedBytes", "timerIndex", "timerAt"]);
const ADDRESS_PARTS = new Set(["cidr", "address"]);

function saveFrame({ frame, offload }: { frame: Uint8Array; offload: Offload | undefined }): SavedFrame {
	return { frame: bytesToText(frame), ...(offload && { offload: fieldsOf(offload) }) };
}

function frameOf({ frame, offload }: SavedFrame): { frame: Uint8Array; offload: Offload | undefined } {
	return { frame: textToBytes(frame), offload: offload && (assignFields({}, offload) as Offload) };
}

/** Infinity is what is left out. */
function finite(until: number): { until?: number } {
	return Number.isFinite(until) ? { until } : {};
}

function saveNeighbor(neighbor: Neighbor): SavedNeighbor {
	return {
		address: neighbor.address.toString(),
		fields: fieldsOf(neighbor, NEIGHBOR_PARTS),
		queue: neighbor.queue.map(bytesToText),
		...(neighbor.timerIndex >= 0 && { due: neighbor.timerAt }),
	};
}

function saveInterface(stack: Stack, iface: Interface): SavedInterface {
	const search = stack.nd.autoconf.get(iface);
	return {
		name: iface.name,
		mac: bytesToText(iface.mac),
		fields: fieldsOf(iface, INTERFACE_PARTS),
		addresses: iface.addresses.map((entry) => ({
			cidr: entry.cidr.toString(),
			fields: fieldsOf(entry, ADDRESS_PARTS),
		})),
		groups: [...iface.groups.values()].map(({ group, users }) => ({ group: group.toString(), users })),
		neighbors: iface.ethernet ? iface.neighbors.list().map(saveNeighbor) : [],
		waiting: iface.waiting.map(saveFrame),
		...(search && {
			routerSearch: {
				solicited: search.solicited,
				...(search.timer.timerIndex >= 0 && { due: search.timer.timerAt }),
			},
		}),
		dnsServers: (stack.nd.dnsServers.get(iface.name) ?? []).map(String),
	};
}

export function saveIp(stack: Stack): SavedIp {
	return {
		now: stack.now,
		forwarding: stack.forwarding,
		hopLimit: stack.hopLimit,
		identification: stack.identification,
		interfaces: stack.interfaces.map((iface) => saveInterface(stack, iface)),
		routes: stack.routes.list().map(({ destination, gateway, iface, metric, origin }) => ({
			destination: destination.toString(),
			...(gateway && { gateway: gateway.toString() }),
			iface: iface.name,
			metric,
			origin,
		})),
		pathMtus: [...stack.paths.pmtus].map(([destination, { mtu, until }]) => ({ destination, mtu, ...finite(until) })),
		routers: [...stack.nd.routers.values()].map(({ iface, address, until }) => ({
			iface: iface.name,
			address: address.toString(),
			...finite(until),
		})),
		later: stack.later.map((entry) => ({ iface: entry.iface.name, ...saveFrame(entry) })),
		looped: stack.looped.map(bytesToText),
	};
}

function restoreInterface(stack: Stack, saved: SavedInterface, link: (name: string) => Link): void {
	let iface = stack.loopback;
	if (saved.name !== iface.name) {
		const options = assignFields({}, saved.fields);
		iface = new Interface(stack, link(saved.name), saved.name, textToBytes(saved.mac), options);
		stack.interfaces.push(iface);
	}
	assignFields(iface, saved.fields);
	for (const { cidr, fields } of saved.addresses) {
		const parsed = toCidr(cidr);
		if (iface.find(parsed.address) !== undefined) continue;
		const entry = assignFields({ cidr: parsed, address: parsed.address }, fields) as (typeof iface.addresses)[number];
		iface.addresses.push(entry);
		// Detection of duplicates starts anew.
		if (entry.state === "tentative") stack.nd.probe(iface, entry);
	}
	for (const { group, users } of saved.groups) iface.groups.set(group, { group: toAddress(group), users });
	for (const { address, fields, queue, due } of saved.neighbors) {
		const entry = iface.neighbors.obtain(toAddress(address));
		for (const frame of queue) iface.neighbors.enqueue(entry, textToBytes(frame));
		assignFields(entry, fields);
		if (due !== undefined) stack.timers.schedule(entry, due);
	}
	for (const frame of saved.waiting) stack.later.push({ iface, ...frameOf(frame) });
	if (saved.routerSearch?.due !== undefined)
		stack.nd.solicitFrom(iface, saved.routerSearch.solicited, saved.routerSearch.due);
	if (saved.dnsServers.length > 0) stack.nd.dnsServers.set(iface.name, saved.dnsServers.map(toAddress));
}

export function restoreIp(saved: SavedIp, random: (bytes: Uint8Array) => void, link: (name: string) => Link): Stack {
	const stack = new Stack({ random, forwarding: saved.forwarding, hopLimit: saved.hopLimit });
	stack.now = saved.now;
	stack.identification = saved.identification;
	for (const iface of saved.interfaces) restoreInterface(stack, iface, link);
	const named = (name: string) => stack.interfaceNamed(name) ?? stack.loopback;
	for (const { destination, gateway, iface, metric, origin } of saved.routes) {
		stack.routes.add({
			destination: toCidr(destination),
			gateway: gateway === undefined ? undefined : toAddress(gateway),
			iface: named(iface),
			metric,
			origin,
		});
	}
	for (const { destination, mtu, until = Number.POSITIVE_INFINITY } of saved.pathMtus)
		stack.paths.pmtus.set(destination, { mtu, until });
	for (const { iface, address, until = Number.POSITIVE_INFINITY } of saved.routers)
		stack.nd.routers.set(`${iface},${address}`, { iface: named(iface), address: toAddress(address), until });
	stack.nd.armAgeing(stack.now);
	for (const entry of saved.later) stack.later.push({ iface: named(entry.iface), ...frameOf(entry) });
	for (const packet of saved.looped) stack.looped.push(textToBytes(packet));
	stack.routesChanged();
	return stack;
}
