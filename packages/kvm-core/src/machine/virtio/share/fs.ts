import { FuseServer, MAX_FUSE_REQUEST } from "../../../fuse/server.ts";
import type { SharedFolder } from "../../../share/directory.ts";
import type { AccessSize } from "../../bus.ts";
import { MachineError } from "../../errors.ts";
import type { VirtioDevice, VirtioTransport } from "../device.ts";
import { Chain, MAX_QUEUE_SIZE } from "../queue.ts";

const TAG_BYTES = 36;

/** Options of {@link VirtioFs}. */
export interface VirtioFsOptions {
	folder: SharedFolder;
	/** What the guest mounts it by, up to 36 bytes: `mount -t virtiofs TAG /mnt`. */
	tag: string;
}

/**
 * A folder shared by FUSE messages.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 5.11
 */
export class VirtioFs implements VirtioDevice {
	readonly type = 26;
	readonly classCode = 0x01_8000;
	readonly features = 0;
	/** FORGETs, and everything else. */
	readonly queueSizes: readonly number[] = [MAX_QUEUE_SIZE, MAX_QUEUE_SIZE];
	readonly server: FuseServer;
	readonly #config = new Uint8Array(TAG_BYTES + 4);
	readonly #chain = new Chain();
	readonly #request = new Uint8Array(MAX_FUSE_REQUEST);
	#transport: VirtioTransport | undefined;

	/**
	 * @throws MachineError ERR_MACHINE_OPTION for a tag that is empty or too long
	 */
	constructor(options: VirtioFsOptions) {
		this.#config.set(shareTag(options.tag, TAG_BYTES));
		this.#config[TAG_BYTES] = 1;
		this.server = new FuseServer(options.folder);
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

	notify(index: number): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const queue = transport.queues[index];
		const chain = this.#chain;
		while (queue.pop(chain)) {
			const { readableBytes, writableBytes } = chain;
			// Drivers keep to the sizes that INIT told them; what is longer is nobody's request.
			if (readableBytes > MAX_FUSE_REQUEST) {
				queue.push(chain.head, 0);
				continue;
			}
			const request = this.#request.subarray(0, readableBytes);
			chain.read(transport.ram, 0, request);
			const reply = this.server.handle(request, writableBytes);
			queue.push(chain.head, reply === undefined ? 0 : chain.write(transport.ram, 0, reply));
		}
		transport.signal(index);
	}

	reset(): void {
		this.server.reset();
	}

	async idle(): Promise<void> {}

	/** Nodes and handles are open files of the host, and stay there: a restored guest mounts anew. */
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
