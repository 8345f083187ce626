import type { LinkOptions } from "../link/base.ts";
import type { Link, LinkFeatures, Offload } from "../link/link.ts";
import { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from "../link/vnet-header.ts";
import { BusyPoll } from "./busy-poll.ts";
import { DescriptorLink } from "./descriptor-link.node.ts";
import { FrameViews } from "./frame-views.ts";
import { bringUp, interfaceMtu, interfaceRequest, setInterfaceMtu } from "./interface.node.ts";
import { EAGAIN, holdDescriptor, type Libc, loadLibc, releaseDescriptor, systemFailure } from "./libc.node.ts";
import { inNamespace } from "./netns.node.ts";

/** Options of {@link openTap} and {@link openTun}. */
export interface TapOptions {
	/** Interface name; it is made when it does not exist, and goes away with the link unless it was persistent. */
	name: string;
	/** Network namespace (`ip netns`) it is in. @default this process's own */
	netns?: string;
	/** Sets the interface's MTU. @default what it has */
	mtu?: number;
	/** Exchange unfinished checksums and unsegmented packets with the kernel (IFF_VNET_HDR). @default true */
	offload?: boolean;
	/** One of several queues of the interface (IFF_MULTI_QUEUE): every queue is a link of its own. @default false */
	multiQueue?: boolean;
	/** Bring the interface up. @default true */
	up?: boolean;
}

const O_RDWR = 2;
const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TUN = 1;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_MULTI_QUEUE = 0x100;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const TUN_F_TSO6 = 4;
const TUN_F_TSO_ECN = 8;
const TUN_F_USO = 0x20 | 0x40;
const EIO = 5;
const EINVAL = 22;

/** Packets taken before the event loop gets its turn. */
const BUDGET = 64;
/** A packet of 64 KiB, its Ethernet header and VLAN tag, and the offload header. */
const LONGEST_READ = 65536 + 64 + VNET_HEADER_BYTES;

class TapLink extends DescriptorLink {
	private readonly header: number;
	private readonly busy = new BusyPoll();
	/** Whether something was sent since the last frame came: then its answer may be near. */
	private answered = false;
	private readonly input: Uint8Array<ArrayBuffer> = new Uint8Array(LONGEST_READ);
	private readonly output: Uint8Array = new Uint8Array(LONGEST_READ);
	private readonly inputAddress: number;
	private readonly outputAddress: number;
	private readonly frames: FrameViews;

	constructor(libc: Libc, fd: number, options: LinkOptions, features: LinkFeatures, header: number) {
		super(libc, fd, options, features);
		this.header = header;
		this.inputAddress = Number(libc.addressOf(this.input));
		this.outputAddress = Number(libc.addressOf(this.output));
		this.frames = new FrameViews(this.input.buffer, header);
	}

	protected override drain(): void {
		const { libc, fd, input, inputAddress, frames, header, busy } = this;
		let looks = -1;
		for (let count = 0; count < BUDGET && !this.closed; ) {
			const length = libc.readAt(fd, inputAddress, LONGEST_READ);
			if (length < 0) {
				const errno = libc.errno();
				if (errno !== EAGAIN) {
					// EIO says that the interface is down: it may come up again.
					if (errno !== EIO) this.fail(systemFailure(libc, "read", "the interface failed"));
					return;
				}
				if (count === 0) return;
				if (looks < 0) looks = this.answered ? busy.begin() : 0;
				else if (looks === 0) busy.foundNothing();
				if (looks-- === 0) return;
				continue;
			}
			if (looks >= 0) busy.found();
			looks = -1;
			this.answered = false;
			count++;
			if (length <= header) this.rxDropped++;
			else this.deliver(frames.of(length - header), header === 0 ? undefined : readVnetHeader(input, 0));
		}
	}

	protected override transmit(frame: Uint8Array, offload: Offload | undefined): boolean {
		const { libc, fd, output, outputAddress, header } = this;
		this.answered = true;
		if (header + frame.length > LONGEST_READ) return this.dropSent(frame);
		if (header !== 0) writeVnetHeader(output, 0, offload);
		output.set(frame, header);
		const written = libc.writeAt(fd, outputAddress, header + frame.length);
		if (written >= 0) return true;
		// Down, or a header the kernel calls impossible: the frame is lost as it would be on a wire.
		return libc.errno() === EAGAIN ? this.awaitWritable() : this.dropSent(frame);
	}
}

function attach(libc: Libc, options: TapOptions, kind: number): { fd: number; header: number; features: LinkFeatures } {
	const opened = libc.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (opened < 0)
		throw systemFailure(libc, "open", "cannot open /dev/net/tun", "CAP_NET_ADMIN or write permission on it");
	const fd = holdDescriptor(libc, opened);
	try {
		const offload = options.offload ?? true;
		const { bytes, view } = interfaceRequest(options.name);
		view.setUint16(
			16,
			kind | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0) | (options.multiQueue === true ? IFF_MULTI_QUEUE : 0),
			true,
		);
		if (libc.ioctl(fd, TUNSETIFF, bytes) < 0) {
			const hint = libc.errno() === EINVAL ? " (it exists and is of another kind: other queues, or no TAP)" : "";
			throw systemFailure(libc, "ioctl(TUNSETIFF)", `cannot attach to ${options.name}${hint}`, "CAP_NET_ADMIN");
		}
		if (!offload) return { fd, header: 0, features: { checksum: false, tso4: false, tso6: false, uso: false } };
		const size = new Int32Array([VNET_HEADER_BYTES]);
		if (libc.ioctl(fd, TUNSETVNETHDRSZ, size) < 0)
			throw systemFailure(libc, "ioctl(TUNSETVNETHDRSZ)", `cannot set the header of ${options.name}`);
		const accepted = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
		// Segmenting UDP came with Linux 6.2; a kernel that does not know it takes the rest.
		const uso = libc.ioctl(fd, TUNSETOFFLOAD, BigInt(accepted | TUN_F_USO)) === 0;
		if (!uso && libc.ioctl(fd, TUNSETOFFLOAD, BigInt(accepted)) < 0) {
			throw systemFailure(libc, "ioctl(TUNSETOFFLOAD)", `cannot set the offloads of ${options.name}`);
		}
		return { fd, header: VNET_HEADER_BYTES, features: { checksum: true, tso4: true, tso6: true, uso } };
	} catch (error) {
		releaseDescriptor(fd);
		throw error;
	}
}

async function openInterface(options: TapOptions, kind: number): Promise<Link> {
	const libc = await loadLibc();
	return inNamespace(libc, options.netns, () => {
		const { fd, header, features } = attach(libc, options, kind);
		try {
			if (options.mtu !== undefined) setInterfaceMtu(libc, options.name, options.mtu);
			if (options.up ?? true) bringUp(libc, options.name);
			const mtu = interfaceMtu(libc, options.name);
			return new TapLink(libc, fd, { medium: kind === IFF_TAP ? "ethernet" : "ip", mtu }, features, header);
		} catch (error) {
			releaseDescriptor(fd);
			throw error;
		}
	});
}

/**
 * Opens a TAP interface: what the kernel sends on it arrives here, what is sent here the kernel receives. Linux with
 * koffi.
 *
 * @throws LinkError `ERR_LINK_PERMISSION` (CAP_NET_ADMIN), `ERR_LINK_BUSY`, `ERR_LINK_NOT_FOUND` (no such namespace),
 * `ERR_LINK_UNSUPPORTED`
 */
export function openTap(options: TapOptions): Promise<Link> {
	return openInterface(options, IFF_TAP);
}

/** Opens a TUN interface: as {@link openTap}, with bare IP packets. */
export function openTun(options: TapOptions): Promise<Link> {
	return openInterface(options, IFF_TUN);
}
