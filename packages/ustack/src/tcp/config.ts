/** Congestion controllers by name. */
export type CongestionName = "cubic" | "reno";

/**
 * How TCP behaves; the defaults are Linux's. Times in milliseconds, sizes in bytes, `…Segments` in segments.
 */
export interface TcpConfig {
	/** @default "cubic" */
	congestion: CongestionName;
	/** Selective acknowledgements (RFC 2018). @default true */
	sack: boolean;
	/** Duplicate SACK (RFC 2883). @default true */
	dsack: boolean;
	/** RFC 7323 timestamps. @default true */
	timestamps: boolean;
	/** RFC 7323 window scaling. @default true */
	windowScaling: boolean;
	/** RFC 3168: `request` asks for it, `accept` takes it when asked. @default "accept" */
	ecn: "off" | "accept" | "request";
	/** RFC 8985 loss detection; off leaves three duplicate acknowledgements. @default true */
	rack: boolean;
	/** Tail loss probes (RFC 8985 section 7). @default true */
	tlp: boolean;
	/** RFC 5682. @default true */
	frto: boolean;
	/** Start again from the initial window after an idle RTO (RFC 5681 4.1). @default true */
	slowStartAfterIdle: boolean;
	/** Leave slow start with CUBIC before loss does: HyStart++ (RFC 9406), or Linux's earlier HyStart. @default true */
	hystart: boolean;
	/** RFC 9438's growth, or Linux's counting, which is slower to make up for what Reno would have. @default "rfc" */
	cubicStyle: "rfc" | "linux";
	/** RFC 6928. @default 10 */
	initialWindowSegments: number;
	/** @default 1000 */
	initialRtoMs: number;
	/** @default 200 */
	minRtoMs: number;
	/** @default 120_000 */
	maxRtoMs: number;
	/** The longest a lone segment's acknowledgement waits. @default 40 */
	delayedAckMs: number;
	/** Tries of a SYN before ETIMEDOUT. @default 6 */
	synRetries: number;
	/** Timeouts of a SYN that do not double the next; those retries come on top. @default 0, as RFC 6298 5.5 has it */
	synLinearTimeouts: number;
	/** Tries of a SYN-ACK. @default 5 */
	synAckRetries: number;
	/** Retransmissions of data before ETIMEDOUT. @default 15 */
	retries: number;
	/** The same once nobody holds the connection any more. @default 8 */
	orphanRetries: number;
	/** Receive buffer at first and at most; the window is tuned between the two. @default 131_072 */
	receiveBuffer: number;
	/** @default 16_777_216 */
	maxReceiveBuffer: number;
	/** @default 262_144 */
	sendBuffer: number;
	/** @default 16_777_216 */
	maxSendBuffer: number;
	/** Idle time before the first keepalive probe, where the socket asks for probes. @default 7_200_000 */
	keepAliveIdleMs: number;
	/** @default 75_000 */
	keepAliveIntervalMs: number;
	/** @default 9 */
	keepAliveProbes: number;
	/** @default 60_000 */
	timeWaitMs: number;
	/** How long a closed connection waits in FIN-WAIT-2. @default 60_000 */
	finWait2Ms: number;
	/** Connections in TIME-WAIT kept at most; the oldest go first. @default 32_768 */
	maxTimeWait: number;
	/** Answer a full backlog with cookies instead of silence (RFC 4987). @default true */
	synCookies: boolean;
	/**
	 * Data beyond the offered window: `trim` takes what fits (RFC 9293 3.10.7.4); `whole`, as Linux, takes a segment
	 * whole while nothing waits to be read and drops it otherwise. @default "trim"
	 */
	beyondWindow: "trim" | "whole";
	/** Acknowledge a segment that acknowledges what was never sent (RFC 9293 3.10.7.4); Linux drops it. @default true */
	answerUnsentAck: boolean;
	/** Largest MSS to announce; 0 for what the interface's MTU gives. @default 0 */
	maxSegmentSize: number;
	/** RFC 4821 probing: `onBlackhole` starts after repeated timeouts. @default "onBlackhole" */
	mtuProbing: "off" | "onBlackhole" | "always";
	/** MSS probing falls back to. @default 1024 */
	baseMss: number;
	/** Segments of one connection sent per poll before others get their turn. @default 128 */
	burstSegments: number;
	/** First and last ephemeral port. @default [32_768, 60_999] */
	ephemeralPorts: readonly [number, number];
	/**
	 * RFC 7413, as Linux's sysctl: 1 client, 2 server, 0x200 server without cookies, 0x400 every listener. @default 0
	 */
	fastOpen: number;
	/** Keys of 16 bytes the server's cookies are made with, the present one first. @default random */
	fastOpenKeys: readonly Uint8Array[] | undefined;
	/** How long the client's Fast Open stays off after a path ate its SYNs, doubling; 0 for not at all. @default 0 */
	fastOpenBlackholeMs: number;
}

/** {@link TcpConfig}'s defaults. */
export const DEFAULT_TCP_CONFIG: TcpConfig = {
	congestion: "cubic",
	sack: true,
	dsack: true,
	timestamps: true,
	windowScaling: true,
	ecn: "accept",
	rack: true,
	tlp: true,
	frto: true,
	slowStartAfterIdle: true,
	hystart: true,
	cubicStyle: "rfc",
	initialWindowSegments: 10,
	initialRtoMs: 1_000,
	minRtoMs: 200,
	maxRtoMs: 120_000,
	delayedAckMs: 40,
	synRetries: 6,
	synLinearTimeouts: 0,
	synAckRetries: 5,
	retries: 15,
	orphanRetries: 8,
	receiveBuffer: 131_072,
	maxReceiveBuffer: 16 << 20,
	sendBuffer: 262_144,
	maxSendBuffer: 16 << 20,
	keepAliveIdleMs: 7_200_000,
	keepAliveIntervalMs: 75_000,
	keepAliveProbes: 9,
	timeWaitMs: 60_000,
	finWait2Ms: 60_000,
	maxTimeWait: 32_768,
	synCookies: true,
	beyondWindow: "trim",
	answerUnsentAck: true,
	maxSegmentSize: 0,
	mtuProbing: "onBlackhole",
	baseMss: 1024,
	burstSegments: 128,
	ephemeralPorts: [32_768, 60_999],
	fastOpen: 0,
	fastOpenKeys: undefined,
	fastOpenBlackholeMs: 0,
};
