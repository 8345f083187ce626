import { FuseServer, MAX_FUSE_REQUEST } from "../../../fuse/server.ts";
import type { SharedFolder } from "../../../share/directory.ts";
import { ShareDevice, shareTag } from "./share-device.ts";

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
export class VirtioFs extends ShareDevice<FuseServer> {
	/**
	 * @throws MachineError ERR_MACHINE_OPTION for a tag that is empty or too long
	 */
	constructor(options: VirtioFsOptions) {
		const config = new Uint8Array(TAG_BYTES + 4);
		config.set(shareTag(options.tag, TAG_BYTES));
		config[TAG_BYTES] = 1;
		// Two queues: FORGETs, and everything else.
		super(new FuseServer(options.folder), { type: 26, features: 0, queues: 2, config, longest: MAX_FUSE_REQUEST });
	}
}
