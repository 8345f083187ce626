/** Folders shared with guests, and the servers of the protocols that carry them. */
export { FuseServer, MAX_FUSE_REQUEST } from "../fuse/server.ts";
export { MAX_P9_MESSAGE, P9Server } from "../p9/server.ts";
export {
	requireName,
	type ShareAttributes,
	type ShareChanges,
	type SharedFolder,
	ShareError,
	type ShareErrorCode,
	type ShareFile,
	type ShareKind,
	type ShareListing,
	type ShareNode,
	type ShareOpenMode,
	type ShareSpace,
} from "./directory.ts";
export { MemoryFolder, type MemoryFolderOptions } from "./memory-folder.ts";
