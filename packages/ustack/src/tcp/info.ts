import type { TcpConnection } from "./connection.ts";
import { limitTimes } from "./limits.ts";
import { CA_NAMES, type TcpState } from "./state.ts";

/** {@link TcpConnection.info}: Linux's tcp_info by its own field names without the prefix; times in microseconds. */
export interface TcpInfo {
	state: TcpState;
	caState: string;
	retransmits: number;
	probes: number;
	backoff: number;
	options: { timestamps: boolean; sack: boolean; wscale: boolean; ecn: boolean; ecnSeen: boolean; synData: boolean };
	sndWscale: number;
	rcvWscale: number;
	rto: number;
	ato: number;
	sndMss: number;
	rcvMss: number;
	unacked: number;
	sacked: number;
	lost: number;
	retrans: number;
	pmtu: number;
	rtt: number;
	rttvar: number;
	minRtt: number;
	sndSsthresh: number;
	sndCwnd: number;
	advmss: number;
	reordering: number;
	rcvSpace: number;
	totalRetrans: number;
	totalRto: number;
	bytesAcked: number;
	bytesReceived: number;
	bytesSent: number;
	bytesRetrans: number;
	segsOut: number;
	segsIn: number;
	dataSegsOut: number;
	dataSegsIn: number;
	notsentBytes: number;
	delivered: number;
	deliveredCe: number;
	dsackDups: number;
	sndWnd: number;
	rcvWnd: number;
	rcvOoopack: number;
	reordSeen: number;
	/** Milliseconds since data left, data came, an acknowledgement came. */
	lastDataSent: number;
	lastDataRecv: number;
	lastAckRecv: number;
	/** Time with data to send; of it, waiting for the peer's window and for the user. */
	busyTime: number;
	rwndLimited: number;
	sndbufLimited: number;
	rcvSsthresh: number;
	rcvRtt: number;
	fastopenClientFail: number;
}

/** A connection's {@link TcpInfo}. */
export function tcpInfo(c: TcpConnection): TcpInfo {
	const us = (ms: number) => Math.round(ms * 1000);
	const { now } = c.layer.stack;
	const waits = limitTimes(c, now);
	return {
		state: c.stateName,
		caState: CA_NAMES[c.caState]!,
		retransmits: c.retransmits,
		probes: c.probesOut,
		backoff: c.backoff,
		options: {
			timestamps: c.tsOk,
			sack: c.sackOk,
			wscale: c.wscaleOk,
			ecn: c.ecnOk,
			ecnSeen: c.ecnSeen,
			synData: c.synDataAcked,
		},
		sndWscale: c.sndWscale,
		rcvWscale: c.rcvWscale,
		rto: us(c.rto * 2 ** c.backoff),
		ato: us(c.ato),
		sndMss: c.mss,
		rcvMss: c.rcvMss,
		unacked: c.packetsOut,
		sacked: c.sackedOut,
		lost: c.lostOut,
		retrans: c.retransOut,
		pmtu: c.path.mtu,
		rtt: us(c.srtt),
		rttvar: us(c.rttvar / 4),
		minRtt: c.minRtt === Number.POSITIVE_INFINITY ? 0 : us(c.minRtt),
		sndSsthresh: c.ssthresh,
		sndCwnd: c.cwnd,
		advmss: c.advertisedMss,
		reordering: c.reordering,
		rcvSpace: c.tuneSpace,
		totalRetrans: c.totalRetrans,
		totalRto: c.timeouts,
		bytesAcked: c.bytesAcked,
		bytesReceived: c.bytesReceived,
		bytesSent: c.bytesSent,
		bytesRetrans: c.bytesRetrans,
		segsOut: c.segsOut,
		segsIn: c.segsIn,
		dataSegsOut: c.dataSegsOut,
		dataSegsIn: c.dataSegsIn,
		notsentBytes: c.unsent,
		delivered: c.delivered,
		deliveredCe: c.deliveredCe,
		dsackDups: c.dsackDups,
		sndWnd: c.sndWnd,
		rcvWnd: c.rcvWnd,
		rcvOoopack: c.outOfOrderIn,
		reordSeen: c.reorderings,
		lastDataSent: Math.round(now - c.lastDataSentAt),
		lastDataRecv: Math.round(now - c.lastDataAt),
		lastAckRecv: Math.round(now - c.lastAckAt),
		busyTime: us(waits.busy),
		rwndLimited: us(waits.window),
		sndbufLimited: us(waits.buffer),
		rcvSsthresh: c.receiveSsthresh,
		rcvRtt: us(c.receiveRtt),
		fastopenClientFail: c.fastOpenFailure,
	};
}
