import { MAX_P9_MESSAGE, P9Server } from "../../../p9/server.ts";
import type { SharedFolder } from "../../../share/directory.ts";
import type { AccessSize } from "../../bus.ts";
import type { VirtioDevice, VirtioTransport } from "../device.ts";
import { Chain, MAX_QUEUE_SIZE } from "../queue.ts";
import { shareTag } from "./fs.ts";

const F_MOUNT_TAG = 1 << 0;

/** Options of {@link Virtio9p}. */
export interface Virtio9pOptions {
	folder: SharedFolder;
	/** What the guest mounts it by, up to 255 bytes: `mount -t 9p -o trans=virtio TAG /mnt`. */
	tag: string;
}

/** A folder shared by 9P2000.L messages, for kernels without virtio-fs. */
export class Virtio9p implements VirtioDevice {
	readonly type = 9;
	readonly classCode = 0x01_8000;
	readonly features: number = F_MOUNT_TAG;
	readonly queueSizes: readonly number[] = [MAX_QUEUE_SIZE];
	readonly server: P9Server;
	readonly #config: Uint8Array;
	readonly #chain = new Chain();
	readonly #message = new Uint8Array(MAX_P9_MESSAGE);
	#transport: VirtioTransport | undefined;

	/**
	 * @throws MachineError ERR_MACHINE_OPTION for a tag that is empty or too long
	 */
	constructor(options: Virtio9pOptions) {
		const tag = shareTag(options.tag, 255);
		this.#config = Uint8Array.of(tag.length, 0, ...tag);
		this.server = new P9Server(options.folder);
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
	}

	readConfig(offset: number, size: AccessSize): number {
		let value = 0;
		for (let i = size - 1; i >= 0; i--) value = (value << 8) | (this.#config[offset + i] ?? 0);
		return value >>> 0;
	}

	writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

	start(): void {}

	notify(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const [queue] = transport.queues;
		const chain = this.#chain;
		while (queue.pop(chain)) {
			const message = this.#message.subarray(0, Math.min(chain.readableBytes, MAX_P9_MESSAGE));
			chain.read(transport.ram, 0, message);
			const reply = this.server.handle(message, chain.writableBytes);
			queue.push(chain.head, reply === undefined ? 0 : chain.write(transport.ram, 0, reply));
		}
		transport.signal(0);
	}

	reset(): void {
		this.server.reset();
	}

	async idle(): Promise<void> {}

	/** Fids are open files of the host, and stay there: a restored guest mounts anew. */
	save(): null {
		return null;
	}

	restore(): void {
		this.server.reset();
	}
}
