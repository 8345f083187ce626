/**
 * A machine whose past can be gone back to: it runs in virtual time, and what came from outside is recorded, so that the
 * same instant can be reached again. Instants are numbers of instructions executed.
 */
export interface History {
	/** The first instant that can be gone back to. */
	readonly first: number;
	/** The present. */
	readonly now: number;
	/** Instants at which the whole state was kept, rising. */
	readonly checkpoints: readonly number[];
	/** Puts the machine into the state of an instant between `first` and the farthest that was reached. */
	goTo(instant: number): void;
	/**
	 * Replays from now up to an instant.
	 *
	 * @param onStop - called where a point of the debugger's stops the vCPU, with the instant; it runs on
	 */
	replayTo(instant: number, onStop: (instant: number) => void): void;
	/** The machine was changed by what no replay brings about again: the past is over, and begins anew from here. */
	changed(): void;
}
