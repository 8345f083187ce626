/** What a controller reads and writes of its connection; windows in segments, times in milliseconds. */
export interface CongestionView {
	cwnd: number;
	ssthresh: number;
	mss: number;
	/** Smoothed RTT, 0 before the first sample. */
	srtt: number;
	minRtt: number;
	/** Segments in flight before the acknowledgement. */
	inFlight(): number;
	sndUna: number;
	sndNxt: number;
}

/** A congestion controller; `onAck` is called only when the window was the limit. */
export interface Congestion {
	readonly name: string;
	/** `acked` segments were newly acknowledged outside recovery. */
	onAck(connection: CongestionView, acked: number, now: number): void;
	/** A round-trip sample, also when the window was not the limit. */
	onRtt(connection: CongestionView, rtt: number, now: number): void;
	/** The window to fall to upon a congestion event. */
	ssthresh(connection: CongestionView): number;
	/** A retransmission timeout: what was learned of the path is void. */
	onTimeout(connection: CongestionView): void;
	/** Sending starts again after a pause of this long. */
	onIdle(pause: number): void;
	/** A reduction turned out wrong. */
	onUndo(connection: CongestionView): void;
}

/** Slow start; returns what of `acked` is left once ssthresh is reached (RFC 5681 3.1 with byte counting by segment). */
export function slowStart(connection: CongestionView, acked: number): number {
	const target = Math.min(connection.cwnd + acked, Math.max(connection.ssthresh, connection.cwnd));
	const used = target - connection.cwnd;
	connection.cwnd = target;
	return acked - used;
}

/** RFC 5681 and 6582's window. */
export class NewReno implements Congestion {
	readonly name: string = "reno";
	private counted = 0;

	onAck(connection: CongestionView, acked: number, _now: number): void {
		let left = acked;
		if (connection.cwnd < connection.ssthresh) {
			left = slowStart(connection, left);
			if (left === 0) return;
		}
		this.counted += left;
		if (this.counted >= connection.cwnd) {
			const steps = Math.floor(this.counted / connection.cwnd);
			this.counted -= steps * connection.cwnd;
			connection.cwnd += steps;
		}
	}

	onRtt(): void {}

	ssthresh(connection: CongestionView): number {
		return Math.max(connection.cwnd >> 1, 2);
	}

	onTimeout(): void {
		this.counted = 0;
	}

	onIdle(): void {}

	onUndo(): void {}
}
