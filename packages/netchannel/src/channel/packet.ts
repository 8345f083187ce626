/** Whether the first four header bytes of a protocol (IANA's number) are the ports. */
export function hasPorts(protocol: number): boolean {
	return protocol === 17 || protocol === 6 || protocol === 132 || protocol === 136 || protocol === 33;
}

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;

/**
 * A packet's addresses and ports as {@link parsePacket} finds them, seen from the receiver: the destination is local.
 * One object is filled again for every packet.
 */
export class PacketKey {
	/** 4, 6, or 0 when it is no whole IP packet. */
	family: 0 | 4 | 6 = 0;
	/** EtherType behind any VLAN tags; what an IP link's packet would have. */
	etherType = 0;
	/** VLAN identifier of the outermost tag with bit 12 set, 0 without a tag. */
	vlan = 0;
	/** IPv4: word 0 local, 1 remote. IPv6: 0 to 3 local, 4 to 7 remote. */
	readonly address: Int32Array = new Int32Array(8);
	/** Transport protocol behind any IPv6 extension headers. */
	protocol = 0;
	/** Local port in the high half, remote port in the low one; 0 without {@link hasPorts}. */
	ports = 0;
	/** Whether {@link ports} were in the packet. */
	hasPorts = false;
	/** Byte offset of the IP header. */
	network = 0;
	/** Byte offset of the transport header, or of a later fragment's data. */
	transport = 0;
	/** A fragment of a larger packet, and whether it is not the first. */
	fragment = false;
	laterFragment = false;
	/** Identification shared by the fragments of a packet. */
	identification = 0;
}

/**
 * Reads the Ethernet, VLAN (802.1Q and 802.1ad, up to two tags), IPv4 and IPv6 headers that say whose packet it is.
 * Never reads outside `frame`; what is cut short or malformed ends as `family` 0.
 */
export function parsePacket(key: PacketKey, frame: Uint8Array, medium: "ethernet" | "ip"): void {
	// Most frames are IPv4 in untagged Ethernet: no loop, no header to look through, and every field is written once.
	if (medium === "ethernet" && frame.length >= 34 && frame[12] === 8 && frame[13] === 0) {
		key.vlan = 0;
		key.etherType = ETHERTYPE_IPV4;
		key.network = 14;
		parseIPv4(key, frame, 14);
		return;
	}
	key.family = 0;
	key.vlan = 0;
	key.ports = 0;
	key.hasPorts = false;
	key.fragment = false;
	key.laterFragment = false;
	let at = 0;
	let type: number;
	if (medium === "ethernet") {
		if (frame.length < 14) {
			key.etherType = 0;
			return;
		}
		type = (frame[12]! << 8) | frame[13]!;
		at = 14;
		for (let tags = 0; tags < 2 && (type === 0x8100 || type === 0x88a8) && frame.length >= at + 4; tags++) {
			if (tags === 0) key.vlan = 0x1000 | ((frame[at]! & 0x0f) << 8) | frame[at + 1]!;
			type = (frame[at + 2]! << 8) | frame[at + 3]!;
			at += 4;
		}
	} else {
		type = frame.length > 0 && frame[0]! >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
	}
	key.etherType = type;
	key.network = at;
	if (type === ETHERTYPE_IPV4) parseIPv4(key, frame, at);
	else if (type === ETHERTYPE_IPV6) parseIPv6(key, frame, at);
}

/** Whether a frame is as most are: untagged, an IPv4 header without options, no fragment, bytes where ports would be. */
export function isPlainIPv4(frame: Uint8Array): boolean {
	return (
		frame.length >= 38 &&
		frame[12] === 8 &&
		frame[13] === 0 &&
		frame[14] === 0x45 &&
		(((frame[20]! << 8) | frame[21]!) & 0x3fff) === 0
	);
}

/** Fills in what {@link parsePacket} finds in a plain frame. */
export function setPlainIPv4(
	key: PacketKey,
	local: number,
	remote: number,
	protocol: number,
	ports: number,
	ported: boolean,
): void {
	key.family = 4;
	key.etherType = 0x0800;
	key.vlan = 0;
	key.network = 14;
	key.transport = 34;
	key.fragment = false;
	key.laterFragment = false;
	key.address[0] = local;
	key.address[1] = remote;
	key.ports = ports;
	key.protocol = protocol;
	key.hasPorts = ported;
}

const word = (frame: Uint8Array, at: number): number =>
	(frame[at]! << 24) | (frame[at + 1]! << 16) | (frame[at + 2]! << 8) | frame[at + 3]!;

function parseIPv4(key: PacketKey, frame: Uint8Array, at: number): void {
	key.family = 0;
	key.ports = 0;
	key.hasPorts = false;
	key.fragment = false;
	key.laterFragment = false;
	if (frame.length < at + 20) return;
	const first = frame[at]!;
	const header = (first & 15) << 2;
	if (first >> 4 !== 4 || header < 20 || frame.length < at + header) return;
	key.family = 4;
	key.protocol = frame[at + 9]!;
	key.address[0] = word(frame, at + 16);
	key.address[1] = word(frame, at + 12);
	key.transport = at + header;
	const fragment = (frame[at + 6]! << 8) | frame[at + 7]!;
	if ((fragment & 0x3fff) !== 0) {
		key.fragment = true;
		key.laterFragment = (fragment & 0x1fff) !== 0;
		key.identification = (frame[at + 4]! << 8) | frame[at + 5]!;
	}
	readPorts(key, frame);
}

const isExtension = (next: number): boolean => next === 0 || next === 43 || next === 60 || next === 44 || next === 51;

function parseIPv6(key: PacketKey, frame: Uint8Array, at: number): void {
	if (frame.length < at + 40 || frame[at]! >> 4 !== 6) return;
	for (let index = 0; index < 4; index++) {
		key.address[index] = word(frame, at + 24 + 4 * index);
		key.address[4 + index] = word(frame, at + 8 + 4 * index);
	}
	let next = frame[at + 6]!;
	let offset = at + 40;
	for (let headers = 0; headers < 8 && isExtension(next); headers++) {
		if (frame.length < offset + 8) return;
		const following = frame[offset]!;
		if (next === 44) {
			key.fragment = true;
			key.laterFragment = (((frame[offset + 2]! << 8) | frame[offset + 3]!) & 0xfff8) !== 0;
			key.identification = word(frame, offset + 4);
			offset += 8;
		} else {
			offset += next === 51 ? (frame[offset + 1]! + 2) << 2 : (frame[offset + 1]! + 1) << 3;
		}
		next = following;
		// What follows a later fragment's header is payload, whatever it looks like.
		if (key.laterFragment) break;
	}
	if (offset > frame.length) return;
	key.family = 6;
	key.protocol = next;
	key.transport = offset;
	readPorts(key, frame);
}

function readPorts(key: PacketKey, frame: Uint8Array): void {
	if (key.laterFragment || !hasPorts(key.protocol) || frame.length < key.transport + 4) return;
	const at = key.transport;
	key.ports = (frame[at + 2]! << 24) | (frame[at + 3]! << 16) | (frame[at]! << 8) | frame[at + 1]!;
	key.hasPorts = true;
}
