import type { AccessSize } from "../bus.ts";
import { MachineError } from "../errors.ts";
import type { GuestRam } from "../guest-ram.ts";
import { readConfigBytes, type VirtioDevice, type VirtioTransport } from "./device.ts";
import { Chain, MAX_QUEUE_SIZE } from "./queue.ts";

/** Bytes of a sector in requests, whatever the disk's own blocks are. */
export const SECTOR = 512;

const F_SIZE_MAX = 1 << 1;
const F_SEG_MAX = 1 << 2;
const F_READ_ONLY = 1 << 5;
const F_BLOCK_SIZE = 1 << 6;
const F_FLUSH = 1 << 9;
const FLUSH = 9;
const F_CONFIG_WCE = 1 << 11;
const F_DISCARD = 1 << 13;
const F_WRITE_ZEROES = 1 << 14;

/** Where the driver says whether writes may wait for a flush. */
const CONFIG_WRITEBACK = 32;

const T_IN = 0;
const T_OUT = 1;
const T_FLUSH = 4;
const T_GET_ID = 8;
const T_DISCARD = 11;
const T_WRITE_ZEROES = 13;

const S_OK = 0;
const S_IO_ERROR = 1;
const S_UNSUPPORTED = 2;

const HEADER = 16;
const ID_LENGTH = 20;
/** Bytes of one range of DISCARD and WRITE_ZEROES, how many a request may have, and of how many sectors. */
const RANGE = 16;
const MAX_RANGES = 4;
const MAX_RANGE_SECTORS = 0x10_0000;
/** Most data pieces of a request, and bytes of each: drivers are told, and so a request stays short for an event loop. */
const MAX_SEGMENTS = MAX_QUEUE_SIZE - 2;
const MAX_SEGMENT_BYTES = 65_536;
const MAX_TRANSFER = MAX_SEGMENTS * MAX_SEGMENT_BYTES;

/**
 * Where a disk's bytes are. Operations may be synchronous or give a promise; a thrown error or rejection becomes an I/O error
 * in the guest. Arrays can lie in shared memory: they are the guest's own RAM, and no longer valid after the operation.
 */
export interface BlockBackend {
	/** A multiple of 512. */
	readonly bytes: number;
	readonly readonly: boolean;
	read(offset: number, target: Uint8Array): void | Promise<void>;
	write(offset: number, source: Uint8Array): void | Promise<void>;
	/** What was written before is safe when this is done. */
	flush(): void | Promise<void>;
	/** Makes a range read as zeros, giving its space back where that is possible. */
	zero?(offset: number, length: number): void | Promise<void>;
}

/** A backend that is done when its operations return. */
export interface SyncBlockBackend extends BlockBackend {
	read(offset: number, target: Uint8Array): void;
	write(offset: number, source: Uint8Array): void;
	flush(): void;
	zero?(offset: number, length: number): void;
}

/** Plain state of a {@link VirtioBlock}. */
export interface VirtioBlockState {
	writeback: boolean;
}

/** Options of a {@link VirtioBlock}. */
export interface VirtioBlockOptions {
	backend: BlockBackend;
	/** Up to 20 characters of ASCII; Linux shows it under /dev/disk/by-id. */
	id?: string;
}

/**
 * A disk.
 *
 * What a driver was told is written is safe only after a flush it was told is done, as with any disk that has a cache; to
 * drivers that never flush, or that switch the cache off, nothing is reported written before it is safe. There is no FUA
 * bit in the protocol: drivers do it by a write and a flush.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 5.2
 */
export class VirtioBlock implements VirtioDevice {
	readonly type = 2;
	readonly classCode = 0x01_8000;
	readonly features: number;
	readonly queueSizes: readonly number[] = [MAX_QUEUE_SIZE];
	readonly #backend: BlockBackend;
	readonly #id = new Uint8Array(ID_LENGTH);
	readonly #config = new Uint8Array(60);
	readonly #chain = new Chain();
	readonly #header = new Uint8Array(HEADER);
	readonly #headerView = new DataView(this.#header.buffer);
	#transport: VirtioTransport | undefined;
	#writeback = true;
	/** Grows with each reset, so that what was under way finds its queue gone. */
	#generation = 0;
	readonly #underWay = new Set<Promise<void>>();

	constructor(options: VirtioBlockOptions) {
		const { backend } = options;
		if (backend.bytes % SECTOR !== 0) {
			throw new MachineError(
				"ERR_MACHINE_OPTION",
				`a disk of ${backend.bytes} bytes: its size has to be a multiple of ${SECTOR}`,
				backend.bytes,
			);
		}
		this.#backend = backend;
		this.#id.set(new TextEncoder().encode(options.id ?? "").subarray(0, ID_LENGTH));
		this.features =
			F_SIZE_MAX |
			F_SEG_MAX |
			F_BLOCK_SIZE |
			F_FLUSH |
			F_CONFIG_WCE |
			(backend.readonly ? F_READ_ONLY : 0) |
			(backend.zero !== undefined && !backend.readonly ? F_DISCARD | F_WRITE_ZEROES : 0);
		const config = new DataView(this.#config.buffer);
		const sectors = backend.bytes / SECTOR;
		config.setUint32(0, sectors % 2 ** 32, true);
		config.setUint32(4, Math.floor(sectors / 2 ** 32), true);
		config.setUint32(8, MAX_SEGMENT_BYTES, true);
		config.setUint32(12, MAX_SEGMENTS, true);
		config.setUint32(20, SECTOR, true);
		config.setUint32(36, MAX_RANGE_SECTORS, true);
		config.setUint32(40, MAX_RANGES, true);
		config.setUint32(44, 8, true);
		config.setUint32(48, MAX_RANGE_SECTORS, true);
		config.setUint32(52, MAX_RANGES, true);
		config.setUint8(56, 1);
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
	}

	readConfig(offset: number, size: AccessSize): number {
		return readConfigBytes(this.#config, offset, size);
	}

	writeConfig(offset: number, size: AccessSize, value: number): void {
		if (offset === CONFIG_WRITEBACK && size === 1) this.#setWriteback((value & 1) === 1);
	}

	start(): void {
		this.#setWriteback(this.#transport?.hasFeature(FLUSH) ?? false);
	}

	notify(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const [queue] = transport.queues;
		const chain = this.#chain;
		while (queue.pop(chain)) this.#request(transport, chain);
		transport.signal(0);
	}

	reset(): void {
		this.#generation++;
		this.#setWriteback(true);
	}

	async idle(): Promise<void> {
		while (this.#underWay.size > 0) await Promise.all(this.#underWay);
	}

	save(): VirtioBlockState {
		return { writeback: this.#writeback };
	}

	restore(state: VirtioBlockState): void {
		this.#generation++;
		this.#setWriteback(state.writeback);
	}

	#setWriteback(on: boolean): void {
		this.#writeback = on;
		this.#config[CONFIG_WRITEBACK] = on ? 1 : 0;
	}

	#request(transport: VirtioTransport, chain: Chain): void {
		const [queue] = transport.queues;
		const { head } = chain;
		// Without room for a status byte there is no way to answer but the used ring.
		if (chain.writableBytes === 0) {
			queue.push(head, 0);
			return;
		}
		const last = lastWritable(chain);
		const statusAddress = chain.addresses[last] + chain.lengths[last] - 1;
		const dataBytes = chain.writableBytes - 1;
		const outcome = this.#execute(transport.ram, chain, dataBytes);
		if (typeof outcome === "number") {
			transport.ram.writeU8(statusAddress, outcome);
			queue.push(head, outcome === S_OK ? dataBytes + 1 : 1);
			return;
		}
		const generation = this.#generation;
		const done = outcome.then((status) => {
			this.#underWay.delete(done);
			if (generation !== this.#generation) return;
			transport.ram.writeU8(statusAddress, status);
			queue.push(head, status === S_OK ? dataBytes + 1 : 1);
			transport.signal(0);
		});
		this.#underWay.add(done);
	}

	#execute(ram: GuestRam, chain: Chain, dataBytes: number): number | Promise<number> {
		if (chain.read(ram, 0, this.#header) < HEADER) return S_IO_ERROR;
		const view = this.#headerView;
		const type = view.getUint32(0, true);
		const sector = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
		const backend = this.#backend;
		try {
			switch (type) {
				case T_IN:
					return this.#move(ram, chain, sector * SECTOR, dataBytes, false);
				case T_OUT:
					if (backend.readonly) return S_IO_ERROR;
					return this.#safely(this.#move(ram, chain, sector * SECTOR, chain.readableBytes - HEADER, true));
				case T_FLUSH:
					return settle(backend.flush());
				case T_GET_ID:
					chain.write(ram, 0, this.#id.subarray(0, Math.min(ID_LENGTH, dataBytes)));
					return S_OK;
				case T_DISCARD:
				case T_WRITE_ZEROES:
					return this.#safely(this.#zero(ram, chain));
				default:
					return S_UNSUPPORTED;
			}
		} catch {
			return S_IO_ERROR;
		}
	}

	/** Without a cache that the driver knows of, what is done is safe. */
	#safely(outcome: number | Promise<number>): number | Promise<number> {
		if (this.#writeback) return outcome;
		const flush = (status: number) => (status === S_OK ? settle(this.#backend.flush()) : status);
		return typeof outcome === "number" ? flush(outcome) : outcome.then(flush).catch(() => S_IO_ERROR);
	}

	/** Moves between the disk and the data part of the chain: after the header when it is read, before the status when written. */
	#move(ram: GuestRam, chain: Chain, start: number, bytes: number, write: boolean): number | Promise<number> {
		const backend = this.#backend;
		if (bytes % SECTOR !== 0 || bytes > MAX_TRANSFER || start + bytes > backend.bytes) return S_IO_ERROR;
		const work = new Work();
		let skip = write ? HEADER : 0;
		let left = bytes;
		let position = start;
		for (let i = write ? 0 : chain.readable; left > 0; i++) {
			const length = chain.lengths[i];
			for (; skip < length && left > 0; ) {
				// In place, whatever the request's size: nothing of the host's memory is the guest's to claim.
				const address = chain.addresses[i] + skip;
				const at = position;
				const window = ram.prefix(address, Math.min(length - skip, left));
				if (window === undefined) return work.fail();
				work.add(() => (write ? backend.write(at, window) : this.#fetch(ram, address, window, at)));
				if (work.failed) return work.status();
				skip += window.length;
				position += window.length;
				left -= window.length;
			}
			skip = Math.max(0, skip - length);
		}
		return work.status();
	}

	#fetch(ram: GuestRam, address: number, window: Uint8Array, position: number): undefined | Promise<void> {
		const done = () => ram.written(address, window.length);
		const outcome = this.#backend.read(position, window);
		if (outcome instanceof Promise) return outcome.then(done);
		done();
		return undefined;
	}

	#zero(ram: GuestRam, chain: Chain): number | Promise<number> {
		const backend = this.#backend;
		if (backend.zero === undefined) return S_UNSUPPORTED;
		const bytes = chain.readableBytes - HEADER;
		if (backend.readonly || bytes === 0 || bytes % RANGE !== 0 || bytes > RANGE * MAX_RANGES) return S_IO_ERROR;
		const ranges = new DataView(new ArrayBuffer(bytes));
		chain.read(ram, HEADER, new Uint8Array(ranges.buffer));
		const work = new Work();
		for (let at = 0; at < bytes && !work.failed; at += RANGE) {
			const start = (ranges.getUint32(at, true) + ranges.getUint32(at + 4, true) * 2 ** 32) * SECTOR;
			const length = ranges.getUint32(at + 8, true) * SECTOR;
			if (length > MAX_RANGE_SECTORS * SECTOR || start + length > backend.bytes) return work.fail();
			work.add(() => backend.zero?.(start, length));
		}
		return work.status();
	}
}

/** The operations one request makes. It is over when all of them are, however they end: they use the guest's memory. */
class Work {
	failed = false;
	#pending: Promise<void>[] | undefined;

	add(operation: () => void | Promise<void>): void {
		try {
			const outcome = operation();
			if (outcome instanceof Promise) (this.#pending ??= []).push(outcome);
		} catch {
			this.failed = true;
		}
	}

	fail(): number | Promise<number> {
		this.failed = true;
		return this.status();
	}

	status(): number | Promise<number> {
		const pending = this.#pending;
		if (pending === undefined) return this.failed ? S_IO_ERROR : S_OK;
		return Promise.allSettled(pending).then((outcomes) =>
			this.failed || outcomes.some(({ status }) => status === "rejected") ? S_IO_ERROR : S_OK,
		);
	}
}

/** Index of the last piece the device writes that is not empty. */
function lastWritable(chain: Chain): number {
	let last = chain.count - 1;
	while (chain.lengths[last] === 0) last--;
	return last;
}

function settle(outcome: unknown): number | Promise<number> {
	if (!(outcome instanceof Promise)) return S_OK;
	return outcome.then(
		() => S_OK,
		() => S_IO_ERROR,
	);
}

/** A disk in memory. */
export class MemoryBlockBackend implements SyncBlockBackend {
	readonly readonly: boolean;
	readonly #contents: Uint8Array;

	/**
	 * @param contents - the disk itself: writes change it
	 */
	constructor(contents: Uint8Array, options: { readonly?: boolean } = {}) {
		this.#contents = contents;
		this.readonly = options.readonly ?? false;
	}

	get bytes(): number {
		return this.#contents.length;
	}

	read(offset: number, target: Uint8Array): void {
		target.set(this.#contents.subarray(offset, offset + target.length));
	}

	write(offset: number, source: Uint8Array): void {
		this.#contents.set(source, offset);
	}

	flush(): void {}

	zero(offset: number, length: number): void {
		this.#contents.fill(0, offset, offset + length);
	}
}
