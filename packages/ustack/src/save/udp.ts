import type { Stack } from "../ip/stack.ts";
import { UdpLayer, type UdpOptions, type UdpSocket } from "../udp/layer.ts";
import { toAddress } from "../wire/address.ts";
import { assignFields, fieldsOf, type PlainFields } from "./plain.ts";

interface SavedSocket {
	port: number;
	address?: string;
	reuse: boolean;
	ipv6Only: boolean;
	iface?: string;
	remote?: string;
	multicastInterface?: string;
	groups: { iface: string; group: string }[];
	fields: PlainFields;
}

/** Everything of a UDP layer. */
export interface SavedUdp {
	nextPort: number;
	stats: PlainFields;
	sockets: SavedSocket[];
}

/** Who takes up again what was saved. */
export interface UdpUsers {
	/** The callbacks of a socket. */
	socket?: ((port: number, address: string | undefined) => Pick<UdpOptions, "onMessage" | "onError">) | undefined;
}

const SOCKET_PARTS = new Set([
	...["layer", "port", "address", "options", "groups", "remote", "multicastInterface", "closed", "path"],
]);

function saveSocket(socket: UdpSocket): SavedSocket {
	const { port, address, options, remote, multicastInterface } = socket;
	return {
		port,
		...(address && { address: address.toString() }),
		reuse: options.reuse === true,
		ipv6Only: options.ipv6Only === true,
		...(options.iface && { iface: options.iface.name }),
		...(remote && { remote: remote.toString() }),
		...(multicastInterface && { multicastInterface: multicastInterface.name }),
		groups: socket.groups.map(({ iface, group }) => ({ iface: iface.name, group: group.toString() })),
		fields: fieldsOf(socket, SOCKET_PARTS),
	};
}

export function saveUdp(udp: UdpLayer): SavedUdp {
	return {
		nextPort: udp.nextPort,
		stats: fieldsOf(udp.stats),
		sockets: [...udp.ports.values()].flat().map(saveSocket),
	};
}

export function restoreUdp(stack: Stack, saved: SavedUdp, users: UdpUsers): UdpLayer {
	const udp = new UdpLayer(stack);
	udp.nextPort = saved.nextPort;
	assignFields(udp.stats, saved.stats);
	const named = (name: string) => stack.interfaceNamed(name) ?? stack.loopback;
	for (const { port, address, reuse, ipv6Only, iface, remote, multicastInterface, groups, fields } of saved.sockets) {
		const socket = udp.open({
			port,
			...(address !== undefined && { address: toAddress(address) }),
			reuse,
			ipv6Only,
			...(iface !== undefined && { iface: named(iface) }),
			...users.socket?.(port, address),
		});
		assignFields(socket, fields);
		if (remote !== undefined) socket.remote = toAddress(remote);
		if (multicastInterface !== undefined) socket.multicastInterface = named(multicastInterface);
		for (const group of groups) socket.groups.push({ iface: named(group.iface), group: toAddress(group.group) });
	}
	return udp;
}
