import { MAX_P9_MESSAGE, P9Server } from "../../../p9/server.ts";
import type { SharedFolder } from "../../../share/directory.ts";
import { ShareDevice, shareTag } from "./share-device.ts";

const F_MOUNT_TAG = 1 << 0;

/** Options of {@link Virtio9p}. */
export interface Virtio9pOptions {
	folder: SharedFolder;
	/** What the guest mounts it by, up to 255 bytes: `mount -t 9p -o trans=virtio TAG /mnt`. */
	tag: string;
}

/** A folder shared by 9P2000.L messages, for kernels without virtio-fs. */
export class Virtio9p extends ShareDevice<P9Server> {
	/**
	 * @throws MachineError ERR_MACHINE_OPTION for a tag that is empty or too long
	 */
	constructor(options: Virtio9pOptions) {
		const tag = shareTag(options.tag, 255);
		const config = Uint8Array.of(tag.length, 0, ...tag);
		super(new P9Server(options.folder), { type: 9, features: F_MOUNT_TAG, queues: 1, config, longest: MAX_P9_MESSAGE });
	}
}
