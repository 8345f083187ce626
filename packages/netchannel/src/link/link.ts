/**
 * Segmentation asked of (or already done by) the other side, as virtio-net's header has it (VIRTIO 1.2, 5.1.6.2).
 * `none` is an ordinary frame.
 */
export type GsoType = "none" | "tcpv4" | "tcpv6" | "udp";

/**
 * What travels beside a frame's bytes so that checksums and segmentation need not be done on the way: the host form of
 * `struct virtio_net_hdr`. Absent means a finished frame whose checksums are unverified.
 */
export interface Offload {
	/** The checksum from `csumStart` to the end is left for the receiver; the field holds the pseudo-header's sum. */
	readonly needsCsum: boolean;
	/** The sender vouches for the checksums. */
	readonly dataValid: boolean;
	/** Byte offset in the frame where checksumming starts. */
	readonly csumStart: number;
	/** Byte offset from `csumStart` of the checksum field. */
	readonly csumOffset: number;
	readonly gsoType: GsoType;
	/** Payload bytes a segment is to carry when `gsoType` is not `none`. */
	readonly gsoSize: number;
	/** Bytes of headers before the payload, a hint. */
	readonly hdrLen: number;
	/** TCP ECN (CWR) must be kept on the first segment only. */
	readonly ecn: boolean;
}

/** What a link's far side accepts unfinished. */
export interface LinkFeatures {
	/** Frames may be sent with `needsCsum`. */
	readonly checksum: boolean;
	readonly tso4: boolean;
	readonly tso6: boolean;
	readonly uso: boolean;
}

/** Counters of a link since it was opened; bytes are frame bytes, without the transport's own framing. */
export interface LinkStats {
	readonly txFrames: number;
	readonly txBytes: number;
	/** Frames that were accepted but could not be sent: no carrier, or shorter than a header. */
	readonly txDropped: number;
	readonly rxFrames: number;
	readonly rxBytes: number;
	/** Frames that arrived while `onFrame` was undefined, over the MTU, or that the kernel dropped for want of room. */
	readonly rxDropped: number;
}

/**
 * Called once per frame. `frame` is the link's own memory and valid only during the call: copy what is kept.
 */
export type FrameReceiver = (frame: Uint8Array, offload?: Offload) => void;

/**
 * One end of a wire that carries frames. Every link of this package is one, every middleware wraps one, and stacks and
 * network cards are built against nothing else.
 */
export interface Link {
	/** `ethernet` frames start with a destination MAC; `ip` frames with the IP header. */
	readonly medium: "ethernet" | "ip";
	/** Largest frame payload in bytes, without the Ethernet header (1500 for classic Ethernet). */
	readonly mtu: number;
	readonly features: LinkFeatures;
	/**
	 * Sends one frame; the bytes are copied or sent before it returns, the caller keeps the buffer.
	 *
	 * @returns false when the far side has no room: the frame was not taken, try again on `onWritable`
	 * @throws LinkError `ERR_LINK_CLOSED` after close, `ERR_FRAME_TOO_LONG` over the MTU
	 */
	send(frame: Uint8Array, offload?: Offload): boolean;
	/** Where frames go as they arrive; frames that arrive while it is undefined are dropped and counted. */
	onFrame: FrameReceiver | undefined;
	/** Called once after a `send` returned false, when there is room again. */
	onWritable: (() => void) | undefined;
	/**
	 * Called when the link failed by itself: it is closed by then. A callback of yours that throws ends here too, as a
	 * LinkError `ERR_LINK_CALLBACK` with the error as its cause; the link goes on then.
	 */
	onError: ((error: Error) => void) | undefined;
	/** What went through, where the link counts. */
	stats?(): LinkStats;
	/**
	 * Stops this thread until something arrived and was delivered, for links that can: those of the kernel. Returns false
	 * after `timeoutMs`.
	 */
	readonly wait?: ((timeoutMs: number) => boolean) | undefined;
	/** Whether the frames it delivers lie in memory shared with the kernel. */
	readonly mapped?: boolean;
	/** Whether somebody is at the other end, where the link can know. Frames sent without are dropped and counted. */
	readonly carrier?: boolean;
	/** Called when {@link carrier} changes. */
	onCarrier?: ((up: boolean) => void) | undefined;
	/** Gives everything back; idempotent, calls nothing afterwards. */
	close(): void;
}
