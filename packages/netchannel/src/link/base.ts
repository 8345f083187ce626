import { LinkError } from "./errors.ts";
import type { FrameReceiver, Link, LinkFeatures, LinkStats, Offload } from "./link.ts";
import { finishChecksum } from "./offload.ts";

/** Bytes of an Ethernet header, and of the VLAN tag a frame may have beyond it. */
export const ETHERNET_HEADER = 14;
export const VLAN_TAG = 4;

/** A link whose far side takes finished frames only. */
export const NO_FEATURES: LinkFeatures = { checksum: false, tso4: false, tso6: false, uso: false };

/** Options every link has. */
export interface LinkOptions {
	/** @default "ethernet" */
	medium?: "ethernet" | "ip";
	/** Bytes of payload a frame may carry, 68 to 65535. @default 1500 */
	mtu?: number;
}

/** Checks an MTU: IPv4 needs 68 bytes (RFC 791), and no link here carries more than 65535. */
export function requireMtu(mtu: number): number {
	if (!Number.isInteger(mtu) || mtu < 68 || mtu > 65535) {
		throw new LinkError("ERR_LINK_OPTION", `mtu is ${mtu}: give a whole number of bytes from 68 to 65535`);
	}
	return mtu;
}

/**
 * What every link does alike: checks, counts, and keeps a user's exception away from whoever delivers frames.
 * Implementations write {@link transmit} and {@link shutdown}.
 */
export abstract class LinkBase implements Link {
	readonly medium: "ethernet" | "ip";
	readonly mtu: number;
	readonly features: LinkFeatures;
	onWritable: (() => void) | undefined = undefined;
	onError: ((error: Error) => void) | undefined = undefined;
	/** Longest finished frame. */
	protected readonly longest: number;
	protected closed = false;
	protected txDropped = 0;
	protected rxDropped = 0;
	private readonly shortest: number;
	private receiver: FrameReceiver | undefined = undefined;
	private wantsWritable = false;
	private txFrames = 0;
	private txBytes = 0;
	private rxFrames = 0;
	private rxBytes = 0;

	constructor(options: LinkOptions, features: LinkFeatures = NO_FEATURES) {
		this.medium = options.medium ?? "ethernet";
		this.mtu = requireMtu(options.mtu ?? 1500);
		this.features = features;
		this.longest = this.mtu + (this.medium === "ethernet" ? ETHERNET_HEADER + VLAN_TAG : 0);
		this.shortest = this.medium === "ethernet" ? ETHERNET_HEADER : 1;
	}

	get onFrame(): FrameReceiver | undefined {
		return this.receiver;
	}

	set onFrame(receiver: FrameReceiver | undefined) {
		this.receiver = receiver;
		this.receiverChanged();
	}

	send(frame: Uint8Array, offload?: Offload): boolean {
		if (this.closed) throw new LinkError("ERR_LINK_CLOSED", "this link is closed: open a new one");
		const segmented = offload !== undefined && offload.gsoType !== "none";
		if (segmented && !this.segments(offload)) {
			throw new LinkError(
				"ERR_FRAME_TOO_LONG",
				`this link takes no ${offload.gsoType} segmentation: look at its features, or segment the frame first`,
			);
		}
		if (frame.length > this.longest && !segmented) {
			throw new LinkError(
				"ERR_FRAME_TOO_LONG",
				`a frame of ${frame.length} bytes does not fit this link (at most ${this.longest}); segment it first`,
			);
		}
		if (frame.length < this.shortest) {
			this.txDropped++;
			return true;
		}
		const finish = offload?.needsCsum === true && !this.features.checksum;
		if (!this.transmit(finish ? finishChecksum(frame, offload) : frame, finish ? undefined : offload)) {
			this.wantsWritable = true;
			return false;
		}
		this.txFrames++;
		this.txBytes += frame.length;
		return true;
	}

	stats(): LinkStats {
		const { txFrames, txBytes, txDropped, rxFrames, rxBytes, rxDropped } = this;
		return { txFrames, txBytes, txDropped, rxFrames, rxBytes, rxDropped };
	}

	close(): void {
		if (this.closed) return;
		this.closed = true;
		this.receiver = this.onWritable = this.onError = undefined;
		this.shutdown();
	}

	[Symbol.dispose](): void {
		this.close();
	}

	/** Takes the frame or returns false; later calls {@link writable}. */
	protected abstract transmit(frame: Uint8Array, offload: Offload | undefined): boolean;

	/** Gives everything back; called once. */
	protected abstract shutdown(): void;

	/** A receiver was set or taken away: sources that can wait begin or pause. */
	protected receiverChanged(): void {}

	/** A frame was taken but goes nowhere. */
	protected dropSent(frame: Uint8Array): true {
		this.txDropped++;
		// `send` counts what transmit took.
		this.txFrames--;
		this.txBytes -= frame.length;
		return true;
	}

	/** Hands a received frame to the user. */
	protected deliver(frame: Uint8Array, offload?: Offload): void {
		const receive = this.receiver;
		const tooLong = frame.length > this.longest && (offload === undefined || offload.gsoType === "none");
		if (receive === undefined || tooLong || frame.length < this.shortest) {
			this.rxDropped++;
			return;
		}
		this.rxFrames++;
		this.rxBytes += frame.length;
		try {
			receive(frame, offload);
		} catch (error) {
			this.report(error);
		}
	}

	/** There is room again. */
	protected writable(): void {
		if (!this.wantsWritable || this.closed) return;
		this.wantsWritable = false;
		this.call(this.onWritable);
	}

	/** Runs a user's callback; what it throws becomes an error event. */
	protected call<T extends unknown[]>(callback: ((...values: T) => void) | undefined, ...values: T): void {
		try {
			callback?.(...values);
		} catch (error) {
			this.report(error);
		}
	}

	/** Closes because of `error` and says so. */
	protected fail(error: Error): void {
		if (this.closed) return;
		const { onError } = this;
		this.close();
		if (onError === undefined) return;
		try {
			onError(error);
		} catch (thrown) {
			queueMicrotask(() => {
				throw thrown;
			});
		}
	}

	private segments(offload: Offload): boolean {
		const { tso4, tso6, uso } = this.features;
		return (
			(offload.gsoType === "tcpv4" && tso4) ||
			(offload.gsoType === "tcpv6" && tso6) ||
			(offload.gsoType === "udp" && uso)
		);
	}

	private report(thrown: unknown): void {
		const error = new LinkError("ERR_LINK_CALLBACK", `a callback of this link threw: ${String(thrown)}`, {
			cause: thrown,
		});
		const { onError } = this;
		try {
			if (onError !== undefined) {
				onError(error);
				return;
			}
		} catch {
			// Falls through: an error handler that throws is reported as if there were none.
		}
		// With nobody to tell, it must not vanish: it becomes the host's uncaught exception.
		queueMicrotask(() => {
			throw error;
		});
	}
}
