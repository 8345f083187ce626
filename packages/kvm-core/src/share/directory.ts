/** What there is in a folder. */
export type ShareKind = "file" | "folder" | "link" | "fifo" | "socket" | "character" | "block";

/** Attributes of a file, folder or link. Times are nanoseconds since 1970. */
export interface ShareAttributes {
	readonly kind: ShareKind;
	readonly inode: bigint;
	readonly size: bigint;
	/** Units of 512 bytes. */
	readonly blocks: bigint;
	/** Permission bits, 0 to 0o1777: never set-user-ID or set-group-ID. */
	readonly permissions: number;
	readonly links: number;
	/** Owner and group as the guest sees them. */
	readonly uid: number;
	readonly gid: number;
	readonly accessed: bigint;
	readonly modified: bigint;
	readonly changed: bigint;
}

/** What can be changed of them. */
export interface ShareChanges {
	permissions?: number;
	uid?: number;
	gid?: number;
	size?: bigint;
	accessed?: bigint | "now";
	modified?: bigint | "now";
}

/** Space of the file system behind a share, in blocks. */
export interface ShareSpace {
	readonly blockSize: number;
	readonly blocks: bigint;
	readonly free: bigint;
	readonly available: bigint;
	readonly files: bigint;
	readonly freeFiles: bigint;
}

/** How a file is opened. */
export interface ShareOpenMode {
	readonly read: boolean;
	readonly write: boolean;
	readonly append?: boolean;
	readonly truncate?: boolean;
	/** Every write is safe when it returns (O_DSYNC or O_SYNC). */
	readonly sync?: boolean;
}

/** An open file. */
export interface ShareFile {
	/** Returns how many bytes there were. */
	read(offset: number, target: Uint8Array): number;
	/** Writes all of `source`. */
	write(offset: number, source: Uint8Array): void;
	/** What was written is safe when this returns. */
	sync(dataOnly: boolean): void;
	close(): void;
}

/** Names in a folder, one after another and without `.` and `..`. */
export interface ShareListing {
	next(): string | undefined;
	close(): void;
}

/** A file, folder or link of a share: what it is belongs to the {@link SharedFolder} that gave it. */
export interface ShareNode {
	readonly kind: ShareKind;
}

/**
 * A folder shared with a guest, for the servers of file protocols. Operations are synchronous and throw {@link ShareError}.
 *
 * `name` is always one name: implementations refuse empty ones, `.`, `..`, and those with a slash or a zero. No operation
 * follows a symbolic link: links are the guest's to follow.
 *
 * `lookup`, `create`, `makeFolder`, `makeLink` and `link` give a reference to a node, the same node for the same file as long
 * as any are held; `forget` gives them back.
 */
export interface SharedFolder {
	readonly readonly: boolean;
	readonly root: ShareNode;
	lookup(folder: ShareNode, name: string): ShareNode;
	forget(node: ShareNode, references: number): void;
	/** @param file - an open file of the node, where there is one: it may have no name any more */
	attributes(node: ShareNode, file?: ShareFile): ShareAttributes;
	change(node: ShareNode, changes: ShareChanges, file?: ShareFile): void;
	readLink(node: ShareNode): string;
	open(node: ShareNode, mode: ShareOpenMode): ShareFile;
	/** Opens a file, and makes it when it is not there. */
	create(
		folder: ShareNode,
		name: string,
		permissions: number,
		mode: ShareOpenMode & { exclusive: boolean },
	): { node: ShareNode; file: ShareFile };
	makeFolder(folder: ShareNode, name: string, permissions: number): ShareNode;
	makeLink(folder: ShareNode, name: string, target: string): ShareNode;
	link(node: ShareNode, folder: ShareNode, name: string): ShareNode;
	unlink(folder: ShareNode, name: string): void;
	removeFolder(folder: ShareNode, name: string): void;
	/** @param replace - whether something may be there already */
	rename(from: ShareNode, name: string, to: ShareNode, newName: string, replace: boolean): void;
	list(folder: ShareNode): ShareListing;
	/** Names made and removed in the folder are safe when this returns. */
	syncFolder(folder: ShareNode): void;
	space(): ShareSpace;
}

/** Linux's numbers of the errors that file protocols carry. */
const ERRNO = {
	EPERM: 1,
	ENOENT: 2,
	EIO: 5,
	ENXIO: 6,
	EBADF: 9,
	EAGAIN: 11,
	ENOMEM: 12,
	EACCES: 13,
	EBUSY: 16,
	EEXIST: 17,
	EXDEV: 18,
	ENOTDIR: 20,
	EISDIR: 21,
	EINVAL: 22,
	ENFILE: 23,
	EMFILE: 24,
	ETXTBSY: 26,
	EFBIG: 27,
	ENOSPC: 28,
	EROFS: 30,
	EMLINK: 31,
	ERANGE: 34,
	ENAMETOOLONG: 36,
	ENOSYS: 38,
	ENOTEMPTY: 39,
	ELOOP: 40,
	EPROTO: 71,
	EILSEQ: 84,
	EOPNOTSUPP: 95,
	ESTALE: 116,
	EDQUOT: 122,
} as const;

/** Names of the errors a share answers with. */
export type ShareErrorCode = keyof typeof ERRNO;

/** A file operation that failed: the guest gets the number. */
export class ShareError extends Error {
	override readonly name = "ShareError";
	readonly code: ShareErrorCode;

	constructor(code: ShareErrorCode, message: string = code) {
		super(message);
		this.code = code;
	}
}

/** Linux's error number for whatever an operation threw; EIO for what has none. */
export function shareErrno(error: unknown): number {
	const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
	return Object.hasOwn(ERRNO, code) ? ERRNO[code as ShareErrorCode] : ERRNO.EIO;
}

/**
 * Checks that a guest's name is one name.
 *
 * @throws ShareError EINVAL, ENAMETOOLONG
 */
export function requireName(name: string): void {
	if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) throw new ShareError("EINVAL", "not a name");
	if (name.length > 255) throw new ShareError("ENAMETOOLONG", "names have 255 bytes at most");
}
