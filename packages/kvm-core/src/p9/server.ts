import {
	type ShareAttributes,
	type ShareChanges,
	type SharedFolder,
	ShareError,
	type ShareFile,
	type ShareNode,
	shareErrno,
} from "../share/directory.ts";
import { FolderCursor } from "../share/folder-cursor.ts";
import { MODE_OF_KIND, O_EXCL, openMode, S_IFMT } from "../share/linux.ts";
import { nanosecondsOf, secondsOf, toTime } from "../share/time.ts";
import { MessageReader, MessageWriter } from "../share/wire.ts";
import {
	AT_REMOVEDIR,
	GETATTR_BASIC,
	HEADER,
	MAX_WALK,
	QID_BYTES,
	SETATTR,
	T,
	V9FS_MAGIC,
	VERSION_TEXT,
} from "./protocol.ts";

/** Longest message either way, whatever the guest asks for. */
export const MAX_P9_MESSAGE: number = 512 * 1024;
/** Header and count of a READ's answer. */
const READ_OVERHEAD = HEADER + 4;
/** Names a guest may hold at once, and files it may have open. */
const MAX_FIDS = 2 ** 18;
const MAX_OPEN = 1024;
const F_UNLCK = 2;

/** A node some fids stand for, and how many references the folder gave for it. */
interface Held {
	readonly node: ShareNode;
	references: number;
	fids: number;
}

interface Fid {
	held: Held;
	file?: ShareFile;
	cursor?: FolderCursor;
}

/**
 * A 9P2000.L file server over a {@link SharedFolder}: bytes of a message in, bytes of the reply out. Messages come from a
 * guest and are never trusted; whatever they hold, the answer is a reply or an error.
 *
 * Extended attributes are not there (EOPNOTSUPP); locks are granted, for the one guest arbitrates its own.
 */
export class P9Server {
	readonly #folder: SharedFolder;
	readonly #out = new MessageWriter(MAX_P9_MESSAGE);
	readonly #fids = new Map<number, Fid>();
	readonly #held = new Map<ShareNode, Held>();
	#messageSize = MAX_P9_MESSAGE;
	#open = 0;

	constructor(folder: SharedFolder) {
		this.#folder = folder;
	}

	/** Files and folders a guest has open. */
	get openHandles(): number {
		return this.#open;
	}

	/** Names a guest holds. */
	get knownFids(): number {
		return this.#fids.size;
	}

	/**
	 * Answers a message.
	 *
	 * @param message - it must not change during the call
	 * @param room - bytes the guest has for the reply
	 * @returns the reply, valid until the next call; undefined for what is no message
	 */
	handle(message: Uint8Array, room: number): Uint8Array | undefined {
		// The least reply is an error.
		if (message.length < HEADER || room < HEADER + 4) return undefined;
		const header = new MessageReader(message, 0);
		const size = header.u32();
		const type = header.u8();
		const tag = header.u16();
		const out = this.#out;
		out.limit = Math.min(room, this.#messageSize);
		out.at = HEADER;
		let reply = type + 1;
		try {
			// Virtio hands over whole pages now and then: the message says how long it is.
			if (size < HEADER || size > message.length) throw new ShareError("EINVAL");
			this.#dispatch(type, new MessageReader(message.subarray(0, size), HEADER));
		} catch (error) {
			out.at = HEADER;
			out.u32(shareErrno(error));
			reply = T.LERROR + 1;
		}
		const end = out.at;
		out.at = 0;
		out.u32(end);
		out.u8(reply & 0xff);
		out.u16(tag);
		out.at = end;
		return out.message();
	}

	/** Closes and forgets everything. */
	reset(): void {
		for (const id of [...this.#fids.keys()]) this.#clunk(id);
		this.#messageSize = MAX_P9_MESSAGE;
	}

	#dispatch(type: number, args: MessageReader): void {
		const out = this.#out;
		switch (type) {
			case T.VERSION:
				this.#version(args);
				break;
			case T.ATTACH:
				this.#attach(args.u32());
				break;
			case T.WALK:
				this.#walk(args);
				break;
			case T.CLUNK:
				this.#clunk(args.u32());
				break;
			case T.REMOVE:
				// By name only, with UNLINKAT; the fid goes all the same.
				this.#clunk(args.u32());
				throw new ShareError("EOPNOTSUPP");
			case T.FLUSH:
				// Everything is done when it is answered.
				break;
			case T.LOPEN:
				this.#openFid(args);
				break;
			case T.LCREATE:
				this.#create(args);
				break;
			case T.READ:
				this.#read(args);
				break;
			case T.WRITE:
				this.#write(args);
				break;
			case T.READDIR:
				this.#readFolder(args);
				break;
			case T.GETATTR:
				this.#getAttributes(args);
				break;
			case T.SETATTR:
				this.#setAttributes(args);
				break;
			case T.READLINK:
				out.string16(this.#folder.readLink(this.#node(args.u32())));
				break;
			case T.FSYNC: {
				const { file, held } = this.#fid(args.u32());
				if (file !== undefined) file.sync(args.u32() !== 0);
				else if (held.node.kind === "folder") this.#folder.syncFolder(held.node);
				break;
			}
			case T.STATFS:
				this.#space(args.u32());
				break;
			case T.LOCK:
				this.#fid(args.u32());
				out.u8(0);
				break;
			case T.GETLOCK:
				this.#getLock(args);
				break;
			default:
				this.#changeNames(type, args);
		}
	}

	#changeNames(type: number, args: MessageReader): void {
		const folder = this.#folder;
		switch (type) {
			case T.MKDIR: {
				const parent = this.#node(args.u32());
				const name = args.string16();
				this.#made(folder.makeFolder(parent, name, args.u32() & 0o1777));
				break;
			}
			case T.SYMLINK: {
				const parent = this.#node(args.u32());
				const name = args.string16();
				this.#made(folder.makeLink(parent, name, args.string16()));
				break;
			}
			case T.MKNOD: {
				const parent = this.#node(args.u32());
				const name = args.string16();
				const mode = args.u32();
				// Plain files only: a guest makes no devices, sockets or pipes on its host.
				if ((mode & S_IFMT) !== 0 && (mode & S_IFMT) !== MODE_OF_KIND.file) throw new ShareError("EPERM");
				const how = { read: true, write: false, exclusive: true };
				const { node, file } = folder.create(parent, name, mode & 0o1777, how);
				file.close();
				this.#made(node);
				break;
			}
			case T.LINK: {
				const parent = this.#node(args.u32());
				const node = this.#node(args.u32());
				folder.forget(folder.link(node, parent, args.string16()), 1);
				break;
			}
			case T.RENAMEAT: {
				const from = this.#node(args.u32());
				const name = args.string16();
				const to = this.#node(args.u32());
				folder.rename(from, name, to, args.string16(), true);
				break;
			}
			case T.UNLINKAT: {
				const parent = this.#node(args.u32());
				const name = args.string16();
				if ((args.u32() & AT_REMOVEDIR) !== 0) folder.removeFolder(parent, name);
				else folder.unlink(parent, name);
				break;
			}
			default:
				throw new ShareError("EOPNOTSUPP");
		}
	}

	#version(args: MessageReader): void {
		const size = args.u32();
		const version = args.string16();
		if (size < 4096) throw new ShareError("EINVAL");
		this.reset();
		this.#messageSize = Math.min(size, MAX_P9_MESSAGE);
		this.#out.u32(this.#messageSize);
		this.#out.string16(version === VERSION_TEXT ? VERSION_TEXT : "unknown");
	}

	#attach(id: number): void {
		this.#add(id, this.#folder.root, 0);
		this.#qid(this.#folder.attributes(this.#folder.root));
	}

	#walk(args: MessageReader): void {
		const from = this.#fid(args.u32());
		const id = args.u32();
		const count = args.u16();
		if (count > MAX_WALK) throw new ShareError("EINVAL");
		if (from.file !== undefined || from.cursor !== undefined) throw new ShareError("EBADF");
		const names = Array.from({ length: count }, () => args.string16());
		const folder = this.#folder;
		const reached: ShareNode[] = [];
		const out = this.#out;
		out.u16(0);
		let moved = false;
		try {
			for (const name of names) {
				const node = folder.lookup(reached.at(-1) ?? from.held.node, name);
				reached.push(node);
				this.#qid(folder.attributes(node));
			}
			moved = true;
		} catch (error) {
			// Of a walk that stops on its way the names before count; but the first has to be there.
			if (reached.length === 0 || out.at === HEADER + 2) throw error;
		} finally {
			const target = moved ? reached.pop() : undefined;
			for (const node of reached) folder.forget(node, 1);
			if (target !== undefined) this.#replace(id, from, target, 1);
		}
		if (moved && count === 0) this.#replace(id, from, from.held.node, 0);
		const end = out.at;
		out.at = HEADER;
		out.u16((end - HEADER - 2) / QID_BYTES);
		out.at = end;
	}

	/** Lets a fid stand for a node: a new one, or the one it was walked from. */
	#replace(id: number, from: Fid, node: ShareNode, references: number): void {
		if (this.#fids.get(id) !== from) {
			this.#add(id, node, references);
			return;
		}
		const { held } = from;
		from.held = this.#hold(node, references);
		this.#letGo(held);
	}

	#add(id: number, node: ShareNode, references: number): Fid {
		if (this.#fids.has(id) || this.#fids.size >= MAX_FIDS) {
			if (references > 0) this.#folder.forget(node, references);
			throw new ShareError(this.#fids.has(id) ? "EBADF" : "ENFILE");
		}
		const fid: Fid = { held: this.#hold(node, references) };
		this.#fids.set(id, fid);
		return fid;
	}

	#hold(node: ShareNode, references: number): Held {
		let held = this.#held.get(node);
		if (held === undefined) {
			held = { node, references: 0, fids: 0 };
			this.#held.set(node, held);
		}
		held.references += references;
		held.fids++;
		return held;
	}

	#letGo(held: Held): void {
		if (--held.fids > 0) return;
		this.#held.delete(held.node);
		if (held.references > 0) this.#folder.forget(held.node, held.references);
	}

	#fid(id: number): Fid {
		const fid = this.#fids.get(id);
		if (fid === undefined) throw new ShareError("EBADF");
		return fid;
	}

	#node(id: number): ShareNode {
		return this.#fid(id).held.node;
	}

	#clunk(id: number): void {
		const fid = this.#fid(id);
		this.#fids.delete(id);
		if (fid.file !== undefined || fid.cursor !== undefined) this.#open--;
		fid.file?.close();
		fid.cursor?.close();
		this.#letGo(fid.held);
	}

	#qid({ kind, inode }: ShareAttributes): void {
		const out = this.#out;
		out.u8(kind === "folder" ? 0x80 : kind === "link" ? 0x02 : 0);
		out.u32(0);
		out.u64(inode);
	}

	/** Answers with the qid of a node nobody keeps. */
	#made(node: ShareNode): void {
		try {
			this.#qid(this.#folder.attributes(node));
		} finally {
			this.#folder.forget(node, 1);
		}
	}

	#requireUnopened(fid: Fid): void {
		if (fid.file !== undefined || fid.cursor !== undefined) throw new ShareError("EBADF");
		if (this.#open >= MAX_OPEN) throw new ShareError("ENFILE");
	}

	#openFid(args: MessageReader): void {
		const fid = this.#fid(args.u32());
		const flags = args.u32();
		this.#requireUnopened(fid);
		const { node } = fid.held;
		const attributes = this.#folder.attributes(node);
		if (node.kind === "folder") fid.cursor = new FolderCursor(this.#folder, node);
		else fid.file = this.#folder.open(node, openMode(flags));
		this.#open++;
		this.#qid(attributes);
		this.#out.u32(0);
	}

	/** The fid of the folder becomes that of the open file. */
	#create(args: MessageReader): void {
		const fid = this.#fid(args.u32());
		const name = args.string16();
		const flags = args.u32();
		const permissions = args.u32() & 0o1777;
		this.#requireUnopened(fid);
		const mode = { ...openMode(flags), exclusive: (flags & O_EXCL) !== 0 };
		const { node, file } = this.#folder.create(fid.held.node, name, permissions, mode);
		const { held } = fid;
		fid.held = this.#hold(node, 1);
		this.#letGo(held);
		fid.file = file;
		this.#open++;
		this.#qid(this.#folder.attributes(node, file));
		this.#out.u32(0);
	}

	#file(id: number): ShareFile {
		const { file } = this.#fid(id);
		if (file === undefined) throw new ShareError("EBADF");
		return file;
	}

	#read(args: MessageReader): void {
		const file = this.#file(args.u32());
		const offset = args.index();
		const out = this.#out;
		const size = Math.min(args.u32(), out.limit - READ_OVERHEAD);
		out.at = READ_OVERHEAD;
		const count = file.read(offset, out.reserve(size));
		out.at = HEADER;
		out.u32(count);
		out.at += count;
	}

	#write(args: MessageReader): void {
		const file = this.#file(args.u32());
		const offset = args.index();
		const size = args.u32();
		file.write(offset, args.take(size));
		this.#out.u32(size);
	}

	#readFolder(args: MessageReader): void {
		const { cursor } = this.#fid(args.u32());
		if (cursor === undefined) throw new ShareError("EBADF");
		const offset = args.index();
		const out = this.#out;
		out.limit = Math.min(out.limit, READ_OVERHEAD + args.u32());
		out.u32(0);
		cursor.seek(offset);
		if (cursor.position === offset) {
			for (let name = cursor.next(); name !== undefined; name = cursor.next()) {
				if (this.#putName(cursor, name)) continue;
				cursor.putBack(name);
				break;
			}
		}
		const end = out.at;
		out.at = HEADER;
		out.u32(end - READ_OVERHEAD);
		out.at = end;
	}

	/** False when there is no room for it. A name that went away meanwhile is left out. */
	#putName(cursor: FolderCursor, name: string): boolean {
		const out = this.#out;
		if (QID_BYTES + 11 + new TextEncoder().encode(name).length > out.room) return false;
		let attributes: ShareAttributes;
		try {
			const node = this.#folder.lookup(cursor.node, name);
			try {
				attributes = this.#folder.attributes(node);
			} finally {
				this.#folder.forget(node, 1);
			}
		} catch {
			return true;
		}
		this.#qid(attributes);
		out.u64(cursor.position);
		out.u8(MODE_OF_KIND[attributes.kind] >> 12);
		out.string16(name);
		return true;
	}

	#getAttributes(args: MessageReader): void {
		const { held, file } = this.#fid(args.u32());
		const attributes = this.#folder.attributes(held.node, file);
		const out = this.#out;
		out.u64(GETATTR_BASIC);
		this.#qid(attributes);
		out.u32(MODE_OF_KIND[attributes.kind] | attributes.permissions);
		out.u32(attributes.uid);
		out.u32(attributes.gid);
		out.u64(attributes.links);
		// A device node is nobody's device here.
		out.u64(0);
		out.u64(attributes.size);
		out.u64(4096);
		out.u64(attributes.blocks);
		for (const time of [attributes.accessed, attributes.modified, attributes.changed]) {
			out.u64(secondsOf(time));
			out.u64(nanosecondsOf(time));
		}
		out.zeros(32);
	}

	#setAttributes(args: MessageReader): void {
		const { held, file } = this.#fid(args.u32());
		const [valid, mode, uid, gid] = [args.u32(), args.u32(), args.u32(), args.u32()];
		const size = args.u64();
		const time = (): bigint => toTime(args.u64(), Number(args.u64() % 1_000_000_000n));
		const [accessed, modified] = [time(), time()];
		const has = (bit: number): boolean => (valid & bit) !== 0;
		const changes: ShareChanges = {};
		if (has(SETATTR.MODE)) changes.permissions = mode & 0o1777;
		if (has(SETATTR.UID)) changes.uid = uid;
		if (has(SETATTR.GID)) changes.gid = gid;
		if (has(SETATTR.SIZE)) changes.size = size;
		if (has(SETATTR.ATIME)) changes.accessed = has(SETATTR.ATIME_SET) ? accessed : "now";
		if (has(SETATTR.MTIME)) changes.modified = has(SETATTR.MTIME_SET) ? modified : "now";
		this.#folder.change(held.node, changes, file);
	}

	#space(id: number): void {
		this.#fid(id);
		const out = this.#out;
		const { blockSize, blocks, free, available, files, freeFiles } = this.#folder.space();
		out.u32(V9FS_MAGIC);
		out.u32(blockSize);
		for (const value of [blocks, free, available, files, freeFiles, 0]) out.u64(value);
		out.u32(255);
	}

	#getLock(args: MessageReader): void {
		this.#fid(args.u32());
		args.u8();
		const [start, length, processId] = [args.u64(), args.u64(), args.u32()];
		const client = args.string16();
		const out = this.#out;
		out.u8(F_UNLCK);
		out.u64(start);
		out.u64(length);
		out.u32(processId);
		out.string16(client);
	}
}
