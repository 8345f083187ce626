const CTRL_A = 0x01;

/** What a keystroke after Ctrl-A asks for. */
export type EscapeAction = "leave" | "help";

/** Finds Ctrl-A commands in what is typed: x leaves, h helps, Ctrl-A sends itself; everything else goes to the guest. */
export class EscapeFilter {
	#pending = false;

	/**
	 * @returns bytes for the guest, and the actions asked for
	 */
	push(typed: Uint8Array): { bytes: Uint8Array; actions: EscapeAction[] } {
		const bytes: number[] = [];
		const actions: EscapeAction[] = [];
		for (const byte of typed) {
			if (!this.#pending) {
				if (byte === CTRL_A) this.#pending = true;
				else bytes.push(byte);
				continue;
			}
			this.#pending = false;
			if (byte === CTRL_A) bytes.push(CTRL_A);
			else if (byte === 0x78 || byte === 0x58) actions.push("leave");
			else if (byte === 0x68 || byte === 0x3f) actions.push("help");
			else bytes.push(CTRL_A, byte);
		}
		return { bytes: Uint8Array.from(bytes), actions };
	}
}
