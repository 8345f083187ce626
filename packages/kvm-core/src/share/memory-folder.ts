import {
	requireName,
	type ShareAttributes,
	type ShareChanges,
	type SharedFolder,
	ShareError,
	type ShareFile,
	type ShareKind,
	type ShareListing,
	type ShareNode,
	type ShareOpenMode,
	type ShareSpace,
} from "./directory.ts";

const BLOCK = 512;
const LINK_LIMIT = 4095;

class MemoryNode implements ShareNode {
	readonly kind: ShareKind;
	readonly inode: bigint;
	permissions: number;
	links = 1;
	bytes = new Uint8Array(0);
	length = 0;
	target = "";
	readonly entries = new Map<string, MemoryNode>();
	accessed: bigint;
	modified: bigint;
	changed: bigint;

	constructor(kind: ShareKind, inode: bigint, permissions: number, now: bigint) {
		this.kind = kind;
		this.inode = inode;
		this.permissions = permissions;
		this.accessed = this.modified = this.changed = now;
	}
}

/** Options of {@link MemoryFolder}. */
export interface MemoryFolderOptions {
	/** Nanoseconds since 1970. */
	now: () => bigint;
	/** @default false */
	readonly?: boolean;
	/** Bytes all files may have together. @default 64 MiB */
	limitBytes?: number;
	/** Files, folders and links there may be. @default 65536 */
	limitNodes?: number;
}

/** A shared folder in memory: for browsers, and for tests. */
export class MemoryFolder implements SharedFolder {
	readonly readonly: boolean;
	readonly root: ShareNode;
	readonly #now: () => bigint;
	readonly #limitBytes: number;
	readonly #limitNodes: number;
	#bytes = 0;
	#nodes = 0;
	#nextInode = 1n;

	constructor(options: MemoryFolderOptions) {
		this.#now = options.now;
		this.readonly = options.readonly ?? false;
		this.#limitBytes = options.limitBytes ?? 64 * 2 ** 20;
		this.#limitNodes = options.limitNodes ?? 65_536;
		this.root = this.#make("folder", 0o755);
	}

	lookup(folder: ShareNode, name: string): ShareNode {
		requireName(name);
		return required(folderOf(folder).entries.get(name));
	}

	forget(): void {}

	attributes(node: ShareNode): ShareAttributes {
		const { kind, inode, permissions, links, accessed, modified, changed, length, target } = node as MemoryNode;
		const size = BigInt(kind === "link" ? target.length : length);
		const blocks = (size + BigInt(BLOCK - 1)) / BigInt(BLOCK);
		return { kind, inode, size, blocks, permissions, links, uid: 0, gid: 0, accessed, modified, changed };
	}

	change(node: ShareNode, changes: ShareChanges): void {
		this.#requireWritable();
		const target = node as MemoryNode;
		if ((changes.uid ?? 0) !== 0 || (changes.gid ?? 0) !== 0) throw new ShareError("EPERM");
		if (changes.size !== undefined) {
			if (target.kind !== "file") throw new ShareError(target.kind === "folder" ? "EISDIR" : "EINVAL");
			this.#resize(target, Number(changes.size));
			target.modified = this.#now();
		}
		if (changes.permissions !== undefined) target.permissions = changes.permissions & 0o1777;
		if (changes.accessed !== undefined) target.accessed = changes.accessed === "now" ? this.#now() : changes.accessed;
		if (changes.modified !== undefined) target.modified = changes.modified === "now" ? this.#now() : changes.modified;
		target.changed = this.#now();
	}

	readLink(node: ShareNode): string {
		if (node.kind !== "link") throw new ShareError("EINVAL");
		return (node as MemoryNode).target;
	}

	open(node: ShareNode, mode: ShareOpenMode): ShareFile {
		const file = node as MemoryNode;
		if (file.kind === "folder") throw new ShareError("EISDIR");
		if (file.kind === "link") throw new ShareError("ELOOP");
		if (mode.write || mode.truncate === true) this.#requireWritable();
		if (mode.truncate === true) this.#resize(file, 0);
		return {
			read: (offset, target) => {
				if (!mode.read) throw new ShareError("EBADF");
				const part = file.bytes.subarray(Math.min(offset, file.length), Math.min(offset + target.length, file.length));
				target.set(part);
				file.accessed = this.#now();
				return part.length;
			},
			write: (offset, source) => {
				if (!mode.write) throw new ShareError("EBADF");
				const at = mode.append === true ? file.length : offset;
				if (at + source.length > file.length) this.#resize(file, at + source.length);
				file.bytes.set(source, at);
				file.modified = file.changed = this.#now();
			},
			sync: () => undefined,
			close: () => undefined,
		};
	}

	create(
		folder: ShareNode,
		name: string,
		permissions: number,
		mode: ShareOpenMode & { exclusive: boolean },
	): { node: ShareNode; file: ShareFile } {
		requireName(name);
		const found = folderOf(folder).entries.get(name);
		if (found !== undefined) {
			if (mode.exclusive) throw new ShareError("EEXIST");
			return { node: found, file: this.open(found, mode) };
		}
		const node = this.#add(folder, name, "file", permissions);
		return { node, file: this.open(node, mode) };
	}

	makeFolder(folder: ShareNode, name: string, permissions: number): ShareNode {
		return this.#add(folder, name, "folder", permissions);
	}

	makeLink(folder: ShareNode, name: string, target: string): ShareNode {
		if (target === "") throw new ShareError("ENOENT");
		if (target.length > LINK_LIMIT) throw new ShareError("ENAMETOOLONG");
		const link = this.#add(folder, name, "link", 0o777);
		link.target = target;
		return link;
	}

	link(node: ShareNode, folder: ShareNode, name: string): ShareNode {
		this.#requireWritable();
		requireName(name);
		if (node.kind === "folder") throw new ShareError("EPERM");
		const file = node as MemoryNode;
		if (file.links === 0) throw new ShareError("ENOENT");
		const { entries } = folderOf(folder);
		if (entries.has(name)) throw new ShareError("EEXIST");
		entries.set(name, file);
		file.links++;
		file.changed = this.#now();
		return file;
	}

	unlink(folder: ShareNode, name: string): void {
		this.#requireWritable();
		requireName(name);
		const { entries } = folderOf(folder);
		const node = required(entries.get(name));
		if (node.kind === "folder") throw new ShareError("EISDIR");
		entries.delete(name);
		this.#drop(node);
	}

	removeFolder(folder: ShareNode, name: string): void {
		this.#requireWritable();
		requireName(name);
		const { entries } = folderOf(folder);
		const node = required(entries.get(name));
		if (folderOf(node).entries.size > 0) throw new ShareError("ENOTEMPTY");
		entries.delete(name);
		this.#drop(node);
	}

	rename(from: ShareNode, name: string, to: ShareNode, newName: string, replace: boolean): void {
		this.#requireWritable();
		requireName(name);
		requireName(newName);
		const source = folderOf(from).entries;
		const { entries } = folderOf(to);
		const node = required(source.get(name));
		const there = entries.get(newName);
		if (there === node) return;
		if (node.kind === "folder" && contains(node, to as MemoryNode)) throw new ShareError("EINVAL");
		if (there !== undefined) {
			if (!replace) throw new ShareError("EEXIST");
			if (there.kind === "folder" && node.kind !== "folder") throw new ShareError("EISDIR");
			if (there.kind !== "folder" && node.kind === "folder") throw new ShareError("ENOTDIR");
			if (there.entries.size > 0) throw new ShareError("ENOTEMPTY");
			this.#drop(there);
		}
		source.delete(name);
		entries.set(newName, node);
	}

	list(folder: ShareNode): ShareListing {
		const names = folderOf(folder).entries.keys();
		return {
			next: () => {
				const { value, done } = names.next();
				return done === true ? undefined : value;
			},
			close: () => undefined,
		};
	}

	syncFolder(): void {}

	space(): ShareSpace {
		const free = BigInt(Math.floor((this.#limitBytes - this.#bytes) / BLOCK));
		return {
			blockSize: BLOCK,
			blocks: BigInt(Math.floor(this.#limitBytes / BLOCK)),
			free,
			available: free,
			files: BigInt(this.#limitNodes),
			freeFiles: BigInt(this.#limitNodes - this.#nodes),
		};
	}

	#make(kind: ShareKind, permissions: number): MemoryNode {
		if (this.#nodes >= this.#limitNodes) throw new ShareError("ENOSPC");
		this.#nodes++;
		return new MemoryNode(kind, this.#nextInode++, permissions & 0o1777, this.#now());
	}

	#add(folder: ShareNode, name: string, kind: ShareKind, permissions: number): MemoryNode {
		this.#requireWritable();
		requireName(name);
		const { entries } = folderOf(folder);
		if ((folder as MemoryNode).links === 0) throw new ShareError("ENOENT");
		if (entries.has(name)) throw new ShareError("EEXIST");
		const node = this.#make(kind, permissions);
		entries.set(name, node);
		return node;
	}

	#drop(node: MemoryNode): void {
		if (--node.links > 0) return;
		this.#nodes--;
		this.#bytes -= node.bytes.length;
	}

	#resize(file: MemoryNode, length: number): void {
		if (length > file.bytes.length) {
			const size = Math.max(length, Math.min(file.bytes.length * 2, length + 2 ** 20));
			const more = size - file.bytes.length;
			if (this.#bytes + more > this.#limitBytes) throw new ShareError("ENOSPC");
			const bytes = new Uint8Array(size);
			bytes.set(file.bytes.subarray(0, file.length));
			file.bytes = bytes;
			if (file.links > 0) this.#bytes += more;
		} else file.bytes.fill(0, length, file.length);
		file.length = length;
	}

	#requireWritable(): void {
		if (this.readonly) throw new ShareError("EROFS");
	}
}

function folderOf(node: ShareNode): MemoryNode {
	if (node.kind !== "folder") throw new ShareError("ENOTDIR");
	return node as MemoryNode;
}

function required(node: MemoryNode | undefined): MemoryNode {
	if (node === undefined) throw new ShareError("ENOENT");
	return node;
}

/** Whether a folder is `inner` or somewhere above it. */
function contains(folder: MemoryNode, inner: MemoryNode): boolean {
	if (folder === inner) return true;
	for (const node of folder.entries.values()) if (node.kind === "folder" && contains(node, inner)) return true;
	return false;
}
