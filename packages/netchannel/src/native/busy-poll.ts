/** Looks after an empty one; some 10 us of system calls. */
const LOOKS = 32;
/** Most sleeps in a row without looking first. */
const LONGEST_SKIP = 255;

/**
 * Decides whether to look again before going to sleep, after something was sent: a one-way stream would pay for looks
 * between its bursts. Where the next packet follows within microseconds, as in a conversation, looking spares both sides
 * a sleep and a wake; where it does not, it is waste: every spin for nothing
 * doubles the number of sleeps without one, and the first that finds something starts over (as KVM's halt polling).
 */
export class BusyPoll {
	private skip = 0;
	private left = 0;

	/** How often to look now. */
	begin(): number {
		if (this.left === 0) return LOOKS;
		this.left--;
		return 0;
	}

	found(): void {
		this.skip = 0;
	}

	foundNothing(): void {
		this.skip = Math.min(LONGEST_SKIP, 2 * this.skip + 1);
		this.left = this.skip;
	}
}
