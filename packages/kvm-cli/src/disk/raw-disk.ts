import { closeSync, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { SyncBlockBackend } from "@x/kvm-core";
import { CliError, EXIT } from "../exit.ts";

const SECTOR = 512;

/** A disk with something open behind it. */
export interface FileDisk extends SyncBlockBackend {
	/** Its serial number in the guest. @default by its place among the disks */
	readonly id?: string;
	close(): void;
}

/** Reads all of `target` at a place of a file. */
export function readFully(descriptor: number, target: Uint8Array, offset: number): void {
	for (let done = 0; done < target.length; ) {
		const count = readSync(descriptor, target, done, target.length - done, offset + done);
		if (count === 0) throw new Error("the file has become shorter");
		done += count;
	}
}

/** Writes all of `source` at a place of a file. */
export function writeFully(descriptor: number, source: Uint8Array, offset: number): void {
	for (let done = 0; done < source.length; ) {
		done += writeSync(descriptor, source, done, source.length - done, offset + done);
	}
}

/**
 * Opens a file as a disk of its size; a flush is an fdatasync.
 *
 * @throws CliError when it is no file whose size is a multiple of 512; Node's error when it cannot be opened
 */
export function openRawDisk(path: string, readonly: boolean): FileDisk & { readonly modifiedMs: number } {
	const descriptor = openSync(path, readonly ? "r" : "r+");
	const refuse = (message: string): never => {
		closeSync(descriptor);
		throw new CliError(EXIT.usage, "BAD_DISK", `--disk ${path}: ${message}`);
	};
	const stats = fstatSync(descriptor);
	if (!stats.isFile()) refuse("expected a file");
	const bytes = stats.size;
	if (bytes === 0 || bytes % SECTOR !== 0) refuse(`expected a multiple of ${SECTOR} bytes, it has ${bytes}`);
	return {
		bytes,
		readonly,
		modifiedMs: Math.floor(stats.mtimeMs),
		read: (offset, target) => readFully(descriptor, target, offset),
		write: (offset, source) => writeFully(descriptor, source, offset),
		flush: () => {
			if (!readonly) fdatasyncSync(descriptor);
		},
		close: () => closeSync(descriptor),
	};
}
