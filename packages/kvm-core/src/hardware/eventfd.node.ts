import { closeSync, readSync, writeSync } from "node:fs";
import type { Libc } from "./libc.node.ts";

/** A counter that the kernel and this process signal each other with. */
export class EventFd {
	readonly fd: number;
	readonly #libc: Libc;
	readonly #one = new Uint8Array(new BigUint64Array([1n]).buffer);
	readonly #count = new Uint8Array(8);
	#unwatch: (() => void) | undefined;
	#closed = false;

	constructor(libc: Libc) {
		this.#libc = libc;
		this.fd = libc.eventfd();
	}

	signal(): void {
		writeSync(this.fd, this.#one);
	}

	/** Calls back from the event loop, once for the signals that came since. */
	watch(callback: () => void): void {
		this.#unwatch = this.#libc.watch(this.fd, () => {
			if (this.#drain()) callback();
		});
	}

	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#unwatch?.();
		closeSync(this.fd);
	}

	#drain(): boolean {
		if (this.#closed) return false;
		try {
			return readSync(this.fd, this.#count) === 8;
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === "EAGAIN") return false;
			throw error;
		}
	}
}
