import { closeSync, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { BlockBackend } from "@x/kvm-core";
import { CliError, EXIT } from "../exit.ts";

const SECTOR = 512;

/** A disk as `--disk` names it. */
export interface DiskSpec {
	readonly path: string;
	readonly readonly: boolean;
	/** Its serial number in the guest. @default by its place among the disks */
	readonly id?: string;
}

/** A file as a disk. */
export interface FileDisk extends BlockBackend {
	readonly id: string | undefined;
	close(): void;
}

/**
 * Opens a disk image.
 *
 * @throws CliError when it is no file whose size is a multiple of 512; Node's error when it cannot be opened
 */
export function openDisk({ path, readonly, id }: DiskSpec): FileDisk {
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
		id,
		bytes,
		readonly,
		read(offset, target) {
			for (let done = 0; done < target.length; ) {
				const count = readSync(descriptor, target, done, target.length - done, offset + done);
				if (count === 0) throw new Error("the file has become shorter");
				done += count;
			}
		},
		write(offset, source) {
			for (let done = 0; done < source.length; ) {
				done += writeSync(descriptor, source, done, source.length - done, offset + done);
			}
		},
		flush() {
			fdatasyncSync(descriptor);
		},
		close() {
			closeSync(descriptor);
		},
	};
}
