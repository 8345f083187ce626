import { MachineError } from "../errors.ts";
import type { SyncBlockBackend } from "./block.ts";
import { PagedBitmap } from "./paged-bitmap.ts";

/** What an overlay knows of a cluster: nothing was written and the disk below shows, it has contents, or it reads as zeros. */
export type ClusterState = "absent" | "data" | "zero";

/** Where an {@link OverlayBlockBackend} keeps what was written, by clusters of one size. */
export interface ClusterStore {
	/** A power of two, 512 or more. */
	readonly clusterBytes: number;
	/** Clusters with contents. */
	readonly used: number;
	state(cluster: number): ClusterState;
	/** Reads from clusters with contents, from `within` the first on. */
	read(cluster: number, within: number, target: Uint8Array): void;
	/** Gives contents to whole clusters from `cluster` on. */
	put(cluster: number, source: Uint8Array): void;
	/** Changes a part of one cluster with contents. */
	patch(cluster: number, within: number, source: Uint8Array): void;
	/** Makes clusters read as zeros. */
	zero(cluster: number, count: number): void;
	/** What was written before is safe when this is done. */
	flush(): void;
}

/** Options of {@link OverlayBlockBackend}. */
export interface OverlayOptions {
	/** The disk below; nothing is ever written to it. */
	base: SyncBlockBackend;
	/** @default in memory, in clusters of 4 KiB */
	store?: ClusterStore;
	/** Bytes the store may hold; a write beyond is an I/O error in the guest. @default no limit but the disk's size */
	limitBytes?: number;
}

/** A disk whose writes go elsewhere: copy-on-write over another one. */
export class OverlayBlockBackend implements SyncBlockBackend {
	readonly readonly = false;
	readonly bytes: number;
	readonly #base: SyncBlockBackend;
	readonly #store: ClusterStore;
	readonly #limit: number;
	readonly #scratch: Uint8Array;

	/**
	 * @throws MachineError ERR_MACHINE_OPTION for clusters of a size that is no power of two
	 */
	constructor(options: OverlayOptions) {
		this.#base = options.base;
		this.#store = options.store ?? new MemoryClusterStore();
		this.bytes = options.base.bytes;
		const { clusterBytes } = this.#store;
		if (clusterBytes < 512 || (clusterBytes & (clusterBytes - 1)) !== 0) {
			throw new MachineError(
				"ERR_MACHINE_OPTION",
				`clusters of ${clusterBytes} bytes: a power of two, 512 or more, is expected`,
				clusterBytes,
			);
		}
		this.#limit = Math.floor((options.limitBytes ?? Number.POSITIVE_INFINITY) / clusterBytes);
		this.#scratch = new Uint8Array(clusterBytes);
	}

	/** Bytes the overlay holds. */
	get usedBytes(): number {
		return this.#store.used * this.#store.clusterBytes;
	}

	read(offset: number, target: Uint8Array): void {
		const { clusterBytes } = this.#store;
		for (let done = 0; done < target.length; ) {
			const at = offset + done;
			const first = Math.floor(at / clusterBytes);
			const state = this.#store.state(first);
			const last = this.#lastAlike(first, Math.floor((offset + target.length - 1) / clusterBytes), state);
			const size = Math.min((last + 1) * clusterBytes - at, target.length - done);
			const part = target.subarray(done, done + size);
			if (state === "data") this.#store.read(first, at - first * clusterBytes, part);
			else if (state === "zero") part.fill(0);
			else this.#base.read(at, part);
			done += size;
		}
	}

	/**
	 * @throws MachineError ERR_MACHINE_OVERLAY_FULL
	 */
	write(offset: number, source: Uint8Array): void {
		const { clusterBytes } = this.#store;
		this.#makeRoom(offset, source.length);
		for (let done = 0; done < source.length; ) {
			const at = offset + done;
			const cluster = Math.floor(at / clusterBytes);
			const within = at - cluster * clusterBytes;
			const whole = within === 0 ? Math.floor((source.length - done) / clusterBytes) * clusterBytes : 0;
			const size = whole > 0 ? whole : Math.min(clusterBytes - within, source.length - done);
			const part = source.subarray(done, done + size);
			if (whole > 0) this.#store.put(cluster, part);
			else this.#patch(cluster, within, part);
			done += size;
		}
	}

	flush(): void {
		this.#store.flush();
	}

	zero(offset: number, length: number): void {
		const { clusterBytes } = this.#store;
		const end = offset + length;
		const first = Math.ceil(offset / clusterBytes);
		// The last cluster may stand out over the disk's end.
		const behind = end === this.bytes ? Math.ceil(end / clusterBytes) : Math.floor(end / clusterBytes);
		if (first >= behind) {
			this.#zeroPart(offset, length);
			return;
		}
		this.#zeroPart(offset, first * clusterBytes - offset);
		this.#store.zero(first, behind - first);
		this.#zeroPart(behind * clusterBytes, end - behind * clusterBytes);
	}

	/** Less than two clusters. */
	#zeroPart(offset: number, length: number): void {
		if (length > 0) this.write(offset, new Uint8Array(length));
	}

	#patch(cluster: number, within: number, part: Uint8Array): void {
		const state = this.#store.state(cluster);
		if (state === "data") {
			this.#store.patch(cluster, within, part);
			return;
		}
		const scratch = this.#scratch.fill(0);
		if (state === "absent") {
			const start = cluster * scratch.length;
			this.#base.read(start, scratch.subarray(0, Math.min(scratch.length, this.bytes - start)));
		}
		scratch.set(part, within);
		this.#store.put(cluster, scratch);
	}

	#lastAlike(first: number, limit: number, state: ClusterState): number {
		let last = first;
		while (last < limit && this.#store.state(last + 1) === state) last++;
		return last;
	}

	#makeRoom(offset: number, length: number): void {
		const { clusterBytes, used } = this.#store;
		const first = Math.floor(offset / clusterBytes);
		const last = Math.floor((offset + length - 1) / clusterBytes);
		if (used + last - first < this.#limit) return;
		let more = 0;
		for (let cluster = first; cluster <= last; cluster++) if (this.#store.state(cluster) !== "data") more++;
		if (used + more <= this.#limit) return;
		throw new MachineError(
			"ERR_MACHINE_OVERLAY_FULL",
			`the overlay holds its ${this.#limit * clusterBytes} bytes already; give it more`,
			this.#limit * clusterBytes,
		);
	}
}

/** Keeps an overlay in memory, for as long as the machine runs. */
export class MemoryClusterStore implements ClusterStore {
	readonly clusterBytes: number;
	readonly #contents = new Map<number, Uint8Array>();
	readonly #zeros = new PagedBitmap();

	constructor(clusterBytes = 4096) {
		this.clusterBytes = clusterBytes;
	}

	get used(): number {
		return this.#contents.size;
	}

	state(cluster: number): ClusterState {
		if (this.#contents.has(cluster)) return "data";
		return this.#zeros.has(cluster) ? "zero" : "absent";
	}

	read(cluster: number, within: number, target: Uint8Array): void {
		for (let done = 0; done < target.length; cluster++, within = 0) {
			const size = Math.min(this.clusterBytes - within, target.length - done);
			target.set(this.#contents.get(cluster)!.subarray(within, within + size), done);
			done += size;
		}
	}

	put(cluster: number, source: Uint8Array): void {
		for (let done = 0; done < source.length; cluster++, done += this.clusterBytes) {
			let contents = this.#contents.get(cluster);
			if (contents === undefined) {
				contents = new Uint8Array(this.clusterBytes);
				this.#contents.set(cluster, contents);
			}
			contents.set(source.subarray(done, done + this.clusterBytes));
		}
	}

	patch(cluster: number, within: number, source: Uint8Array): void {
		this.#contents.get(cluster)!.set(source, within);
	}

	zero(cluster: number, count: number): void {
		const contents = this.#contents;
		if (count < contents.size) for (let i = cluster; i < cluster + count; i++) contents.delete(i);
		else for (const i of contents.keys()) if (i >= cluster && i < cluster + count) contents.delete(i);
		this.#zeros.fill(cluster, count, true);
	}

	flush(): void {}
}
