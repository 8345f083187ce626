const LIMIT = 8192;

/** The last lines of a console, kept in case they explain why the guest stopped. */
export class ConsoleTail {
	#text = "";
	readonly #decoder = new TextDecoder();

	push(bytes: Uint8Array): void {
		this.#text = (this.#text + this.#decoder.decode(bytes, { stream: true })).slice(-LIMIT);
	}

	includes(text: string): boolean {
		return this.#text.includes(text);
	}

	lines(count: number): string[] {
		const lines = this.#text.split(/\r?\n/).map((line) => line.replace(/[^\x20-\x7e\t\u00a0-\uffff]/g, "").trimEnd());
		return lines.filter((line) => line !== "").slice(-count);
	}
}
