import type { AccessSize } from "../../bus.ts";
import { MachineError } from "../../errors.ts";
import { readConfigBytes, type VirtioDevice, type VirtioTransport } from "../device.ts";
import { Chain, MAX_QUEUE_SIZE } from "../queue.ts";

/** A file server that answers one message at a time. */
export interface ShareServer {
	/** The reply, in a buffer good until the next call; `undefined` for a message that has none. */
	handle(message: Uint8Array, limit: number): Uint8Array | undefined;
	/** Lets go of every node and open file. */
	reset(): void;
}

/** What differs between the devices that carry a file server's messages. */
export interface ShareTraits {
	type: number;
	features: number;
	/** How many request queues there are. */
	queues: number;
	config: Uint8Array;
	/** Bytes of the longest message a driver that keeps to what it was told may send. */
	longest: number;
}

/** The virtio side of a shared folder: messages from the queues to a server, and its replies back. */
export abstract class ShareDevice<Server extends ShareServer> implements VirtioDevice {
	readonly type: number;
	readonly classCode = 0x01_8000;
	readonly features: number;
	readonly queueSizes: readonly number[];
	readonly server: Server;
	readonly #config: Uint8Array;
	readonly #chain = new Chain();
	readonly #message: Uint8Array;
	#transport: VirtioTransport | undefined;

	constructor(server: Server, traits: ShareTraits) {
		this.server = server;
		this.type = traits.type;
		this.features = traits.features;
		this.queueSizes = new Array<number>(traits.queues).fill(MAX_QUEUE_SIZE);
		this.#config = traits.config;
		this.#message = new Uint8Array(traits.longest);
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
	}

	readConfig(offset: number, size: AccessSize): number {
		return readConfigBytes(this.#config, offset, size);
	}

	writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

	start(): void {}

	notify(index: number): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const queue = transport.queues[index];
		const chain = this.#chain;
		while (queue.pop(chain)) {
			const { readableBytes, writableBytes } = chain;
			// Longer than any driver was told to send: nobody's message, and no answer would be understood.
			if (readableBytes > this.#message.length) {
				queue.push(chain.head, 0);
				continue;
			}
			const message = this.#message.subarray(0, readableBytes);
			chain.read(transport.ram, 0, message);
			const reply = this.server.handle(message, writableBytes);
			queue.push(chain.head, reply === undefined ? 0 : chain.write(transport.ram, 0, reply));
		}
		transport.signal(index);
	}

	reset(): void {
		this.server.reset();
	}

	async idle(): Promise<void> {}

	/** Nodes and open files belong to the host, and stay there: a restored guest mounts anew. */
	save(): null {
		return null;
	}

	restore(): void {
		this.server.reset();
	}
}

/**
 * The bytes of a share's name.
 *
 * @throws MachineError ERR_MACHINE_OPTION
 */
export function shareTag(tag: string, most: number): Uint8Array {
	const bytes = new TextEncoder().encode(tag);
	if (bytes.length === 0 || bytes.length > most || tag.includes("\0")) {
		throw new MachineError("ERR_MACHINE_OPTION", `share "${tag}": a name of 1 to ${most} bytes is expected`, tag);
	}
	return bytes;
}
