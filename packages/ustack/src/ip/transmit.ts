import type { Offload } from "@x/netchannel";
import { put16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ETHERNET_HEADER, PROTO_ICMP, PROTO_UDP } from "../wire/constants.ts";
import type { StackCore } from "./core.ts";
import type { Path } from "./path.ts";
import { TX_BYTES, TX_L4 } from "./tx.ts";

/** From a transport's bytes to frames: checksum or offload, IP header, link-layer destination. */
export class Transmitter {
	/** The buffer every packet is built in; links copy or send before they return. */
	readonly tx: Uint8Array = new Uint8Array(TX_BYTES);
	private readonly stack: StackCore;
	private readonly views = new Map<number, Uint8Array[]>();
	private readonly csumOffload: Record<string, Offload> = {};

	constructor(stack: StackCore) {
		this.stack = stack;
	}

	/**
	 * Sends what a transport wrote at {@link TX_L4} of {@link tx}.
	 *
	 * @param length - bytes of transport header and payload
	 * @param hopLimit - 0 for the default
	 * @param checksumAt - offset of the checksum field in the transport header, holding 0; -1 for none
	 * @param gsoSize - payload bytes per segment to leave to the link, 0 for one packet
	 * @param gsoHeader - transport header length with `gsoSize`
	 */
	transmit(
		path: Path,
		protocol: number,
		length: number,
		hopLimit: number,
		tos: number,
		dontFragment: boolean,
		checksumAt: number,
		gsoSize: number,
		gsoHeader = 0,
	): void {
		const { tx } = this;
		const { ops, iface } = path;
		const packetLength = length + ops.headerLength;
		let offload: Offload | undefined;
		if (checksumAt >= 0) {
			const field = TX_L4 + checksumAt;
			const pseudo = protocol === PROTO_ICMP ? 0 : path.addressSum + protocol + length;
			const features = iface.link?.features;
			if (gsoSize > 0 || (features?.checksum === true && packetLength <= path.mtu && protocol !== PROTO_ICMP)) {
				put16(tx, field, foldSum(pseudo));
				offload = this.offloadFor(path, checksumAt, gsoSize, gsoHeader);
			} else {
				const sum = ~foldSum(pseudo + sumBytes(tx, TX_L4, length)) & 0xffff;
				put16(tx, field, sum === 0 && protocol === PROTO_UDP ? 0xffff : sum);
			}
		}
		if (packetLength > path.mtu && gsoSize === 0) {
			this.stack.fragments?.output(path, protocol, length, hopLimit, tos);
			return;
		}
		const id = dontFragment && gsoSize === 0 ? 0 : this.stack.nextIdentification();
		ops.writeHeader(
			tx,
			TX_L4,
			path,
			protocol,
			length,
			hopLimit === 0 ? (path.ops.family === 6 ? iface.hopLimit : this.stack.hopLimit) : hopLimit,
			tos,
			dontFragment,
			id,
		);
		this.sendIp(path, TX_L4 - ops.headerLength, TX_L4 + length, offload);
	}

	private offloadFor(path: Path, csumOffset: number, gsoSize: number, gsoHeader: number): Offload {
		const key = `${path.iface.ethernet ? "e" : "i"}${path.ops.family},${csumOffset},${gsoSize},${gsoHeader}`;
		const known = this.csumOffload[key];
		if (known !== undefined) return known;
		const csumStart = (path.iface.ethernet ? ETHERNET_HEADER : 0) + path.ops.headerLength;
		const made: Offload = {
			needsCsum: true,
			dataValid: false,
			csumStart,
			csumOffset,
			gsoType: gsoSize === 0 ? "none" : path.ops.family === 4 ? "tcpv4" : "tcpv6",
			gsoSize,
			hdrLen: gsoSize === 0 ? 0 : csumStart + gsoHeader,
			ecn: false,
		};
		this.csumOffload[key] = made;
		return made;
	}

	/** Sends the IP packet at `start..end` of {@link tx}, finding its link-layer destination. */
	sendIp(path: Path, start: number, end: number, offload: Offload | undefined): void {
		const { iface } = path;
		if (iface.ethernet) this.stack.ethernet!.output(this, path, start, end, offload);
		else iface.sendFrame(this.view(start, end), offload);
	}

	/** A view of {@link tx}, cached: packets come in few sizes. */
	view(start: number, end: number): Uint8Array {
		const length = end - start;
		let bySize = this.views.get(start);
		if (bySize === undefined) {
			bySize = [];
			this.views.set(start, bySize);
		}
		const cached = length < 2048 ? bySize[length] : bySize[0];
		if (cached !== undefined && cached.length === length) return cached;
		const made = this.tx.subarray(start, end);
		bySize[length < 2048 ? length : 0] = made;
		return made;
	}
}
