import type { AccessSize } from "../bus.ts";
import type { VirtioDevice, VirtioTransport } from "./device.ts";
import { Chain } from "./queue.ts";

/** Bytes given to one request at most; a driver takes what it gets. */
const REQUEST_LIMIT = 4096;

/** The entropy device. */
export class VirtioRng implements VirtioDevice {
	readonly type = 4;
	readonly classCode = 0xff_0000;
	readonly features = 0;
	readonly queueSizes: readonly number[] = [8];
	readonly #fill: (bytes: Uint8Array) => void;
	readonly #bytes = new Uint8Array(REQUEST_LIMIT);
	readonly #chain = new Chain();
	#transport: VirtioTransport | undefined;

	/**
	 * @param fill - fills an array with random bytes, as `crypto.getRandomValues` does
	 */
	constructor(fill: (bytes: Uint8Array) => void) {
		this.#fill = fill;
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
	}

	readConfig(): number {
		return 0;
	}

	writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

	start(): void {}

	notify(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const [queue] = transport.queues;
		const chain = this.#chain;
		while (queue.pop(chain)) {
			const bytes = this.#bytes.subarray(0, Math.min(REQUEST_LIMIT, chain.writableBytes));
			this.#fill(bytes);
			queue.push(chain.head, chain.write(transport.ram, 0, bytes));
		}
		transport.signal(0);
	}

	reset(): void {}

	async idle(): Promise<void> {}

	save(): null {
		return null;
	}

	restore(): void {}
}
