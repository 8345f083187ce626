/** A segment sent and not yet acknowledged: a node of a connection's retransmission queue. Pooled. */
export class Segment {
	seq = 0;
	/** One past its last sequence number; SYN and FIN count. */
	end = 0;
	/** SYN, FIN, PSH as on the wire. */
	flags = 0;
	sentAt = 0;
	/** Sent again at least once. */
	retransmissions = 0;
	sacked = false;
	lost = false;
	/** A retransmission of it is thought to be in flight. */
	resent = false;
	next: Segment | undefined;
	previous: Segment | undefined;
}

/** Recycled segments, shared by a stack's connections. */
export class SegmentPool {
	private free: Segment | undefined;
	private count = 0;

	take(seq: number, end: number, flags: number): Segment {
		let segment = this.free;
		if (segment === undefined) segment = new Segment();
		else {
			this.free = segment.next;
			this.count--;
		}
		segment.seq = seq;
		segment.end = end;
		segment.flags = flags;
		segment.sentAt = 0;
		segment.retransmissions = 0;
		segment.sacked = false;
		segment.lost = false;
		segment.resent = false;
		segment.next = undefined;
		segment.previous = undefined;
		return segment;
	}

	give(segment: Segment): void {
		segment.previous = undefined;
		if (this.count >= 16_384) {
			segment.next = undefined;
			return;
		}
		segment.next = this.free;
		this.free = segment;
		this.count++;
	}
}
