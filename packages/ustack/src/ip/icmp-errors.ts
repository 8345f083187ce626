import type { Interface } from "../link/interface.ts";
import { get16, put16, put32 } from "../wire/bytes.ts";
import { ICMP_HEADER } from "../wire/constants.ts";
import { IcmpCore, type IcmpErrorKind } from "./icmp.ts";
import type { Packet } from "./packet.ts";
import type { Path } from "./path.ts";
import { TX_L4 } from "./tx.ts";

/** type and code on the wire, per kind: [v4 type, v4 code, v6 type, v6 code] (RFC 792, RFC 1812, RFC 4443). */
const WIRE: Record<IcmpErrorKind, readonly [number, number, number, number]> = {
	"net-unreachable": [3, 0, 1, 0],
	"host-unreachable": [3, 1, 1, 3],
	"protocol-unreachable": [3, 2, 4, 1],
	"port-unreachable": [3, 3, 1, 4],
	prohibited: [3, 13, 1, 1],
	"too-big": [3, 4, 2, 0],
	"time-exceeded": [11, 0, 3, 0],
	"reassembly-timeout": [11, 1, 3, 1],
	"parameter-problem": [12, 0, 4, 0],
};

/** A datagram of a ping socket. */
export interface EchoReply {
	readonly sequence: number;
	/** The reply's payload; valid during the call. */
	readonly payload: Uint8Array;
	readonly hopLimit: number;
}

/** A user of one echo identifier. */
export interface EchoUser {
	onReply(from: Packet, reply: EchoReply): void;
	onError(kind: IcmpErrorKind, sequence: number): void;
}

/** Errors a second to one destination-blind bucket (RFC 4443 2.4 f; Linux limits alike). */
const ERROR_RATE = 1000;
const ERROR_BURST = 50;

/** The rest of ICMP: errors about what cannot be taken or passed on, and users of echo. */
export class IcmpLayer extends IcmpCore {
	private readonly echoUsers = new Map<number, EchoUser>();
	private tokens = ERROR_BURST;
	private refilledAt = 0;

	protected override replyIn(packet: Packet): void {
		const { bytes, l4, end } = packet;
		this.echoUsers.get(get16(bytes, l4 + 4))?.onReply(packet, {
			sequence: get16(bytes, l4 + 6),
			payload: bytes.subarray(l4 + ICMP_HEADER, end),
			hopLimit: packet.hopLimit,
		});
	}

	protected override echoFailed(id: number, sequence: number, kind: IcmpErrorKind): void {
		this.echoUsers.get(id)?.onError(kind, sequence);
	}

	/** Claims an echo identifier; undefined asks for any free one. Returns -1 when none is free. */
	openEcho(user: EchoUser, identifier: number): number {
		let id = identifier;
		for (let tries = 0; this.echoUsers.has(id) && tries < 65_536; tries++) id = (id + 1) & 0xffff;
		if (this.echoUsers.has(id)) return -1;
		this.echoUsers.set(id, user);
		return id;
	}

	closeEcho(identifier: number): void {
		this.echoUsers.delete(identifier);
	}

	/**
	 * Answers a packet with an error, unless the rules forbid it (RFC 1122 3.2.2, RFC 4443 2.4 e): never about an ICMP
	 * error, a group packet, a later fragment or a source that is no single host.
	 *
	 * @param argument - MTU or pointer
	 */
	override sendError(packet: Packet, kind: IcmpErrorKind, argument = 0, code = -1): void {
		const { bytes, l3, end, ops } = packet;
		if ((packet.groupcast || packet.linkBroadcast) && !(ops.family === 6 && kind === "too-big")) return;
		const source = packet.source();
		if (source.isUnspecified || source.isMulticast || source.isBroadcast) return;
		if (packet.protocol === ops.icmpProtocol) {
			const type = packet.l4 < end ? bytes[packet.l4]! : 255;
			if (ops.family === 4 ? type !== 8 && type !== 0 && type !== 13 : type < 128) return;
		}
		if (!this.take(packet.now)) return;
		const path = this.stack.path(
			source,
			this.stack.isLocal(packet.destination()) || packet.iface.acceptAny ? packet.destination() : undefined,
		);
		if (path === undefined) return;
		const { tx } = this.stack;
		const wire = WIRE[kind];
		const v4 = ops.family === 4;
		tx[TX_L4] = v4 ? wire[0] : wire[2];
		tx[TX_L4 + 1] = code >= 0 ? code : v4 ? wire[1] : wire[3];
		put16(tx, TX_L4 + 2, 0);
		put32(tx, TX_L4 + 4, 0);
		if (kind === "parameter-problem") {
			if (v4) tx[TX_L4 + 4] = argument;
			else put32(tx, TX_L4 + 4, argument);
		} else if (v4) put16(tx, TX_L4 + 6, argument);
		else put32(tx, TX_L4 + 4, argument);
		const room = (v4 ? 576 : Math.min(1280, path.mtu)) - ops.headerLength - ICMP_HEADER;
		const quote = Math.min(end - l3, room);
		tx.set(bytes.subarray(l3, l3 + quote), TX_L4 + ICMP_HEADER);
		this.stack.transmitter.transmit(path, ops.icmpProtocol, ICMP_HEADER + quote, 0, 0, false, 2, 0);
	}

	private take(now: number): boolean {
		this.tokens = Math.min(ERROR_BURST, this.tokens + ((now - this.refilledAt) * ERROR_RATE) / 1000);
		this.refilledAt = now;
		if (this.tokens < 1) return false;
		this.tokens--;
		return true;
	}

	/** Sends an echo request; the payload is copied. Returns false without a route. */
	sendEcho(
		iface: Interface | undefined,
		path: Path | undefined,
		id: number,
		sequence: number,
		payload: Uint8Array,
		hopLimit: number,
	): boolean {
		if (path === undefined || (iface !== undefined && path.iface !== iface)) return false;
		const { tx } = this.stack;
		tx[TX_L4] = path.ops.family === 4 ? 8 : 128;
		tx[TX_L4 + 1] = 0;
		put16(tx, TX_L4 + 2, 0);
		put16(tx, TX_L4 + 4, id);
		put16(tx, TX_L4 + 6, sequence);
		tx.set(payload, TX_L4 + ICMP_HEADER);
		this.stack.transmitter.transmit(
			path,
			path.ops.icmpProtocol,
			ICMP_HEADER + payload.length,
			hopLimit,
			0,
			false,
			2,
			0,
		);
		return true;
	}
}
