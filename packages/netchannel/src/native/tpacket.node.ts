import type { Libc } from "./libc.node.ts";
import { systemFailure } from "./libc.node.ts";

const SOL_PACKET = 263;
const PACKET_RX_RING = 5;
const PACKET_VERSION = 10;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20 | 0x4000;
const STATUS_USER = 1;
const STATUS_VLAN = 0x10;
const STATUS_VLAN_TPID = 0x40;
const MAP_FAILED = 0xffffffffffffffffn;

/** Size of a ring shared with the kernel. */
export interface KernelRingOptions {
	/** 3: blocks of many packets, for capture and throughput. 2: packet by packet, for short delays. */
	version: 2 | 3;
	/** Bytes in all. @default 8 MiB */
	bytes?: number;
	/** Longest packet, for version 2, whose slots are of one size. */
	longest: number;
	/** For version 3: milliseconds after which the kernel hands over a block that is not full. */
	blockTimeoutMs?: number;
}

/** Unmaps a closed ring's pages once nothing refers to them any more. */
const unmapped = new FinalizationRegistry<{ libc: Libc; address: bigint; length: number }>(
	({ libc, address, length }) => {
		libc.munmap(address, length);
	},
);

/** A receive ring that the kernel fills and this thread reads in place (Documentation/networking/packet_mmap.rst). */
export class KernelRing {
	private readonly libc: Libc;
	private readonly address: bigint;
	private readonly length: number;
	private readonly version: 2 | 3;
	private readonly unit: number;
	private readonly units: number;
	private readonly buffer: ArrayBuffer;
	private readonly bytes: Uint8Array;
	private readonly words: Int32Array;
	private readonly view: DataView;
	private next = 0;
	/** Version 3: packets left in the block, and where the next lies. */
	private left = 0;
	private packet = 0;
	private readonly tagged: Uint8Array;

	constructor(libc: Libc, fd: number, options: KernelRingOptions) {
		this.libc = libc;
		this.version = options.version;
		this.tagged = new Uint8Array(options.longest + 64);
		const bytes = options.bytes ?? 8 * 2 ** 20;
		const set = (option: number, value: Uint32Array, what: string): void => {
			if (libc.setsockopt(fd, SOL_PACKET, option, value, value.byteLength) < 0)
				throw systemFailure(libc, `setsockopt(${what})`, "cannot make a receive ring");
		};
		set(PACKET_VERSION, Uint32Array.of(options.version - 1), "PACKET_VERSION");
		if (options.version === 3) {
			this.unit = Math.min(2 ** 18, bytes);
			this.units = Math.max(2, Math.floor(bytes / this.unit));
			const frames = (this.unit / 2048) * this.units;
			set(
				PACKET_RX_RING,
				Uint32Array.of(this.unit, this.units, 2048, frames, options.blockTimeoutMs ?? 8, 0, 0),
				"PACKET_RX_RING",
			);
		} else {
			// Room for the packet header, the address behind it, and a VLAN tag the kernel may put back.
			this.unit = 2 ** Math.ceil(Math.log2(options.longest + 128));
			const block = Math.max(4096, this.unit);
			const blocks = Math.max(2, Math.floor(bytes / block));
			this.units = (block / this.unit) * blocks;
			set(PACKET_RX_RING, Uint32Array.of(block, blocks, this.unit, this.units), "PACKET_RX_RING");
		}
		this.length = this.unit * this.units;
		this.address = libc.mmap(null, this.length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
		if (this.address === MAP_FAILED) throw systemFailure(libc, "mmap", "cannot map the receive ring");
		this.buffer = libc.view(this.address, this.length);
		this.bytes = new Uint8Array(this.buffer);
		this.words = new Int32Array(this.buffer);
		this.view = new DataView(this.buffer);
	}

	/** Delivers packets in place, at most `budget`; each goes back to the kernel when its block, or itself, was read. */
	drain(_fd: number, deliver: (frame: Uint8Array) => void, budget: number, open: () => boolean): void {
		if (this.version === 3) this.drainBlocks(deliver, budget, open);
		else this.drainFrames(deliver, budget, open);
	}

	/** Puts ordinary memory where the ring was, so that a view somebody kept is stale, not fatal. */
	close(): void {
		const { libc, address, length } = this;
		libc.mmap(address, length, PROT_READ_WRITE, MAP_FIXED_ANONYMOUS, -1, 0);
		unmapped.register(this.buffer, { libc, address, length });
	}

	private drainFrames(deliver: (frame: Uint8Array) => void, budget: number, open: () => boolean): void {
		const { words, view } = this;
		for (let count = 0; count < budget && open(); count++) {
			const at = this.next * this.unit;
			const status = Atomics.load(words, at >> 2);
			if ((status & STATUS_USER) === 0) return;
			const kept = view.getUint32(at + 8, true);
			const start = at + view.getUint16(at + 12, true);
			deliver(this.frame(start, kept, status, view.getUint16(at + 24, true), view.getUint16(at + 26, true)));
			// After a close inside the callback the memory is no ring any more.
			if (!open()) return;
			Atomics.store(words, at >> 2, 0);
			this.next = (this.next + 1) % this.units;
		}
	}

	private drainBlocks(deliver: (frame: Uint8Array) => void, budget: number, open: () => boolean): void {
		const { words, view } = this;
		for (let count = 0; count < budget; ) {
			const block = this.next * this.unit;
			if (this.left === 0) {
				if ((Atomics.load(words, (block + 8) >> 2) & STATUS_USER) === 0) return;
				this.left = view.getUint32(block + 12, true);
				this.packet = block + view.getUint32(block + 16, true);
			}
			while (this.left > 0 && count < budget) {
				const at = this.packet;
				const status = view.getUint32(at + 20, true);
				const start = at + view.getUint16(at + 24, true);
				this.left--;
				this.packet = at + view.getUint32(at, true);
				count++;
				deliver(
					this.frame(
						start,
						view.getUint32(at + 12, true),
						status,
						view.getUint32(at + 32, true),
						view.getUint16(at + 36, true),
					),
				);
				if (!open()) return;
			}
			if (this.left > 0) return;
			Atomics.store(words, (block + 8) >> 2, 0);
			this.next = (this.next + 1) % this.units;
		}
	}

	/** The frame in place, or a copy with the VLAN tag that the kernel took out. */
	private frame(start: number, length: number, status: number, tci: number, tpid: number): Uint8Array {
		const { bytes, tagged } = this;
		// Half the price of subarray, and this is most of what a packet costs.
		if ((status & STATUS_VLAN) === 0 || length + 4 > tagged.length || length < 12)
			return new Uint8Array(this.buffer, start, length);
		const type = (status & STATUS_VLAN_TPID) !== 0 ? tpid : 0x8100;
		tagged.set(bytes.subarray(start, start + 12));
		tagged.set([type >> 8, type & 255, (tci >> 8) & 255, tci & 255], 12);
		tagged.set(bytes.subarray(start + 12, start + length), 16);
		return tagged.subarray(0, length + 4);
	}
}
