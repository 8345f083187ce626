import { Worker } from "node:worker_threads";
import { pushPacket, recordPacket } from "../channel/channel.ts";
import { LinkBase } from "../link/base.ts";
import { LinkError, type LinkErrorCode } from "../link/errors.ts";
import type { Link, LinkFeatures, Offload } from "../link/link.ts";
import { RingConsumer } from "../ring/consumer.ts";
import type { RingHandle } from "../ring/layout.ts";
import { viewRing } from "../ring/memory.ts";
import { RingProducer } from "../ring/producer.ts";
import { createRing } from "../ring/ring.ts";
import { holdDescriptor, type Libc, loadLibc, releaseDescriptor, systemFailure } from "./libc.node.ts";

/** Options of {@link openThreadedLink}. */
export interface ThreadedLinkOptions {
	mtu?: number;
	/** Bytes of each way's ring, a power of two. @default 2 ** 22 */
	ringBytes?: number;
}

/** What the thread is started with. */
export interface IoThreadData {
	url: string;
	mtu: number | undefined;
	receive: RingHandle;
	transmit: RingHandle;
	/** An eventfd that wakes the thread out of poll(2). */
	doorbell: number;
}

/** What the thread says. */
export type IoThreadReply =
	| { opened: { medium: "ethernet" | "ip"; mtu: number; features: LinkFeatures } }
	| {
			failed: {
				code: string;
				message: string;
				errno: number | undefined;
				errnoName: string | undefined;
				syscall: string | undefined;
			};
	  };

const EFD_NONBLOCK_CLOEXEC = 0x80800;

class ThreadedLink extends LinkBase {
	private readonly worker: Worker;
	private readonly incoming: RingConsumer;
	private readonly outgoing: RingProducer;
	private scheduled = false;

	constructor(
		libc: Libc,
		worker: Worker,
		data: IoThreadData,
		opened: { medium: "ethernet" | "ip"; mtu: number; features: LinkFeatures },
	) {
		super(opened, opened.features);
		this.worker = worker;
		this.incoming = new RingConsumer(viewRing(data.receive));
		const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
		const view = viewRing(data.transmit);
		const sleeper = {
			...view.sleeper,
			canBlock: view.sleeper.canBlock,
			wake: () => void libc.write(data.doorbell, one, 8),
		};
		this.outgoing = new RingProducer({ ...view, sleeper });
		worker.on("message", (reply: IoThreadReply) => {
			if ("failed" in reply) this.fail(toError(reply.failed));
		});
		worker.on("error", (error) => this.fail(error as Error));
		worker.on("exit", () => {
			releaseDescriptor(data.doorbell);
			this.fail(new LinkError("ERR_LINK_IO", "the link's thread ended"));
		});
		void this.pump();
	}

	protected override transmit(frame: Uint8Array, offload: Offload | undefined): boolean {
		if (!pushPacket(this.outgoing, frame, offload)) {
			void this.outgoing.waitWritableAsync(frame.length + 64).then(() => this.writable());
			return false;
		}
		if (!this.scheduled) {
			this.scheduled = true;
			queueMicrotask(() => {
				this.scheduled = false;
				this.outgoing.publish();
			});
		}
		return true;
	}

	/** The thread sends what was taken, closes the link and ends. */
	protected override shutdown(): void {
		this.outgoing.close();
		this.incoming.close();
		this.worker.removeAllListeners("message");
	}

	private async pump(): Promise<void> {
		const { incoming } = this;
		while (!this.closed) {
			if (!(await incoming.waitAsync())) {
				if (incoming.peerClosed) return;
				continue;
			}
			for (let count = 0; count < 256 && !this.closed && incoming.next(); count++) {
				const { bytes, offload } = recordPacket(incoming);
				this.deliver(bytes, offload);
			}
			incoming.release();
		}
	}
}

function toError(failed: Extract<IoThreadReply, { failed: unknown }>["failed"]): LinkError {
	const { code, message, ...rest } = failed;
	return new LinkError(code.startsWith("ERR_") ? (code as LinkErrorCode) : "ERR_LINK_IO", message, rest);
}

/**
 * Opens a TAP, TUN or packet link in a thread of its own, which waits in poll(2) and hands packets over in batches
 * through a ring: for links so busy that this thread should not make their system calls.
 *
 * @param url - `tap:`, `tun:` or `packet:`
 * @throws LinkError what opening the link throws
 */
export async function openThreadedLink(url: string, options: ThreadedLinkOptions = {}): Promise<Link> {
	if (!/^(tap|tun|packet):/.test(url)) {
		throw new LinkError("ERR_LINK_OPTION", `${url}: only tap:, tun: and packet: links have a thread of their own`);
	}
	const libc = await loadLibc();
	const made = libc.eventfd(0, EFD_NONBLOCK_CLOEXEC);
	if (made < 0) throw systemFailure(libc, "eventfd", "cannot make a doorbell");
	const capacity = options.ringBytes ?? 2 ** 22;
	const data: IoThreadData = {
		url,
		mtu: options.mtu,
		receive: createRing({ capacity, shared: true }),
		transmit: createRing({ capacity, shared: true }),
		doorbell: holdDescriptor(libc, made),
	};
	const worker = new Worker(new URL("./io-thread.js", import.meta.url), { workerData: data });
	return new Promise((resolve, reject) => {
		const failed = (error: Error): void => {
			releaseDescriptor(data.doorbell);
			reject(error);
		};
		worker.once("error", failed);
		worker.once("message", (reply: IoThreadReply) => {
			worker.off("error", failed);
			if ("failed" in reply) failed(toError(reply.failed));
			else resolve(new ThreadedLink(libc, worker, data, reply.opened));
		});
	});
}
