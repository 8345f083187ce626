import {
	chmodSync,
	closeSync,
	constants,
	existsSync,
	fdatasyncSync,
	fstatSync,
	fsyncSync,
	ftruncateSync,
	futimesSync,
	linkSync,
	lstatSync,
	lutimesSync,
	mkdirSync,
	opendirSync,
	openSync,
	readlinkSync,
	readSync,
	renameSync,
	rmdirSync,
	statfsSync,
	symlinkSync,
	unlinkSync,
	writeSync,
} from "node:fs";
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
} from "@x/kvm-core";
import { CliError, EXIT, toCliError } from "../exit.ts";
import { FolderDescriptors } from "./folder-descriptors.ts";
import { HostNode } from "./host-node.ts";

/** Linux's O_PATH: a descriptor that names a file without opening it. Node hands flags on as they are. */
const O_PATH = 0o10000000;
const { O_APPEND, O_CREAT, O_DSYNC, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = constants;
const NOBODY = 65_534;

type Stats = ReturnType<typeof statsOf>;

interface HostFile extends ShareFile {
	readonly descriptor: number;
}

/**
 * A folder of the host for guests.
 *
 * Node has no openat, but Linux's /proc/self/fd/N/NAME is one: N is a descriptor of a folder that was itself reached name by
 * name with O_NOFOLLOW, and NAME is one name, never `..`. No path of more than one name is ever given to the host, and the
 * last one is never followed: a link swapped in at any moment makes the operation fail, not leave the folder. Files are
 * first named with O_PATH, looked at, and then opened through that very descriptor: what was looked at is what is opened,
 * so pipes and devices are never opened at all.
 */
export class NodeFolder implements SharedFolder {
	readonly readonly: boolean;
	readonly root: ShareNode;
	readonly #rootNode: HostNode;
	readonly #nodes = new Map<string, HostNode>();
	readonly #folders: FolderDescriptors;
	readonly #uid = process.geteuid?.() ?? 0;
	readonly #gid = process.getegid?.() ?? 0;

	/**
	 * @throws CliError when there is none, it is no folder, or the host is no Linux with /proc
	 */
	constructor(path: string, options: { readonly?: boolean } = {}) {
		if (process.platform !== "linux" || !existsSync("/proc/self/fd")) {
			throw new CliError(EXIT.notFound, "SHARE_UNSUPPORTED", `--share ${path}: sharing folders needs Linux with /proc`);
		}
		this.readonly = options.readonly ?? false;
		// The user's own path may go through links; nothing after it does.
		let descriptor: number;
		try {
			descriptor = openSync(path, O_PATH | constants.O_DIRECTORY);
		} catch (error) {
			throw toCliError(error);
		}
		const stats = statsOf(fstatSync(descriptor, { bigint: true }));
		this.#rootNode = new HostNode("folder", stats.identity);
		this.root = this.#rootNode;
		this.#nodes.set(stats.identity, this.#rootNode);
		this.#folders = new FolderDescriptors(this.#rootNode, descriptor);
	}

	/** Lets go of the folder; files a guest has open stay so until its server is reset. */
	close(): void {
		this.#folders.close();
	}

	lookup(folder: ShareNode, name: string): ShareNode {
		requireName(name);
		const parent = folder as HostNode;
		return this.#know(parent, name, this.#stat(parent, name));
	}

	forget(node: ShareNode, references: number): void {
		const host = node as HostNode;
		if (host === this.#rootNode) return;
		host.references -= references;
		if (host.references > 0) return;
		if (this.#nodes.get(host.identity) === host) this.#nodes.delete(host.identity);
		this.#folders.forget(host);
	}

	attributes(node: ShareNode, file?: ShareFile): ShareAttributes {
		return this.#toAttributes(this.#statNode(node as HostNode, file as HostFile | undefined));
	}

	change(node: ShareNode, changes: ShareChanges, file?: ShareFile): void {
		this.#requireWritable();
		const host = node as HostNode;
		const stats = this.#statNode(host, file as HostFile | undefined);
		this.#requireOwner(stats, changes);
		const descriptor = (file as HostFile | undefined)?.descriptor ?? host.anyFile()?.descriptor;
		if (changes.size !== undefined) {
			const size = Number(changes.size);
			if (!Number.isSafeInteger(size)) throw new ShareError("EFBIG");
			if (stats.kind === "folder") throw new ShareError("EISDIR");
			if (file === undefined) this.#opened(host, O_WRONLY, (writable) => ftruncateSync(writable, size));
			else ftruncateSync((file as HostFile).descriptor, size);
		}
		const { permissions, accessed, modified } = changes;
		if (permissions !== undefined) {
			const mode = permissions & 0o1777;
			if (stats.kind === "link") throw new ShareError("EOPNOTSUPP");
			// A pinned descriptor's entry in /proc leads to the file itself, whatever its name leads to by now.
			if (descriptor !== undefined) chmodSync(procPath(descriptor), mode);
			else this.#pinned(host, (pinned) => chmodSync(procPath(pinned), mode));
		}
		if (accessed === undefined && modified === undefined) return;
		const now = Date.now() / 1000;
		const when = (time: bigint | "now" | undefined, before: bigint): number =>
			time === "now" ? now : Number(time ?? before) / 1e9;
		const times = [when(accessed, stats.accessed), when(modified, stats.modified)] as const;
		if (descriptor !== undefined) futimesSync(descriptor, ...times);
		else this.#named(host, (path) => lutimesSync(path, ...times));
	}

	readLink(node: ShareNode): string {
		const host = node as HostNode;
		if (host.kind !== "link") throw new ShareError("EINVAL");
		return this.#named(host, (path) => readlinkSync(path));
	}

	open(node: ShareNode, mode: ShareOpenMode): ShareFile {
		return this.#openFile(node as HostNode, mode);
	}

	create(
		folder: ShareNode,
		name: string,
		permissions: number,
		mode: ShareOpenMode & { exclusive: boolean },
	): { node: ShareNode; file: ShareFile } {
		requireName(name);
		const parent = folder as HostNode;
		let descriptor: number | undefined;
		if (mode.exclusive || !this.#exists(parent, name)) {
			this.#requireWritable();
			// O_EXCL never follows a link at the end, not even one that leads nowhere.
			const flags = accessOf(mode) | O_CREAT | O_EXCL | O_NOFOLLOW;
			descriptor = openSync(this.#path(parent, name), flags, permissions & 0o777);
		}
		if (descriptor !== undefined) {
			const stats = statsOf(fstatSync(descriptor, { bigint: true }));
			const node = this.#know(parent, name, stats);
			return { node, file: this.#adopt(node, descriptor, mode) };
		}
		const node = this.#existing(parent, name);
		try {
			return { node, file: this.#openFile(node, mode) };
		} catch (error) {
			this.forget(node, 1);
			throw error;
		}
	}

	makeFolder(folder: ShareNode, name: string, permissions: number): ShareNode {
		return this.#added(folder, name, (path) => mkdirSync(path(), permissions & 0o1777));
	}

	makeLink(folder: ShareNode, name: string, target: string): ShareNode {
		if (target === "" || target.includes("\0")) throw new ShareError("EINVAL");
		return this.#added(folder, name, (path) => symlinkSync(target, path()));
	}

	link(node: ShareNode, folder: ShareNode, name: string): ShareNode {
		const host = node as HostNode;
		if (host.kind !== "file" && host.kind !== "link") throw new ShareError("EPERM");
		// In this order, for a descriptor is good until the call after next.
		return this.#added(folder, name, (path) => this.#named(host, (from) => linkSync(from, path())));
	}

	unlink(folder: ShareNode, name: string): void {
		this.#removed(folder, name, (path) => unlinkSync(path));
	}

	removeFolder(folder: ShareNode, name: string): void {
		this.#removed(folder, name, (path) => rmdirSync(path));
	}

	rename(from: ShareNode, name: string, to: ShareNode, newName: string, replace: boolean): void {
		this.#requireWritable();
		requireName(name);
		requireName(newName);
		const [source, target] = [from as HostNode, to as HostNode];
		const moved = this.#known(source, name);
		const replaced = this.#known(target, newName);
		// Node has no RENAME_NOREPLACE; between look and move only another process could put something there.
		if (!replace && this.#exists(target, newName)) throw new ShareError("EEXIST");
		renameSync(this.#path(source, name), this.#path(target, newName));
		if (moved !== undefined && moved === replaced) return;
		replaced?.removeName(target, newName);
		if (replaced?.kind === "folder") this.#folders.forget(replaced);
		moved?.removeName(source, name);
		moved?.addName(target, newName);
	}

	list(folder: ShareNode): ShareListing {
		const descriptor = this.#folders.open(folder as HostNode);
		// Opening it again gives a descriptor of its own, which may outlive the cached one.
		const listing = opendirSync(procPath(descriptor), { bufferSize: 256 });
		return { next: () => listing.readSync()?.name, close: () => listing.closeSync() };
	}

	syncFolder(folder: ShareNode): void {
		const descriptor = openSync(procPath(this.#folders.open(folder as HostNode)), O_RDONLY);
		try {
			fsyncSync(descriptor);
		} finally {
			closeSync(descriptor);
		}
	}

	space(): ShareSpace {
		const stats = statfsSync(procPath(this.#folders.open(this.#rootNode)), { bigint: true });
		return {
			blockSize: Number(stats.bsize),
			blocks: stats.blocks,
			free: stats.bfree,
			available: stats.bavail,
			files: stats.files,
			freeFiles: stats.ffree,
		};
	}

	#path(folder: HostNode, name: string): string {
		return `${procPath(this.#folders.open(folder))}/${name}`;
	}

	#stat(folder: HostNode, name: string): Stats {
		return statsOf(lstatSync(this.#path(folder, name), { bigint: true }));
	}

	#exists(folder: HostNode, name: string): boolean {
		return lstatSync(this.#path(folder, name), { throwIfNoEntry: false }) !== undefined;
	}

	/** Attributes of what a node is, not of what has its name now. */
	#statNode(node: HostNode, file: HostFile | undefined): Stats {
		const descriptor = file?.descriptor ?? node.anyFile()?.descriptor;
		if (descriptor !== undefined) return statsOf(fstatSync(descriptor, { bigint: true }));
		if (node.kind === "folder") return statsOf(fstatSync(this.#folders.open(node), { bigint: true }));
		return this.#named(node, (_path, stats) => stats);
	}

	/** Calls with a path of the node, once it is sure that the path is still the node's. */
	#named<T>(node: HostNode, work: (path: string, stats: Stats) => T): T {
		for (const { folder, name } of node.names()) {
			const path = this.#path(folder, name);
			const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
			if (found === undefined) continue;
			const stats = statsOf(found);
			if (stats.identity === node.identity) return work(path, stats);
		}
		throw new ShareError("ESTALE");
	}

	/** Calls with a descriptor that holds the node without having opened it. */
	#pinned<T>(node: HostNode, work: (descriptor: number) => T): T {
		if (node.kind === "folder") return work(this.#folders.open(node));
		return this.#named(node, (path) => {
			const descriptor = openSync(path, O_PATH | O_NOFOLLOW);
			try {
				if (statsOf(fstatSync(descriptor, { bigint: true })).identity !== node.identity) throw new ShareError("ESTALE");
				return work(descriptor);
			} finally {
				closeSync(descriptor);
			}
		});
	}

	/** Calls with a plain file opened, and closes it. */
	#opened<T>(node: HostNode, flags: number, work: (descriptor: number) => T): T {
		const descriptor = this.#reopen(node, flags);
		try {
			return work(descriptor);
		} finally {
			closeSync(descriptor);
		}
	}

	#reopen(node: HostNode, flags: number): number {
		if (node.kind === "folder") throw new ShareError("EISDIR");
		if (node.kind === "link") throw new ShareError("ELOOP");
		if (node.kind !== "file") throw new ShareError("EACCES", `a ${node.kind} of the host is not opened for a guest`);
		const held = node.anyFile();
		const open = (pinned: number): number => openSync(procPath(pinned), flags | O_NONBLOCK);
		return held === undefined ? this.#pinned(node, open) : open(held.descriptor);
	}

	#openFile(node: HostNode, mode: ShareOpenMode): ShareFile {
		if (mode.write || mode.truncate === true) this.#requireWritable();
		return this.#adopt(node, this.#reopen(node, accessOf(mode) | (mode.truncate === true ? O_TRUNC : 0)), mode);
	}

	#adopt(node: HostNode, descriptor: number, mode: ShareOpenMode): HostFile {
		const file: HostFile = {
			descriptor,
			read: (offset, target) => {
				let done = 0;
				while (done < target.length) {
					const count = readSync(descriptor, target, done, target.length - done, offset + done);
					if (count === 0) break;
					done += count;
				}
				return done;
			},
			write: (offset, source) => {
				for (let done = 0; done < source.length; ) {
					const at = mode.append === true ? null : offset + done;
					done += writeSync(descriptor, source, done, source.length - done, at);
				}
			},
			sync: (dataOnly) => (dataOnly ? fdatasyncSync(descriptor) : fsyncSync(descriptor)),
			close: () => {
				node.files.delete(file);
				closeSync(descriptor);
			},
		};
		node.files.add(file);
		return file;
	}

	/** A node that is there already, as `lookup` gives it. */
	#existing(parent: HostNode, name: string): HostNode {
		return this.#know(parent, name, this.#stat(parent, name));
	}

	#know(parent: HostNode, name: string, stats: Stats): HostNode {
		let node = this.#nodes.get(stats.identity);
		if (node === undefined || node.kind !== stats.kind) {
			node = new HostNode(stats.kind, stats.identity);
			this.#nodes.set(stats.identity, node);
		}
		if (node !== this.#rootNode) node.addName(parent, name);
		node.references++;
		return node;
	}

	/** The node a name stands for, if a guest knows it. */
	#known(folder: HostNode, name: string): HostNode | undefined {
		const stats = lstatSync(this.#path(folder, name), { bigint: true, throwIfNoEntry: false });
		return stats === undefined ? undefined : this.#nodes.get(statsOf(stats).identity);
	}

	#added(folder: ShareNode, name: string, make: (path: () => string) => void): ShareNode {
		this.#requireWritable();
		requireName(name);
		const parent = folder as HostNode;
		make(() => this.#path(parent, name));
		return this.#existing(parent, name);
	}

	#removed(folder: ShareNode, name: string, remove: (path: string) => void): void {
		this.#requireWritable();
		requireName(name);
		const parent = folder as HostNode;
		const node = this.#known(parent, name);
		remove(this.#path(parent, name));
		node?.removeName(parent, name);
		if (node?.kind === "folder") this.#folders.forget(node);
	}

	#requireWritable(): void {
		if (this.readonly) throw new ShareError("EROFS");
	}

	/** Files belong to whoever runs the guest; giving them to somebody else is not the guest's to decide. */
	#requireOwner(stats: Stats, { uid, gid }: ShareChanges): void {
		const { uid: ownUid, gid: ownGid } = this.#toAttributes(stats);
		const same = (wanted: number | undefined, own: number): boolean => wanted === undefined || wanted === own;
		if (!same(uid, ownUid) || !same(gid, ownGid)) throw new ShareError("EPERM");
	}

	#toAttributes(stats: Stats): ShareAttributes {
		const { identity: _identity, uid, gid, ...rest } = stats;
		return { ...rest, uid: uid === this.#uid ? 0 : NOBODY, gid: gid === this.#gid ? 0 : NOBODY };
	}
}

function procPath(descriptor: number): string {
	return `/proc/self/fd/${descriptor}`;
}

function accessOf(mode: ShareOpenMode): number {
	const access = mode.write ? (mode.read ? O_RDWR : O_WRONLY) : O_RDONLY;
	return access | (mode.append === true ? O_APPEND : 0) | (mode.sync === true ? O_DSYNC : 0);
}

const KINDS: readonly (readonly [mask: number, kind: ShareKind])[] = [
	[constants.S_IFREG, "file"],
	[constants.S_IFDIR, "folder"],
	[constants.S_IFLNK, "link"],
	[constants.S_IFIFO, "fifo"],
	[constants.S_IFSOCK, "socket"],
	[constants.S_IFCHR, "character"],
	[constants.S_IFBLK, "block"],
];

function statsOf(stats: import("node:fs").BigIntStats) {
	const mode = Number(stats.mode);
	const kind = KINDS.find(([mask]) => (mode & constants.S_IFMT) === mask)?.[1] ?? "character";
	return {
		identity: `${stats.dev}:${stats.ino}`,
		kind,
		inode: stats.ino,
		size: stats.size,
		blocks: stats.blocks,
		permissions: mode & 0o1777,
		links: Number(stats.nlink),
		uid: Number(stats.uid),
		gid: Number(stats.gid),
		accessed: stats.atimeNs,
		modified: stats.mtimeNs,
		changed: stats.ctimeNs,
	};
}
