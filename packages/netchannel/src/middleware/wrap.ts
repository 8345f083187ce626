import type { FrameReceiver, Link, LinkFeatures, LinkStats, Offload } from "../link/link.ts";

/**
 * A link around another: passes everything through. Middleware overrides what it changes; closing it closes what it
 * wraps.
 */
export class WrappedLink implements Link {
	protected readonly inner: Link;
	protected receiver: FrameReceiver | undefined = undefined;

	constructor(inner: Link) {
		this.inner = inner;
	}

	get medium(): "ethernet" | "ip" {
		return this.inner.medium;
	}

	get mtu(): number {
		return this.inner.mtu;
	}

	get features(): LinkFeatures {
		return this.inner.features;
	}

	get carrier(): boolean {
		return this.inner.carrier ?? true;
	}

	get onCarrier(): ((up: boolean) => void) | undefined {
		return this.inner.onCarrier;
	}

	set onCarrier(callback: ((up: boolean) => void) | undefined) {
		this.inner.onCarrier = callback;
	}

	get onFrame(): FrameReceiver | undefined {
		return this.receiver;
	}

	set onFrame(receiver: FrameReceiver | undefined) {
		this.receiver = receiver;
		this.inner.onFrame = receiver === undefined ? undefined : (frame, offload) => this.input(frame, offload);
	}

	get onWritable(): (() => void) | undefined {
		return this.inner.onWritable;
	}

	set onWritable(callback: (() => void) | undefined) {
		this.inner.onWritable = callback;
	}

	get onError(): ((error: Error) => void) | undefined {
		return this.inner.onError;
	}

	set onError(callback: ((error: Error) => void) | undefined) {
		this.inner.onError = callback;
	}

	send(frame: Uint8Array, offload?: Offload): boolean {
		return this.inner.send(frame, offload);
	}

	stats(): LinkStats {
		return this.inner.stats?.() ?? { txFrames: 0, txBytes: 0, txDropped: 0, rxFrames: 0, rxBytes: 0, rxDropped: 0 };
	}

	get wait(): ((timeoutMs: number) => boolean) | undefined {
		return this.inner.wait === undefined ? undefined : (timeoutMs) => this.inner.wait!(timeoutMs);
	}

	close(): void {
		this.receiver = undefined;
		this.inner.close();
	}

	[Symbol.dispose](): void {
		this.close();
	}

	/** A frame came from the wrapped link. */
	protected input(frame: Uint8Array, offload?: Offload): void {
		this.receiver?.(frame, offload);
	}
}
