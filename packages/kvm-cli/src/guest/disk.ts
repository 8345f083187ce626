import { OverlayBlockBackend } from "@x/kvm-core";
import { OverlayFile } from "../disk/overlay-file.ts";
import { type FileDisk, openRawDisk } from "../disk/raw-disk.ts";

export type { FileDisk } from "../disk/raw-disk.ts";

/** A disk as `--disk` names it. */
export interface DiskSpec {
	readonly path: string;
	readonly readonly: boolean;
	/** Writes go to memory, or to this file; the disk itself stays as it is. */
	readonly overlay?: "memory" | { readonly path: string };
	/** Bytes an overlay may hold. @default 1 GiB in memory, the disk's size in a file */
	readonly overlayLimitBytes?: number;
	/** Its serial number in the guest. @default by its place among the disks */
	readonly id?: string;
}

const MEMORY_LIMIT = 2 ** 30;

/**
 * Opens a disk image.
 *
 * @throws CliError when it is no file whose size is a multiple of 512, or the overlay belongs to another disk; Node's
 * error when it cannot be opened
 */
export function openDisk({ path, readonly, overlay, overlayLimitBytes, id }: DiskSpec): FileDisk {
	const raw = openRawDisk(path, readonly || overlay !== undefined);
	if (overlay === undefined) return id === undefined ? raw : { ...raw, id };
	try {
		const file = overlay === "memory" ? undefined : OverlayFile.open(overlay.path, raw);
		const limit = overlayLimitBytes ?? (file === undefined ? MEMORY_LIMIT : undefined);
		const backend = new OverlayBlockBackend({
			base: raw,
			...(file && { store: file }),
			...(limit !== undefined && { limitBytes: limit }),
		});
		return {
			bytes: raw.bytes,
			readonly: false,
			read: (offset, target) => backend.read(offset, target),
			write: (offset, source) => backend.write(offset, source),
			zero: (offset, length) => backend.zero(offset, length),
			flush: () => backend.flush(),
			close() {
				try {
					file?.close();
				} finally {
					raw.close();
				}
			},
		};
	} catch (error) {
		raw.close();
		throw error;
	}
}
