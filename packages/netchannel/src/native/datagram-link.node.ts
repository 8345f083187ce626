import { lookup } from "node:dns/promises";
import { unlinkSync } from "node:fs";
import { isIP, isIPv6 } from "node:net";
import { parseAddress } from "../channel/address.ts";
import type { LinkOptions } from "../link/base.ts";
import { LinkError } from "../link/errors.ts";
import type { Link } from "../link/link.ts";
import { fromSystemError } from "../link/system-error.ts";
import { DatagramBatch } from "./datagrams.node.ts";
import { DescriptorLink } from "./descriptor-link.node.ts";
import { EAGAIN, holdDescriptor, type Libc, loadLibc, releaseDescriptor, systemFailure } from "./libc.node.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK_CLOEXEC = 0x80800;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
/** Bytes of `struct sockaddr_un`, rounded up. */
const NAME_BYTES = 112;
const SLOTS = 64;
/** Milliseconds until a full peer is tried again. */
const RETRY_MS = 1;

/** "VFKT": the first datagram of a virtual machine that comes to a vfkit socket. */
const VFKIT_HELLO = Uint8Array.of(0x56, 0x46, 0x4b, 0x54);

/** Where a link's datagrams go. */
interface Destination {
	/** Undefined for a connected socket, and for a peer that is yet to come. */
	address?: Uint8Array;
	/** The peer is whoever says hello. */
	awaited?: boolean;
	onClose?: () => void;
}

class BatchLink extends DescriptorLink {
	onCarrier: ((up: boolean) => void) | undefined = undefined;
	private readonly incoming: DatagramBatch;
	private outgoing: DatagramBatch | undefined;
	private readonly onClose: (() => void) | undefined;
	private readonly toAddress: boolean;
	private readonly awaited: boolean;
	private timer: ReturnType<typeof setTimeout> | undefined = undefined;
	private scheduled = false;

	constructor(libc: Libc, fd: number, options: LinkOptions, destination: Destination = {}) {
		super(libc, fd, options);
		const { address, awaited = false, onClose } = destination;
		this.awaited = awaited;
		this.incoming = new DatagramBatch(libc, SLOTS, this.longest + 1, awaited ? { nameBytes: NAME_BYTES } : {});
		this.outgoing = awaited ? undefined : new DatagramBatch(libc, SLOTS, this.longest, { address });
		this.onClose = onClose;
		this.toAddress = address !== undefined || awaited;
	}

	get carrier(): boolean {
		return !this.closed && this.outgoing !== undefined;
	}

	protected override drain(): void {
		const count = this.incoming.receive(this.fd);
		if (count < 0) {
			// A refused connection is a peer that is not there, not a broken wire.
			if (this.libc.errno() !== EAGAIN) this.rxDropped++;
			return;
		}
		for (let slot = 0; slot < count && !this.closed; slot++) {
			const datagram = this.incoming.received(slot);
			if (this.awaited && isHello(datagram)) this.meet(this.incoming.senderOf(slot));
			else this.deliver(datagram);
		}
	}

	/** The peer has come, or come again under another name. */
	private meet(address: Uint8Array): void {
		const first = this.outgoing === undefined;
		this.outgoing = new DatagramBatch(this.libc, SLOTS, this.longest, { address });
		if (first) this.call(this.onCarrier, true);
	}

	protected override transmit(frame: Uint8Array): boolean {
		const { outgoing } = this;
		if (outgoing === undefined) return this.dropSent(frame);
		if (!outgoing.room && !this.flush()) return false;
		outgoing.put(frame);
		if (!outgoing.room) this.flush();
		else if (!this.scheduled) {
			this.scheduled = true;
			queueMicrotask(() => {
				this.scheduled = false;
				if (!this.closed) this.flush();
			});
		}
		return true;
	}

	protected override writable(): void {
		if (!this.closed && this.flush()) super.writable();
	}

	protected override shutdown(): void {
		this.flush();
		clearTimeout(this.timer);
		super.shutdown();
		this.onClose?.();
	}

	private flush(): boolean {
		const done = this.outgoing?.flush(this.fd, () => this.txDropped++) ?? true;
		if (done) return true;
		if (this.toAddress) {
			// Without a connection poll(2) looks at our own queue only, which is never the full one.
			this.timer ??= setTimeout(() => {
				this.timer = undefined;
				this.writable();
			}, RETRY_MS);
			return false;
		}
		return this.awaitWritable();
	}
}

/** Options of {@link openUdpBatch}. */
export interface UdpBatchOptions extends LinkOptions {
	/** @default any address, any port */
	local?: { host?: string; port: number };
	remote: { host: string; port: number };
	/** @default 2 ** 21 */
	receiveBuffer?: number;
}

function inetAddress(host: string, port: number, family: 4 | 6): Uint8Array {
	const { words } = parseAddress(host);
	const bytes = new Uint8Array(family === 4 ? 16 : 28);
	const view = new DataView(bytes.buffer);
	view.setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
	view.setUint16(2, port);
	for (const [index, word] of words.entries()) view.setInt32((family === 4 ? 4 : 8) + 4 * index, word);
	return bytes;
}

/**
 * The UDP link with many datagrams in each system call (recvmmsg, sendmmsg): less work a packet than `openUdpLink`, on
 * Linux with koffi.
 */
export async function openUdpBatch(options: UdpBatchOptions): Promise<Link & { readonly port: number }> {
	const libc = await loadLibc();
	const { local, remote } = options;
	const host = isIP(remote.host) === 0 ? (await resolveHost(remote.host)).address : remote.host;
	const family = isIPv6(host) ? 6 : 4;
	const domain = family === 4 ? AF_INET : AF_INET6;
	const opened = libc.socket(domain, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0);
	if (opened < 0) throw systemFailure(libc, "socket", "cannot open a UDP socket");
	const fd = holdDescriptor(libc, opened);
	try {
		libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, Int32Array.of(options.receiveBuffer ?? 2 ** 21), 4);
		const from = inetAddress(local?.host ?? (family === 4 ? "0.0.0.0" : "::"), local?.port ?? 0, family);
		if (libc.bind(fd, from, from.length) < 0)
			throw systemFailure(libc, "bind", `cannot bind UDP port ${local?.port ?? 0}`);
		const to = inetAddress(host, remote.port, family);
		if (libc.connect(fd, to, to.length) < 0) throw systemFailure(libc, "connect", `cannot reach ${remote.host}`);
		const name = new Uint8Array(28);
		libc.getsockname(fd, name, Uint32Array.of(28));
		const link = new BatchLink(libc, fd, options);
		return Object.assign(link, { port: (name[2]! << 8) | name[3]! });
	} catch (error) {
		releaseDescriptor(fd);
		throw error;
	}
}

async function resolveHost(host: string): Promise<{ address: string }> {
	try {
		return await lookup(host);
	} catch (error) {
		throw fromSystemError(error, `cannot find ${host}`);
	}
}

/** Options of {@link openUnixDatagram}. */
export interface UnixDatagramOptions extends LinkOptions {
	/** Path this end is found at; made here, and removed on close. */
	local: string;
	/** Path of the peer, which may come later. Left out, the peer is whoever says vfkit's hello. */
	remote?: string;
	/** Say vfkit's hello to the peer, as vfkit and krunkit do to the network they connect to. @default false */
	hello?: boolean;
}

const isHello = (datagram: Uint8Array): boolean =>
	datagram.length === VFKIT_HELLO.length && VFKIT_HELLO.every((byte, index) => datagram[index] === byte);

function unixAddress(path: string): Uint8Array {
	const encoded = new TextEncoder().encode(path);
	if (encoded.length === 0 || encoded.length > 107) {
		throw new LinkError("ERR_LINK_OPTION", `${JSON.stringify(path)} is no socket path: 1 to 107 bytes`);
	}
	const bytes = new Uint8Array(2 + encoded.length + 1);
	new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
	bytes.set(encoded, 2);
	return bytes;
}

/**
 * A wire of Unix datagrams, one frame in each: QEMU's `-netdev dgram`, vfkit, and what else speaks so. Linux with koffi;
 * Node itself has no such sockets.
 *
 * @throws LinkError `ERR_LINK_BUSY` when the local path is taken
 */
export async function openUnixDatagram(options: UnixDatagramOptions): Promise<Link> {
	const libc = await loadLibc();
	const local = unixAddress(options.local);
	const remote = options.remote === undefined ? undefined : unixAddress(options.remote);
	if (remote === undefined && options.hello === true)
		throw new LinkError("ERR_LINK_OPTION", "a hello needs somebody to say it to: give remote");
	const opened = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0);
	if (opened < 0) throw systemFailure(libc, "socket", "cannot open a Unix socket");
	const fd = holdDescriptor(libc, opened);
	try {
		if (libc.bind(fd, local, local.length) < 0) throw systemFailure(libc, "bind", `cannot make ${options.local}`);
		const onClose = (): void => {
			try {
				unlinkSync(options.local);
			} catch {
				// Somebody removed it already: what close wants is so.
			}
		};
		if (remote !== undefined && options.hello === true) {
			const sent = libc.sendto(fd, VFKIT_HELLO, VFKIT_HELLO.length, 0, remote, remote.length);
			if (sent < 0) {
				const error = systemFailure(libc, "sendto", `cannot say hello to ${options.remote}`);
				onClose();
				throw error;
			}
		}
		return new BatchLink(
			libc,
			fd,
			options,
			remote === undefined ? { awaited: true, onClose } : { address: remote, onClose },
		);
	} catch (error) {
		releaseDescriptor(fd);
		throw error;
	}
}
