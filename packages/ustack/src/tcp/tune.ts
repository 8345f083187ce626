import type { TcpConnection } from "./connection.ts";
import type { SegmentIn } from "./input.ts";
import { stampOf } from "./rtt.ts";
import { before, distance } from "./seq.ts";

/** How a connection's buffers, and with them the window it offers, follow what its path and its user take. */
export interface BufferTuning {
	/** Data arrived in order. */
	arrived(c: TcpConnection, length: number, now: number): void;
	/** Data arrived ahead of a hole. */
	ahead(c: TcpConnection, length: number): void;
	/** A segment with a timestamp and data arrived. */
	echo(c: TcpConnection, s: SegmentIn, now: number): void;
	/** The user took bytes. */
	consumed(c: TcpConnection, now: number): void;
	/** New data was acknowledged by the peer. */
	acknowledged(c: TcpConnection): void;
}

/** Buffers that grow with the window, as Linux's do. */
export const AUTOTUNING: BufferTuning = {
	arrived(c, length, now) {
		measureWindow(c, now);
		if (length >= 128) growWindow(c, length);
	},
	ahead: growWindow,
	echo(c, s, now) {
		const { options } = s;
		if (!options.hasTimestamp || options.tsEcr === c.receiveEcho || s.length < c.rcvMss) return;
		c.receiveEcho = options.tsEcr;
		// The echo of a timestamp of ours that comes with data: the receiver's round trip.
		const sample = distance(stampOf(c, now), options.tsEcr);
		if (sample < 0) return;
		const rtt = Math.max(sample, 1);
		c.receiveRtt = c.receiveRtt === 0 ? rtt : c.receiveRtt + (rtt - c.receiveRtt) / 8;
	},
	consumed: tuneReceive,
	acknowledged(c) {
		const wanted = 2 * c.cwnd * c.mss;
		if (wanted > c.sendLimit) c.sendLimit = Math.min(wanted, c.layer.config.maxSendBuffer);
	},
};

/** The time a whole offered window takes to arrive is a round trip at the most. */
function measureWindow(c: TcpConnection, now: number): void {
	if (c.receiveRttAt >= 0) {
		if (before(c.rcvNxt, c.receiveRttSeq)) return;
		const sample = Math.max(now - c.receiveRttAt, 1);
		if (c.receiveRtt === 0 || sample < c.receiveRtt) c.receiveRtt = sample;
	}
	c.receiveRttSeq = (c.rcvNxt + c.rcvWnd) | 0;
	c.receiveRttAt = now;
}

/** What arrived in good order earns the peer more window, two segments for one. */
function growWindow(c: TcpConnection, length: number): void {
	const room = Math.min(c.receiveLimit - c.recvRing.length, 0xffff << c.rcvWscale) - c.receiveSsthresh;
	if (room > 0) c.receiveSsthresh += Math.min(room, Math.max(2 * c.advertisedMss, 2 * length));
}

/**
 * Dynamic right-sizing: the buffer follows twice what the user takes in a round trip, up to the configured limit, so
 * that the window never limits a reader that keeps up.
 */
function tuneReceive(c: TcpConnection, now: number): void {
	if (c.receiveFixed) return;
	const rtt = c.receiveRtt > 0 ? c.receiveRtt : c.srtt;
	if (now - c.tuneAt < rtt || rtt === 0) {
		if (c.tuneAt === 0) c.tuneAt = now;
		return;
	}
	const copied = distance(c.copiedSeq, c.tuneSeq);
	if (copied > c.tuneSpace) {
		c.tuneSpace = copied;
		const wanted = 2 * copied + 16 * c.advertisedMss;
		if (wanted > c.receiveLimit) c.receiveLimit = Math.min(wanted * 2, c.layer.config.maxReceiveBuffer);
	}
	c.tuneSeq = c.copiedSeq;
	c.tuneAt = now;
}
