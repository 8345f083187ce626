import {
	finishChecksum,
	type Link,
	type Offload,
	readVnetHeader,
	segmentFrame,
	VNET_HEADER_BYTES,
	writeVnetHeader,
} from "@x/netchannel";
import type { AccessSize } from "../../bus.ts";
import { MachineError } from "../../errors.ts";
import type { VirtioDevice, VirtioTransport } from "../device.ts";
import { Chain, MAX_QUEUE_SIZE, type Virtqueue } from "../queue.ts";
import { ReceiveFilter, type ReceiveFilterState } from "./receive-filter.ts";

/** Feature bits, VIRTIO 1.2, 5.1.3. */
const CSUM = 0;
const GUEST_CSUM = 1;
const CTRL_GUEST_OFFLOADS = 2;
const MTU = 3;
const MAC = 5;
const GUEST_TSO4 = 7;
const GUEST_TSO6 = 8;
const GUEST_ECN = 9;
const HOST_TSO4 = 11;
const HOST_TSO6 = 12;
const HOST_ECN = 13;
const MRG_RXBUF = 15;
const STATUS = 16;
const CTRL_VQ = 17;
const CTRL_RX = 18;
const CTRL_RX_EXTRA = 20;
const GUEST_ANNOUNCE = 21;
const CTRL_MAC_ADDR = 23;

const PLAIN_FEATURES = [MTU, MAC, MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX, CTRL_RX_EXTRA, GUEST_ANNOUNCE, CTRL_MAC_ADDR];
const GUEST_OFFLOADS = [GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN];
const OFFLOAD_FEATURES = [CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN, CTRL_GUEST_OFFLOADS, ...GUEST_OFFLOADS];

const RECEIVE = 0;
const TRANSMIT = 1;
const CONTROL = 2;

const STATUS_LINK_UP = 1;
const STATUS_ANNOUNCE = 2;

const ACK_OK = 0;
const ACK_ERROR = 1;

const ETHERNET_HEADER = 14;
/** Longest frame either way, segmentation included: an IP packet behind an Ethernet header with a VLAN tag. */
const MAX_FRAME = ETHERNET_HEADER + 4 + 65_535;
/** Pieces one frame may be cut into: no TCP has segments so small that it needs more. */
const MAX_SEGMENTS = 1024;
/** What waits for the driver to make room; beyond it frames are lost, as on a wire. */
const BACKLOG_FRAMES = 1024;
const BACKLOG_BYTES = 4 * 1024 * 1024;

/** Options of {@link VirtioNet}. */
export interface VirtioNetOptions {
	/** The other end of the card's cable. The device takes its `onFrame`, `onWritable` and `onCarrier`. */
	link: Link;
	/** The card's address, six bytes; not a group address. */
	mac: Uint8Array;
	/**
	 * Offers checksum and segmentation offload. What the link does not take unfinished is finished here.
	 *
	 * @default true
	 */
	offloads?: boolean;
}

/** Plain state of a {@link VirtioNet}. Frames in flight are not part of it: networks lose some. */
export interface VirtioNetState {
	/** A driver had the card in use. */
	running: boolean;
	filter: ReceiveFilterState;
	/** Bits of the features the driver wants applied to what it receives. */
	guestOffloads: number;
	announce: boolean;
}

/** Counters since the device was made. */
export interface VirtioNetStats {
	txFrames: number;
	/** Frames of the guest that were malformed, or that the link would not have. */
	txDropped: number;
	rxFrames: number;
	/** Frames for the guest it had no room for. Those its filter turns away do not count. */
	rxDropped: number;
}

interface Waiting {
	readonly frame: Uint8Array;
	readonly offload: Offload | undefined;
}

/**
 * A network card at the end of a {@link Link}.
 *
 * When the link has no room the guest's frames stay in its ring; frames from the link wait in a bounded queue while the
 * guest has no buffers.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 5.1
 */
export class VirtioNet implements VirtioDevice {
	readonly type = 1;
	readonly classCode = 0x02_0000;
	readonly features: number;
	readonly queueSizes: readonly number[] = [MAX_QUEUE_SIZE, MAX_QUEUE_SIZE, 64];
	readonly stats: VirtioNetStats = { txFrames: 0, txDropped: 0, rxFrames: 0, rxDropped: 0 };
	readonly #link: Link;
	readonly #filter: ReceiveFilter;
	readonly #txChain = new Chain();
	readonly #rxFirst = new Chain();
	readonly #rxMore = new Chain();
	readonly #controlChain = new Chain();
	/** A frame of the guest, copied so that it cannot change while it is looked at. */
	readonly #outgoing = new Uint8Array(VNET_HEADER_BYTES + MAX_FRAME);
	readonly #header = new Uint8Array(VNET_HEADER_BYTES);
	readonly #heads = new Uint16Array(MAX_QUEUE_SIZE);
	readonly #written = new Uint32Array(MAX_QUEUE_SIZE);
	/** Segments of the guest's last frame that the link had no room for. */
	#segments: Uint8Array[] = [];
	#backlog: Waiting[] = [];
	#backlogBytes = 0;
	#guestOffloads = 0;
	#announce = false;
	#running = false;
	#transmitting = false;
	#transport: VirtioTransport | undefined;

	/**
	 * @throws MachineError ERR_MACHINE_OPTION for a link that carries no Ethernet, or an address that is none
	 */
	constructor(options: VirtioNetOptions) {
		const { link, mac } = options;
		if (link.medium !== "ethernet") {
			throw new MachineError(
				"ERR_MACHINE_OPTION",
				`a link of ${link.medium}: a network card needs Ethernet`,
				link.medium,
			);
		}
		if (mac.length !== 6 || (mac[0] & 1) !== 0) {
			throw new MachineError("ERR_MACHINE_OPTION", `MAC ${mac}: six bytes, the first of them even, are expected`, mac);
		}
		this.#link = link;
		this.#filter = new ReceiveFilter(mac);
		const bits = [...PLAIN_FEATURES, ...((options.offloads ?? true) ? OFFLOAD_FEATURES : [])];
		this.features = bits.reduce((all, bit) => all | (1 << bit), 0);
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
		const link = this.#link;
		link.onFrame = this.#receive;
		link.onWritable = () => this.#transmit();
		if (link.carrier !== undefined) link.onCarrier = () => transport.configChanged();
	}

	/** Asks the guest to tell the network where it is now, as after a restored snapshot. */
	announce(): void {
		if (!this.#running || this.#transport?.hasFeature(GUEST_ANNOUNCE) !== true) return;
		this.#announce = true;
		this.#transport.configChanged();
	}

	readConfig(offset: number, size: AccessSize): number {
		let value = 0;
		for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#configByte(offset + i);
		return value >>> 0;
	}

	writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

	start(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		this.#guestOffloads = 0;
		for (const bit of GUEST_OFFLOADS) if (transport.hasFeature(bit)) this.#guestOffloads |= 1 << bit;
		this.#running = true;
	}

	notify(queue: number): void {
		if (queue === RECEIVE) this.#drain();
		else if (queue === TRANSMIT) this.#transmit();
		else this.#control();
	}

	reset(): void {
		this.#running = false;
		this.#announce = false;
		this.#guestOffloads = 0;
		this.#filter.reset();
		this.#dropWaiting();
	}

	async idle(): Promise<void> {}

	save(): VirtioNetState {
		return {
			running: this.#running,
			filter: this.#filter.save(),
			guestOffloads: this.#guestOffloads,
			announce: this.#announce,
		};
	}

	restore(state: VirtioNetState): void {
		// A card that no driver has taken keeps its own address: the driver to come reads it.
		if (state.running) this.#filter.restore(state.filter);
		else this.#filter.reset();
		this.#guestOffloads = state.guestOffloads;
		this.#announce = state.announce;
		this.#running = state.running;
		this.#dropWaiting();
	}

	#configByte(offset: number): number {
		if (offset < 6) return this.#filter.mac[offset];
		const up = this.#link.carrier === false ? 0 : STATUS_LINK_UP;
		const halves = [up | (this.#announce ? STATUS_ANNOUNCE : 0), 1, this.#link.mtu];
		return ((halves[(offset - 6) >> 1] ?? 0) >> (8 * (offset & 1))) & 0xff;
	}

	#dropWaiting(): void {
		this.#segments = [];
		this.#backlog = [];
		this.#backlogBytes = 0;
		this.#link.onFrame = this.#receive;
	}

	/** Sends what the driver put into its ring, as far as the link takes it. */
	#transmit(): void {
		const transport = this.#transport;
		if (transport === undefined || this.#transmitting || !this.#running) return;
		const queue = transport.queues[TRANSMIT];
		const chain = this.#txChain;
		this.#transmitting = true;
		while (this.#sendSegments() && queue.pop(chain)) {
			const { head } = chain;
			if (!this.#sendChain(transport, chain)) {
				queue.unpop();
				break;
			}
			queue.push(head, 0);
		}
		this.#transmitting = false;
		transport.signal(TRANSMIT);
	}

	/** False when the link has no room for it now. */
	#sendChain(transport: VirtioTransport, chain: Chain): boolean {
		const { readableBytes } = chain;
		const bytes = this.#outgoing;
		if (readableBytes < VNET_HEADER_BYTES + ETHERNET_HEADER || readableBytes > bytes.length) return this.#refuse();
		chain.read(transport.ram, 0, readableBytes === bytes.length ? bytes : bytes.subarray(0, readableBytes));
		const frame = bytes.subarray(VNET_HEADER_BYTES, readableBytes);
		if (bytes[0] === 0 && bytes[1] === 0) return this.#send(frame, undefined);
		const offload = readVnetHeader(bytes, 0);
		if (offload === undefined || !this.#mayOffload(transport, frame, offload)) return this.#refuse();
		if (offload.gsoType === "none") {
			if (!offload.needsCsum || this.#link.features.checksum) return this.#send(frame, offload);
			return this.#send(finishChecksum(frame, offload), undefined);
		}
		if (offload.gsoType === "tcpv4" ? this.#link.features.tso4 : this.#link.features.tso6) {
			return this.#send(frame, offload);
		}
		if (!cut(frame, offload, (segment) => this.#segments.push(segment))) return this.#refuse();
		// The chain is done with: what the link does not take at once is remembered.
		this.#sendSegments();
		return true;
	}

	/** Whether the driver may ask for this, and it makes sense for the frame. */
	#mayOffload(transport: VirtioTransport, frame: Uint8Array, offload: Offload): boolean {
		const { needsCsum, csumStart, csumOffset, gsoType, gsoSize } = offload;
		if (needsCsum) {
			if (!transport.hasFeature(CSUM)) return false;
			if (csumStart < ETHERNET_HEADER || csumStart + csumOffset + 2 > frame.length) return false;
		}
		if (gsoType === "none") return true;
		if (!needsCsum || gsoSize === 0 || frame.length / gsoSize > MAX_SEGMENTS) return false;
		if (gsoType === "tcpv4") return transport.hasFeature(HOST_TSO4) && networkProtocol(frame) === 0x0800;
		return gsoType === "tcpv6" && transport.hasFeature(HOST_TSO6) && networkProtocol(frame) === 0x86dd;
	}

	#sendSegments(): boolean {
		const segments = this.#segments;
		if (segments.length === 0) return true;
		let sent = 0;
		while (sent < segments.length && this.#send(segments[sent], undefined)) sent++;
		this.#segments = segments.slice(sent);
		return this.#segments.length === 0;
	}

	#send(frame: Uint8Array, offload: Offload | undefined): boolean {
		try {
			if (!this.#link.send(frame, offload)) return false;
			this.stats.txFrames++;
		} catch {
			// Over the link's MTU, or closed: lost, as on a wire.
			this.stats.txDropped++;
		}
		return true;
	}

	#refuse(): true {
		this.stats.txDropped++;
		return true;
	}

	/** A frame came from the link. */
	readonly #receive = (frame: Uint8Array, offload?: Offload): void => {
		const transport = this.#transport;
		if (transport === undefined || !this.#running) return;
		if (frame.length < ETHERNET_HEADER || frame.length > MAX_FRAME) {
			this.stats.rxDropped++;
			return;
		}
		if (!this.#filter.accepts(frame)) return;
		if (offload !== undefined && !this.#guestTakes(offload)) this.#finish(transport, frame, offload);
		else this.#accept(transport, frame, offload);
		transport.signal(RECEIVE);
	};

	#guestTakes({ needsCsum, gsoType, ecn }: Offload): boolean {
		const has = (bit: number): boolean => (this.#guestOffloads & (1 << bit)) !== 0;
		if (gsoType === "none") return !needsCsum || has(GUEST_CSUM);
		if (!has(GUEST_CSUM) || (ecn && !has(GUEST_ECN))) return false;
		return gsoType === "tcpv4" ? has(GUEST_TSO4) : gsoType === "tcpv6" && has(GUEST_TSO6);
	}

	/** Does for the guest what it does not take unfinished. */
	#finish(transport: VirtioTransport, frame: Uint8Array, offload: Offload): void {
		if (offload.gsoType === "none") {
			this.#accept(transport, finishChecksum(frame, offload), undefined);
			return;
		}
		if (!cut(frame, offload, (segment) => this.#accept(transport, segment, undefined))) this.stats.rxDropped++;
	}

	/** Gives a frame to the driver, or keeps it until there is room. */
	#accept(transport: VirtioTransport, frame: Uint8Array, offload: Offload | undefined): void {
		if (this.#backlog.length === 0 && this.#place(transport, frame, offload)) return;
		if (this.#backlog.length >= BACKLOG_FRAMES || this.#backlogBytes + frame.length > BACKLOG_BYTES) {
			this.stats.rxDropped++;
			// Links that can wait, wait while nobody listens.
			this.#link.onFrame = undefined;
			return;
		}
		this.#backlog.push({ frame: frame.slice(), offload });
		this.#backlogBytes += frame.length;
	}

	#drain(): void {
		const transport = this.#transport;
		if (transport === undefined || this.#backlog.length === 0) return;
		let done = 0;
		for (const { frame, offload } of this.#backlog) {
			if (!this.#place(transport, frame, offload)) break;
			this.#backlogBytes -= frame.length;
			done++;
		}
		this.#backlog.splice(0, done);
		transport.signal(RECEIVE);
		if (this.#backlogBytes < BACKLOG_BYTES / 2 && this.#backlog.length < BACKLOG_FRAMES / 2) {
			this.#link.onFrame ??= this.#receive;
		}
	}

	/** Writes a frame into as many of the driver's buffers as it takes. False when there are too few. */
	#place(transport: VirtioTransport, frame: Uint8Array, offload: Offload | undefined): boolean {
		const { ram } = transport;
		const queue = transport.queues[RECEIVE];
		const first = this.#rxFirst;
		const total = VNET_HEADER_BYTES + frame.length;
		if (!queue.pop(first)) return queue.broken;
		const merges = transport.hasFeature(MRG_RXBUF);
		if (first.writableBytes < (merges ? VNET_HEADER_BYTES : total)) return this.#tooSmall(queue, 1);
		this.#heads[0] = first.head;
		let done = Math.min(first.writableBytes, total);
		this.#written[0] = done;
		first.write(ram, VNET_HEADER_BYTES, frame.subarray(0, done - VNET_HEADER_BYTES));
		let count = 1;
		for (; done < total; count++) {
			const chain = this.#rxMore;
			if (count === queue.size) return this.#tooSmall(queue, count);
			if (!queue.pop(chain)) {
				for (; count > 0; count--) queue.unpop();
				return queue.broken;
			}
			const size = Math.min(chain.writableBytes, total - done);
			if (size === 0) return this.#tooSmall(queue, count + 1);
			const at = done - VNET_HEADER_BYTES;
			chain.write(ram, 0, frame.subarray(at, at + size));
			this.#heads[count] = chain.head;
			this.#written[count] = size;
			done += size;
		}
		writeVnetHeader(this.#header, 0, offload);
		this.#header[10] = count;
		this.#header[11] = count >> 8;
		first.write(ram, 0, this.#header);
		for (let i = 0; i < count; i++) queue.stage(this.#heads[i], this.#written[i]);
		queue.publish();
		this.stats.rxFrames++;
		return true;
	}

	/** The driver's buffers can never hold the frame: it is lost, they stay. */
	#tooSmall(queue: Virtqueue, popped: number): true {
		for (let i = 0; i < popped; i++) queue.unpop();
		this.stats.rxDropped++;
		return true;
	}

	#control(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const queue = transport.queues[CONTROL];
		const chain = this.#controlChain;
		while (queue.pop(chain)) {
			const ack = this.#command(transport, chain) ? ACK_OK : ACK_ERROR;
			queue.push(chain.head, chain.write(transport.ram, 0, Uint8Array.of(ack)));
		}
		transport.signal(CONTROL);
	}

	#command(transport: VirtioTransport, chain: Chain): boolean {
		const head = new Uint8Array(2);
		if (chain.read(transport.ram, 0, head) < 2) return false;
		const length = chain.readableBytes - 2;
		const body = new Uint8Array(8);
		chain.read(transport.ram, 2, body);
		const [group, command] = head;
		switch (group) {
			case 0:
				return length === 1 && this.#receiveMode(command, body[0] !== 0);
			case 1:
				if (command === 0) {
					return this.#filter.setTables(length, (offset, target) => chain.read(transport.ram, 2 + offset, target));
				}
				if (command !== 1 || length !== 6 || (body[0] & 1) !== 0) return false;
				this.#filter.mac.set(body.subarray(0, 6));
				return true;
			case 3:
				if (command !== 0) return false;
				this.#announce = false;
				return true;
			case 5:
				return command === 0 && length === 8 && this.#setGuestOffloads(transport, new DataView(body.buffer));
			default:
				return false;
		}
	}

	#receiveMode(command: number, on: boolean): boolean {
		const filter = this.#filter;
		switch (command) {
			case 0:
				filter.promiscuous = on;
				return true;
			case 1:
				filter.allMulticast = on;
				return true;
			case 2:
				filter.allUnicast = on;
				return true;
			case 3:
				filter.noMulticast = on;
				return true;
			case 4:
				filter.noUnicast = on;
				return true;
			case 5:
				filter.noBroadcast = on;
				return true;
			default:
				return false;
		}
	}

	#setGuestOffloads(transport: VirtioTransport, body: DataView): boolean {
		const wanted = body.getUint32(0, true);
		if (!transport.hasFeature(CTRL_GUEST_OFFLOADS) || body.getUint32(4, true) !== 0) return false;
		let allowed = 0;
		for (const bit of GUEST_OFFLOADS) if (transport.hasFeature(bit)) allowed |= 1 << bit;
		if ((wanted & ~allowed) !== 0) return false;
		this.#guestOffloads = wanted;
		return true;
	}
}

/** The EtherType, behind a VLAN tag if there is one. */
function networkProtocol(frame: Uint8Array): number {
	const type = (frame[12] << 8) | frame[13];
	return type === 0x8100 && frame.length >= 18 ? (frame[16] << 8) | frame[17] : type;
}

/** Cuts a frame of several packets, unless that makes too many. */
function cut(frame: Uint8Array, offload: Offload, emit: (segment: Uint8Array) => void): boolean {
	if (frame.length / offload.gsoSize > MAX_SEGMENTS) return false;
	return segmentFrame(frame, "ethernet", offload, emit);
}
