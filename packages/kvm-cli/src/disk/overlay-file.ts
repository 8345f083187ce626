import { closeSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, openSync } from "node:fs";
import { type ClusterState, type ClusterStore, PagedBitmap } from "@x/kvm-core";
import { CliError, EXIT } from "../exit.ts";
import { readFully, writeFully } from "./raw-disk.ts";

const MAGIC = new TextEncoder().encode("xkvm.cow");
const VERSION = 1;
const HEADER_BYTES = 4096;
const PAGE_BYTES = 4096;
const CLUSTERS_PER_PAGE = PAGE_BYTES * 8;
const CLUSTER_BYTES = 4096;

/** The disk an overlay was made over: with another one below it would be garbage. */
export interface OverlayBase {
	readonly bytes: number;
	/** When its file last changed, in milliseconds since 1970. */
	readonly modifiedMs: number;
}

/**
 * A copy-on-write overlay in a sparse file: a header, two bitmaps (what is in the file, what reads as zeros), and behind
 * them each cluster at its own place.
 *
 * Bitmaps go to the file by a flush only, after the clusters they speak of are safe; so whatever moment the process or the
 * host dies at, the disk is what the last flush left, with or without some of what was written since. A cluster that was
 * zeroed keeps its bit in the first bitmap, so that every step between two states of it is one bit.
 */
export class OverlayFile implements ClusterStore {
	readonly clusterBytes = CLUSTER_BYTES;
	readonly #descriptor: number;
	readonly #dataStart: number;
	readonly #bitmapBytes: number;
	readonly #present = new PagedBitmap();
	readonly #zero = new PagedBitmap();
	/** Pages of the bitmaps that differ from the file's. */
	readonly #dirtyPages = new Set<number>();
	#dirty = false;
	#used = 0;

	private constructor(descriptor: number, bytes: number) {
		this.#descriptor = descriptor;
		this.#bitmapBytes = bitmapBytes(bytes);
		this.#dataStart = HEADER_BYTES + 2 * this.#bitmapBytes;
	}

	/**
	 * Opens an overlay, or makes one where there is no file or an empty one.
	 *
	 * @throws CliError when the file is no overlay, or one of another disk; Node's error when it cannot be opened
	 */
	static open(path: string, base: OverlayBase): OverlayFile {
		const descriptor = openSync(path, "a+", 0o600);
		closeSync(descriptor);
		const file = openSync(path, "r+");
		try {
			const overlay = new OverlayFile(file, base.bytes);
			if (fstatSync(file).size === 0) overlay.#create(base);
			else overlay.#load(path, base);
			return overlay;
		} catch (error) {
			closeSync(file);
			throw error;
		}
	}

	get used(): number {
		return this.#used;
	}

	state(cluster: number): ClusterState {
		if (!this.#present.has(cluster)) return "absent";
		return this.#zero.has(cluster) ? "zero" : "data";
	}

	read(cluster: number, within: number, target: Uint8Array): void {
		readFully(this.#descriptor, target, this.#dataStart + cluster * CLUSTER_BYTES + within);
	}

	put(cluster: number, source: Uint8Array): void {
		this.#dirty = true;
		writeFully(this.#descriptor, source, this.#dataStart + cluster * CLUSTER_BYTES);
		const count = source.length / CLUSTER_BYTES;
		for (let i = cluster; i < cluster + count; i++) if (this.state(i) !== "data") this.#used++;
		this.#mark(cluster, count, false);
	}

	patch(cluster: number, within: number, source: Uint8Array): void {
		this.#dirty = true;
		writeFully(this.#descriptor, source, this.#dataStart + cluster * CLUSTER_BYTES + within);
	}

	zero(cluster: number, count: number): void {
		this.#dirty = true;
		if (this.#used > 0) for (let i = cluster; i < cluster + count; i++) if (this.state(i) === "data") this.#used--;
		this.#mark(cluster, count, true);
	}

	flush(): void {
		if (!this.#dirty) return;
		fdatasyncSync(this.#descriptor);
		if (this.#dirtyPages.size > 0) {
			for (const [i, bitmap] of [this.#present, this.#zero].entries()) {
				for (const [number, bytes] of bitmap.pages()) {
					if (!this.#dirtyPages.has(number)) continue;
					writeFully(this.#descriptor, bytes, HEADER_BYTES + i * this.#bitmapBytes + number * PAGE_BYTES);
				}
			}
			fdatasyncSync(this.#descriptor);
			this.#dirtyPages.clear();
		}
		this.#dirty = false;
	}

	/** Flushes, and lets go of the file. */
	close(): void {
		try {
			this.flush();
		} finally {
			closeSync(this.#descriptor);
		}
	}

	#mark(cluster: number, count: number, zero: boolean): void {
		this.#present.fill(cluster, count, true);
		this.#zero.fill(cluster, count, zero);
		const last = Math.floor((cluster + count - 1) / CLUSTERS_PER_PAGE);
		for (let page = Math.floor(cluster / CLUSTERS_PER_PAGE); page <= last; page++) this.#dirtyPages.add(page);
	}

	#create(base: OverlayBase): void {
		const clusters = Math.ceil(base.bytes / CLUSTER_BYTES);
		ftruncateSync(this.#descriptor, this.#dataStart + clusters * CLUSTER_BYTES);
		fsyncSync(this.#descriptor);
		writeFully(this.#descriptor, header(base), 0);
		fdatasyncSync(this.#descriptor);
	}

	#load(path: string, base: OverlayBase): void {
		const refuse = (message: string): never => {
			throw new CliError(EXIT.usage, "BAD_OVERLAY", `overlay ${path}: ${message}`);
		};
		const { size } = fstatSync(this.#descriptor);
		const found = new Uint8Array(header(base).length);
		if (size < HEADER_BYTES) refuse("expected an overlay of xkvm's, or no file");
		readFully(this.#descriptor, found, 0);
		const view = new DataView(found.buffer);
		if (!MAGIC.every((byte, i) => found[i] === byte)) refuse("expected an overlay of xkvm's, or no file");
		if (view.getUint32(8, true) !== VERSION || view.getUint32(12, true) !== CLUSTER_BYTES) {
			refuse(`made by another version of xkvm (format ${view.getUint32(8, true)})`);
		}
		if (Number(view.getBigUint64(16, true)) !== base.bytes || Number(view.getBigUint64(24, true)) !== base.modifiedMs) {
			refuse("the disk below it has changed since it was made; give it that disk as it was, or start a new overlay");
		}
		if (size < this.#dataStart + Math.ceil(base.bytes / CLUSTER_BYTES) * CLUSTER_BYTES) refuse("its end is missing");
		const page = new Uint8Array(PAGE_BYTES);
		for (const [i, bitmap] of [this.#present, this.#zero].entries()) {
			for (let number = 0; number * PAGE_BYTES < this.#bitmapBytes; number++) {
				readFully(this.#descriptor, page, HEADER_BYTES + i * this.#bitmapBytes + number * PAGE_BYTES);
				if (page.some((byte) => byte !== 0)) bitmap.load(number, page);
			}
		}
		for (const [number] of this.#present.pages()) {
			for (let i = 0; i < CLUSTERS_PER_PAGE; i++) {
				if (this.state(number * CLUSTERS_PER_PAGE + i) === "data") this.#used++;
			}
		}
	}
}

function bitmapBytes(bytes: number): number {
	return Math.ceil(bytes / CLUSTER_BYTES / CLUSTERS_PER_PAGE) * PAGE_BYTES;
}

function header(base: OverlayBase): Uint8Array {
	const bytes = new Uint8Array(32);
	const view = new DataView(bytes.buffer);
	bytes.set(MAGIC);
	view.setUint32(8, VERSION, true);
	view.setUint32(12, CLUSTER_BYTES, true);
	view.setBigUint64(16, BigInt(base.bytes), true);
	view.setBigUint64(24, BigInt(base.modifiedMs), true);
	return bytes;
}
