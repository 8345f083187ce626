import type { GsoType, Offload } from "./link.ts";

/** Bytes of `struct virtio_net_hdr_v1` (VIRTIO 1.2, 5.1.6): the 10 of the old header and the buffer count. */
export const VNET_HEADER_BYTES = 12;

const FLAG_NEEDS_CSUM = 1;
const FLAG_DATA_VALID = 2;
const GSO_ECN = 0x80;
const GSO: Record<GsoType, number> = { none: 0, tcpv4: 1, udp: 5, tcpv6: 4 };
// 3 is the old UDP fragmentation (UFO), which no feature bit of ours offers; 5 is UDP segmentation (USO).
const GSO_NAMES: Record<number, GsoType> = { 0: "none", 1: "tcpv4", 4: "tcpv6", 5: "udp" };

/** Writes a header of {@link VNET_HEADER_BYTES}, little-endian; without `offload` it is all zeros. */
export function writeVnetHeader(target: Uint8Array, at: number, offload: Offload | undefined): void {
	if (offload === undefined) {
		target.fill(0, at, at + VNET_HEADER_BYTES);
		return;
	}
	const half = (offset: number, value: number): void => {
		target[at + offset] = value;
		target[at + offset + 1] = value >> 8;
	};
	target[at] = (offload.needsCsum ? FLAG_NEEDS_CSUM : 0) | (offload.dataValid ? FLAG_DATA_VALID : 0);
	target[at + 1] = GSO[offload.gsoType] | (offload.ecn ? GSO_ECN : 0);
	half(2, offload.hdrLen);
	half(4, offload.gsoSize);
	half(6, offload.csumStart);
	half(8, offload.csumOffset);
	half(10, 0);
}

/** Reads a header; undefined when it says nothing, or asks for a segmentation nobody here knows. */
export function readVnetHeader(source: Uint8Array, at: number): Offload | undefined {
	const flags = source[at]!;
	const gso = source[at + 1]!;
	if (flags === 0 && gso === 0) return undefined;
	const half = (offset: number): number => source[at + offset]! | (source[at + offset + 1]! << 8);
	const gsoType = GSO_NAMES[gso & ~GSO_ECN];
	if (gsoType === undefined) return undefined;
	return {
		needsCsum: (flags & FLAG_NEEDS_CSUM) !== 0,
		dataValid: (flags & FLAG_DATA_VALID) !== 0,
		csumStart: half(6),
		csumOffset: half(8),
		gsoType,
		gsoSize: half(4),
		hdrLen: half(2),
		ecn: (gso & GSO_ECN) !== 0,
	};
}
