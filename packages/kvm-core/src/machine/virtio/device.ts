import type { AccessSize } from "../bus.ts";
import type { GuestRam } from "../guest-ram.ts";
import type { Virtqueue } from "./queue.ts";

/** What a transport gives to the device behind it. */
export interface VirtioTransport {
	readonly ram: GuestRam;
	readonly queues: readonly Virtqueue[];
	/** Whether the driver accepted a feature bit. */
	hasFeature(bit: number): boolean;
	/** Raises the queue's interrupt when the driver wants one for what was pushed; also looks whether the queue broke. */
	signal(queue: number): void;
	/** Says that the configuration the driver reads has changed. */
	configChanged(): void;
}

/** Reads configuration space that lies in bytes; behind its end there are zeros. */
export function readConfigBytes(config: Uint8Array, offset: number, size: AccessSize): number {
	let value = 0;
	for (let i = size - 1; i >= 0; i--) value = (value << 8) | (config[offset + i] ?? 0);
	return value >>> 0;
}

/** One virtio device, apart from the way it is attached. */
export interface VirtioDevice {
	/** Device type of VIRTIO 1.2, chapter 5. */
	readonly type: number;
	/** PCI class code. */
	readonly classCode: number;
	/** Bits 0 to 31 of what the device offers; transport features are added. */
	readonly features: number;
	/** Size of each queue. */
	readonly queueSizes: readonly number[];
	/** Called once, before anything else. */
	attach(transport: VirtioTransport): void;
	/** The device-specific configuration. */
	readConfig(offset: number, size: AccessSize): number;
	writeConfig(offset: number, size: AccessSize, value: number): void;
	/** The driver set DRIVER_OK. */
	start(): void;
	/** The driver rang a queue's bell. */
	notify(queue: number): void;
	/** Back to the state before any driver; what is under way must not touch a queue any more. */
	reset(): void;
	/** Resolves when nothing is under way on the host's side. */
	idle(): Promise<void>;
	/** Plain state, when idle. */
	save(): unknown;
	restore(state: unknown): void;
}
