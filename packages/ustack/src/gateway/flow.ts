import type { Packet } from "../ip/packet.ts";
import type { IpAddress } from "../wire/address.ts";
import { formatMac } from "../wire/mac.ts";
import type { RateLimit } from "./limits.ts";
import type { AuditEvent, EgressRequest } from "./options.ts";
import type { EgressFlow, Verdict } from "./policy.ts";

/** A guest's flow while it is judged and carried. */
export interface Flow extends EgressFlow {
	readonly id: number;
	readonly guest: string;
	readonly source: IpAddress;
	readonly sourcePort: number;
	readonly hostItself: boolean;
}

/** What the NATs need of their gateway. */
export interface FlowContext {
	/** A packet's flow, numbered. */
	flowOf(packet: Packet, protocol: Flow["protocol"], sourcePort: number, port: number): Flow;
	/** The rules' and the hook's verdict, in the audit already; a promise only where the hook was asked. */
	judge(flow: Flow): Verdict | Promise<Verdict>;
	audit(flow: Flow, event: Pick<AuditEvent, "action" | "reason"> & Partial<AuditEvent>): void;
	/** Bytes a second. */
	readonly out: RateLimit;
	readonly in: RateLimit;
}

/** The flow in plain data. */
export function requestOf(flow: Flow): EgressRequest {
	return {
		flow: flow.id,
		protocol: flow.protocol,
		guest: flow.guest,
		source: flow.source.toString(),
		sourcePort: flow.sourcePort,
		address: flow.address.toString(),
		port: flow.port,
		names: flow.names,
	};
}

/** `ADDRESS:PORT`, the address alone for port 0. */
export function endpoint(address: IpAddress, port: number): string {
	const text = address.family === 6 ? `[${address}]` : address.toString();
	return port === 0 ? text : `${text}:${port}`;
}

/** Who sent a packet: its MAC, or what its address's is where the frame is gone or has none. */
export function guestOf(packet: Packet): string {
	if (packet.iface.ethernet && !packet.reassembled) return formatMac(packet.bytes, 6);
	const source = packet.source();
	const neighbor = packet.iface.ethernet ? packet.iface.neighbors.find(source) : undefined;
	return neighbor === undefined ? source.toString() : formatMac(neighbor.mac);
}
