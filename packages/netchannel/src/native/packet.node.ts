import { isMainThread } from "node:worker_threads";
import type { FilterProgram } from "../filter/program.ts";
import type { LinkOptions } from "../link/base.ts";
import { LinkError } from "../link/errors.ts";
import type { Link, LinkStats } from "../link/link.ts";
import { DescriptorLink } from "./descriptor-link.node.ts";
import { interfaceIndex, interfaceMtu } from "./interface.node.ts";
import { EAGAIN, holdDescriptor, type Libc, loadLibc, releaseDescriptor, systemFailure } from "./libc.node.ts";
import { inNamespace } from "./netns.node.ts";
import { PacketBatch } from "./packet-batch.node.ts";
import { KernelRing } from "./tpacket.node.ts";

/** Options of {@link openPacket}. */
export interface PacketOptions {
	/** An interface that exists: `eth0`, a veth, a bridge. */
	interface: string;
	netns?: string;
	/**
	 * How frames come. `v2`: a ring with a wake for each packet, for conversations. `v3`: a ring of blocks, for capture and
	 * high rates, with a delay of up to `blockTimeoutMs`. `none`: many in each system call, copied; slower than a ring, and
	 * all that a worker may be terminated with: the kernel keeps a mapped ring until the process ends.
	 * @default "v2" on the main thread, "none" in workers
	 */
	ring?: "v2" | "v3" | "none";
	/** Bytes of the ring. @default 8 MiB */
	ringBytes?: number;
	/** @default 8 */
	blockTimeoutMs?: number;
	/** Receive frames for other stations too. @default true */
	promiscuous?: boolean;
	/** Receive what this host itself sends on the interface. @default false */
	outgoing?: boolean;
	/**
	 * Frames that do not match are dropped, by the kernel. It takes VLAN tags off first, so that other tests see a tagged
	 * frame as if it had none (as with tcpdump); a filter that tests for VLANs runs here instead, over the whole frame.
	 */
	filter?: FilterProgram;
	/** Share the interface's packets with other links of the same group, by flow (PACKET_FANOUT_HASH). */
	fanOutGroup?: number;
	/** Longest payload; sets nothing. @default the interface's MTU */
	mtu?: number;
}

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0x80800;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_STATISTICS = 6;
const PACKET_AUXDATA = 8;
const PACKET_FANOUT = 18;
const PACKET_IGNORE_OUTGOING = 23;
const PACKET_MR_PROMISC = 1;
const ETH_P_ALL_BE = 0x0300;
const MSG_DONTWAIT = 0x40;
const ENOBUFS = 105;
/** Packets before the event loop gets its turn: reading in place costs little. */
const BUDGET = 4096;

class PacketLink extends DescriptorLink {
	readonly mapped: boolean;
	private readonly ring: KernelRing | PacketBatch;
	private readonly filter: FilterProgram | undefined;
	private readonly dropCount = new Uint32Array(3);
	private readonly dropLength = new Uint32Array(1);

	constructor(
		libc: Libc,
		fd: number,
		ring: KernelRing | PacketBatch,
		options: LinkOptions,
		filter: FilterProgram | undefined,
	) {
		super(libc, fd, options);
		this.ring = ring;
		this.mapped = ring instanceof KernelRing;
		this.filter = filter;
	}

	override stats(): LinkStats {
		this.readDrops();
		return super.stats();
	}

	protected override drain(): void {
		this.ring.drain(
			this.fd,
			(frame) => {
				if (this.filter === undefined || this.filter.matches(frame)) this.deliver(frame);
			},
			BUDGET,
			() => !this.closed,
		);
	}

	protected override transmit(frame: Uint8Array): boolean {
		const { libc } = this;
		if (libc.send(this.fd, frame, frame.length, MSG_DONTWAIT) >= 0) return true;
		const errno = libc.errno();
		return errno === EAGAIN || errno === ENOBUFS ? this.awaitWritable() : this.dropSent(frame);
	}

	protected override shutdown(): void {
		super.shutdown();
		this.ring.close();
	}

	/** The kernel's count starts over with every look. */
	private readDrops(): void {
		if (this.closed) return;
		this.dropLength[0] = 12;
		if (this.libc.getsockopt(this.fd, SOL_PACKET, PACKET_STATISTICS, this.dropCount, this.dropLength) === 0)
			this.rxDropped += this.dropCount[1]!;
	}
}

/** Returns the program's memory, which must outlive the call that names its address. */
function attachFilter(libc: Libc, fd: number, program: FilterProgram): Uint8Array {
	const code = new Uint8Array(8 * program.instructions.length);
	const view = new DataView(code.buffer);
	for (const [index, { code: operation, jt, jf, k }] of program.instructions.entries()) {
		view.setUint16(8 * index, operation, true);
		view.setUint8(8 * index + 2, jt);
		view.setUint8(8 * index + 3, jf);
		view.setUint32(8 * index + 4, k, true);
	}
	const header = new Uint8Array(16);
	const words = new DataView(header.buffer);
	words.setUint16(0, program.instructions.length, true);
	words.setBigUint64(8, libc.addressOf(code), true);
	if (libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, header, 16) < 0) {
		throw systemFailure(
			libc,
			"setsockopt(SO_ATTACH_FILTER)",
			`the kernel refuses the filter ${JSON.stringify(program.expression)}`,
		);
	}
	return code;
}

function bindTo(libc: Libc, fd: number, index: number, name: string): void {
	const address = new Uint8Array(20);
	const view = new DataView(address.buffer);
	view.setUint16(0, AF_PACKET, true);
	view.setUint16(2, ETH_P_ALL_BE, true);
	view.setInt32(4, index, true);
	if (libc.bind(fd, address, 20) < 0) throw systemFailure(libc, "bind", `cannot listen on ${name}`, "CAP_NET_RAW");
}

/**
 * Opens an existing interface's packets, all of them, read in place out of a ring that the kernel fills. Linux with
 * koffi.
 *
 * @throws LinkError `ERR_LINK_PERMISSION` (CAP_NET_RAW), `ERR_LINK_NOT_FOUND`, `ERR_LINK_UNSUPPORTED`
 */
export async function openPacket(options: PacketOptions): Promise<Link> {
	const libc = await loadLibc();
	const { interface: name, fanOutGroup } = options;
	if (fanOutGroup !== undefined && !(fanOutGroup >= 0 && fanOutGroup <= 65535)) {
		throw new LinkError("ERR_LINK_OPTION", `fanOutGroup is ${fanOutGroup}: give a whole number from 0 to 65535`);
	}
	return inNamespace(libc, options.netns, () => {
		const index = interfaceIndex(libc, name);
		const mtu = options.mtu ?? Math.min(65535, interfaceMtu(libc, name));
		// Protocol 0 until everything is set: nothing of other interfaces, or past the filter, gets in.
		const opened = libc.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK_CLOEXEC, 0);
		if (opened < 0) throw systemFailure(libc, "socket", `cannot open a packet socket on ${name}`, "CAP_NET_RAW");
		const fd = holdDescriptor(libc, opened);
		let ring: KernelRing | undefined;
		try {
			const set = (option: number, value: Uint32Array, what: string): void => {
				if (libc.setsockopt(fd, SOL_PACKET, option, value, value.byteLength) < 0)
					throw systemFailure(libc, `setsockopt(${what})`, `cannot set up ${name}`);
			};
			const { filter } = options;
			if (filter !== undefined && !filter.testsVlan) attachFilter(libc, fd, filter);
			if (options.outgoing !== true) set(PACKET_IGNORE_OUTGOING, Uint32Array.of(1), "PACKET_IGNORE_OUTGOING");
			const mode = options.ring ?? (isMainThread ? "v2" : "none");
			if (mode === "none") set(PACKET_AUXDATA, Uint32Array.of(1), "PACKET_AUXDATA");
			ring =
				mode === "none"
					? undefined
					: new KernelRing(libc, fd, {
							version: mode === "v3" ? 3 : 2,
							longest: mtu + 18,
							...(options.ringBytes === undefined ? {} : { bytes: options.ringBytes }),
							...(options.blockTimeoutMs === undefined ? {} : { blockTimeoutMs: options.blockTimeoutMs }),
						});
			bindTo(libc, fd, index, name);
			if (options.promiscuous ?? true)
				set(PACKET_ADD_MEMBERSHIP, Uint32Array.of(index, PACKET_MR_PROMISC, 0, 0), "PACKET_ADD_MEMBERSHIP");
			if (fanOutGroup !== undefined) set(PACKET_FANOUT, Uint32Array.of(fanOutGroup), "PACKET_FANOUT");
			return new PacketLink(
				libc,
				fd,
				ring ?? new PacketBatch(libc, mtu + 18),
				{ mtu },
				filter?.testsVlan === true ? filter : undefined,
			);
		} catch (error) {
			ring?.close();
			releaseDescriptor(fd);
			throw error;
		}
	});
}
