/** The clock of a machine, in nanoseconds: the host's monotonic one, or one that goes on where another was. */
export class MachineClock {
	#behind = 0;

	readonly now = (): number => performance.now() * 1e6 + this.#behind;

	/** From now on it goes on from this moment. */
	continueAt(nanoseconds: number): void {
		this.#behind += nanoseconds - this.now();
	}
}
