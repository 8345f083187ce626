import { parseAddress } from "../../src/index.ts";
import { foldSum, sumWords } from "../../src/link/offload.ts";

/** What {@link makePacket} builds. */
export interface PacketSpec {
	src?: string;
	dst?: string;
	protocol?: number;
	sport?: number;
	dport?: number;
	payload?: Uint8Array;
	vlan?: number;
	medium?: "ethernet" | "ip";
	/** IPv4: the fragment field and identification. */
	fragment?: number;
	identification?: number;
}

const addressBytes = (text: string): number[] =>
	[...parseAddress(text).words].flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);

/** Sum over the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1). */
export function pseudoSum(src: string, dst: string, protocol: number, length: number): number {
	const addresses = Uint8Array.from([...addressBytes(src), ...addressBytes(dst)]);
	return sumWords(addresses, 0, addresses.length) + protocol + length;
}

/** A frame with valid checksums: TCP, UDP, or bare payload behind IPv4 or IPv6. */
export function makePacket(spec: PacketSpec = {}): Uint8Array {
	const {
		src = "10.0.0.2",
		dst = "10.0.0.1",
		protocol = 17,
		sport = 1000,
		dport = 53,
		payload = new Uint8Array(18),
	} = spec;
	const later = ((spec.fragment ?? 0) & 0x1fff) !== 0;
	const header = later ? 0 : protocol === 17 ? 8 : protocol === 6 ? 20 : 0;
	const transport = new Uint8Array(header + payload.length);
	transport.set(payload, header);
	const view = new DataView(transport.buffer);
	if (header > 0) {
		view.setUint16(0, sport);
		view.setUint16(2, dport);
		if (protocol === 17) view.setUint16(4, transport.length);
		else view.setUint8(12, 0x50);
		const sum =
			~foldSum(sumWords(transport, 0, transport.length, pseudoSum(src, dst, protocol, transport.length))) & 0xffff;
		view.setUint16(protocol === 17 ? 6 : 16, protocol === 17 && sum === 0 ? 0xffff : sum);
	}
	const six = src.includes(":");
	const ip = new Uint8Array(six ? 40 : 20);
	const ipView = new DataView(ip.buffer);
	if (six) {
		ip[0] = 0x60;
		ipView.setUint16(4, transport.length);
		ip[6] = protocol;
		ip[7] = 64;
		ip.set([...addressBytes(src), ...addressBytes(dst)], 8);
	} else {
		ip[0] = 0x45;
		ipView.setUint16(2, 20 + transport.length);
		ipView.setUint16(4, spec.identification ?? 0);
		ipView.setUint16(6, spec.fragment ?? 0);
		ip[8] = 64;
		ip[9] = protocol;
		ip.set([...addressBytes(src), ...addressBytes(dst)], 12);
		ipView.setUint16(10, ~foldSum(sumWords(ip, 0, 20)) & 0xffff);
	}
	const type = six ? [0x86, 0xdd] : [0x08, 0x00];
	const ethernet = [
		...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
		...(spec.vlan === undefined ? [] : [0x81, 0, spec.vlan >> 8, spec.vlan & 255]),
		...type,
	];
	return Uint8Array.from([...(spec.medium === "ip" ? [] : ethernet), ...ip, ...transport]);
}

/** Whether the IPv4 header and transport checksums of an untagged frame are right. */
export function checksumsHold(frame: Uint8Array, src: string, dst: string): boolean {
	const six = src.includes(":");
	const transport = 14 + (six ? 40 : 20);
	const protocol = frame[14 + (six ? 6 : 9)]!;
	const header = six || foldSum(sumWords(frame, 14, 34)) === 0xffff;
	const length = frame.length - transport;
	return header && foldSum(sumWords(frame, transport, frame.length, pseudoSum(src, dst, protocol, length))) === 0xffff;
}
