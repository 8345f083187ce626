import { LinkBase, type LinkOptions } from "../link/base.ts";
import type { LinkFeatures } from "../link/link.ts";
import { type Libc, releaseDescriptor } from "./libc.node.ts";
import { type Watch, watchDescriptor } from "./readiness.node.ts";

const POLLIN = 1;
/** Longer waits have no end. */
const LONGEST_MS = 2 ** 31 - 1;

/** A link over a descriptor this thread watches. Implementations read and write it. */
export abstract class DescriptorLink extends LinkBase {
	protected readonly libc: Libc;
	protected readonly fd: number;
	private readonly watch: Watch;
	/** A `struct pollfd` for {@link wait}. */
	private readonly waited: Int32Array;

	/** @param fd - from `holdDescriptor`; the link closes it */
	constructor(libc: Libc, fd: number, options: LinkOptions, features?: LinkFeatures) {
		super(options, features);
		this.libc = libc;
		this.fd = fd;
		this.waited = Int32Array.of(fd, POLLIN);
		this.watch = watchDescriptor(libc, this.fd, {
			readable: () => {
				if (!this.closed) this.drain();
			},
			writable: () => this.writable(),
		});
	}

	/** Takes what waits, up to a budget that leaves the event loop its turn. */
	protected abstract drain(): void;

	/** Stops this thread until the link delivered something; false after `timeoutMs`. */
	wait(timeoutMs: number): boolean {
		if (this.closed) return false;
		const ms = timeoutMs > LONGEST_MS ? -1 : Math.ceil(timeoutMs);
		if (this.libc.poll(this.waited, 1, ms) <= 0) return false;
		this.drain();
		return true;
	}

	/** The descriptor took no more: `onWritable` follows. */
	protected awaitWritable(): false {
		this.watch.wantWritable();
		return false;
	}

	protected override shutdown(): void {
		this.watch.close();
		releaseDescriptor(this.fd);
	}
}
