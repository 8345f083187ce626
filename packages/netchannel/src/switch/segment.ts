import { PacketKey, parsePacket } from "../channel/packet.ts";
import type { Offload } from "../link/link.ts";
import { foldSum, sumWords } from "../link/offload.ts";

const TCP = 6;
const UDP = 17;
const FIN_PSH = 0x09;
const CWR = 0x80;

const key: PacketKey = new PacketKey();

/**
 * Cuts a frame that carries more than one packet (`gsoType`) into finished ones of `gsoSize` payload bytes each, with
 * their lengths, identifications, sequence numbers, flags and checksums: what a network card does for TSO and USO.
 *
 * @param emit - gets each segment; its memory is new
 * @returns false when the frame is not what `offload` says
 */
export function segmentFrame(
	frame: Uint8Array,
	medium: "ethernet" | "ip",
	offload: Offload,
	emit: (segment: Uint8Array) => void,
): boolean {
	parsePacket(key, frame, medium);
	const { family, network, transport, protocol } = key;
	const wanted = offload.gsoType === "udp" ? UDP : TCP;
	if (family === 0 || key.fragment || protocol !== wanted || offload.gsoSize < 1) return false;
	if ((offload.gsoType === "tcpv4" && family !== 4) || (offload.gsoType === "tcpv6" && family !== 6)) return false;
	const least = wanted === TCP ? 20 : 8;
	if (frame.length < transport + least) return false;
	const headers = transport + (wanted === TCP ? (frame[transport + 12]! >> 4) << 2 : 8);
	if (headers < transport + least || headers > frame.length) return false;
	const end = Math.min(frame.length, network + packetLength(frame, network, family));
	const source = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
	const sequence = wanted === TCP ? source.getUint32(transport + 4) : 0;
	const identification = family === 4 ? source.getUint16(network + 4) : 0;
	let count = 0;
	for (let at = headers; at < end || count === 0; at += offload.gsoSize, count++) {
		const payload = frame.subarray(at, Math.min(end, at + offload.gsoSize));
		const last = at + offload.gsoSize >= end;
		const segment = new Uint8Array(headers + payload.length);
		segment.set(frame.subarray(0, headers));
		segment.set(payload, headers);
		const view = new DataView(segment.buffer);
		const length = segment.length - transport;
		if (family === 4) {
			view.setUint16(network + 2, segment.length - network);
			view.setUint16(network + 4, (identification + count) & 0xffff);
			view.setUint16(network + 10, 0);
			view.setUint16(network + 10, ~foldSum(sumWords(segment, network, transport)) & 0xffff);
		} else view.setUint16(network + 4, segment.length - network - 40);
		if (wanted === TCP) {
			view.setUint32(transport + 4, (sequence + at - headers) >>> 0);
			let flags = segment[transport + 13]!;
			if (!last) flags &= ~FIN_PSH;
			if (count > 0 && offload.ecn) flags &= ~CWR;
			segment[transport + 13] = flags;
		} else view.setUint16(transport + 4, length);
		const field = transport + (wanted === TCP ? 16 : 6);
		view.setUint16(field, 0);
		const addresses =
			family === 4 ? sumWords(segment, network + 12, network + 20) : sumWords(segment, network + 8, network + 40);
		const sum = ~foldSum(sumWords(segment, transport, segment.length, addresses + protocol + length)) & 0xffff;
		view.setUint16(field, sum === 0 && wanted === UDP ? 0xffff : sum);
		emit(segment);
	}
	return true;
}

function packetLength(frame: Uint8Array, network: number, family: 4 | 6): number {
	const at = network + (family === 4 ? 2 : 4);
	const length = (frame[at]! << 8) | frame[at + 1]!;
	// A packet of over 64 KiB (BIG TCP) says zero: its end is the frame's.
	if (length === 0) return frame.length;
	return family === 4 ? length : length + 40;
}
