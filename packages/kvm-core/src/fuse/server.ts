import {
	type ShareAttributes,
	type ShareChanges,
	type SharedFolder,
	ShareError,
	type ShareErrorCode,
	type ShareFile,
	type ShareNode,
	shareErrno,
} from "../share/directory.ts";
import { FolderCursor } from "../share/folder-cursor.ts";
import { MODE_OF_KIND, O_EXCL, openMode, S_IFMT } from "../share/linux.ts";
import { nanosecondsOf, secondsOf, toTime } from "../share/time.ts";
import { MessageReader, MessageWriter } from "../share/wire.ts";
import {
	ENTRY_BYTES,
	FATTR,
	FSYNC_DATA_ONLY,
	GETATTR_FH,
	IN_HEADER,
	INIT,
	LEAST_MINOR,
	MAJOR,
	MINOR,
	OP,
	OUT_HEADER,
	RENAME_NOREPLACE,
} from "./protocol.ts";

const ROOT_ID = 1;
const PAGE = 4096;
/** Pages of one READ or WRITE: with its headers it fits a ring of 256 entries, and an event loop's patience. */
const MAX_PAGES = 128;
const MAX_IO = MAX_PAGES * PAGE;
/** Longest request: a WRITE, with room for a header that has grown. */
export const MAX_FUSE_REQUEST: number = MAX_IO + 4096;
const MAX_REPLY = MAX_IO + OUT_HEADER;
/** Files a guest may know at once, and have open. */
const MAX_NODES = 2 ** 18;
const MAX_HANDLES = 1024;
/** Seconds a guest may believe names and attributes; what the host changes shows up after that. */
const VALID_SECONDS = 1;

const OFFERED =
	INIT.ASYNC_READ |
	INIT.BIG_WRITES |
	INIT.AUTO_INVAL_DATA |
	INIT.DO_READDIRPLUS |
	INIT.READDIRPLUS_AUTO |
	INIT.PARALLEL_DIROPS |
	INIT.MAX_PAGES;

interface KnownNode {
	readonly id: number;
	readonly node: ShareNode;
	/** LOOKUPs answered and not forgotten. */
	references: number;
}

type Handle = { readonly file: ShareFile } | { readonly folder: FolderCursor };

/**
 * A FUSE file server over a {@link SharedFolder}: bytes of a request in, bytes of the reply out. Requests come from a guest
 * and are never trusted; whatever they hold, the answer is a reply or an error number.
 *
 * Extended attributes, locks, leases, ioctls, holes and preallocation are not there, and requests for them are answered so
 * (ENOSYS or EOPNOTSUPP): Linux then does without, or in the guest alone.
 */
export class FuseServer {
	readonly #folder: SharedFolder;
	readonly #out = new MessageWriter(MAX_REPLY);
	readonly #nodes = new Map<number, KnownNode>();
	readonly #ids = new Map<ShareNode, KnownNode>();
	readonly #handles = new Map<number, Handle>();
	#nextId = ROOT_ID + 1;
	#nextHandle = 1;

	constructor(folder: SharedFolder) {
		this.#folder = folder;
		this.#addRoot();
	}

	/** Files and folders a guest has open. */
	get openHandles(): number {
		return this.#handles.size;
	}

	/** Files a guest knows. */
	get knownNodes(): number {
		return this.#nodes.size;
	}

	/**
	 * Answers a request.
	 *
	 * @param request - it must not change during the call
	 * @param room - bytes the guest has for the reply
	 * @returns the reply, valid until the next call; undefined where the protocol has none
	 */
	handle(request: Uint8Array, room: number): Uint8Array | undefined {
		if (request.length < IN_HEADER || room < OUT_HEADER) {
			if (request.length >= IN_HEADER) this.#forgetful(request);
			return undefined;
		}
		const header = new MessageReader(request, 0);
		const length = header.u32();
		const opcode = header.u32();
		const unique = header.u64();
		const out = this.#out;
		out.limit = Math.min(room, MAX_REPLY);
		out.at = OUT_HEADER;
		let errno = 0;
		try {
			const nodeId = header.index();
			if (length !== request.length) throw new ShareError("EINVAL");
			if (!this.#dispatch(opcode, nodeId, new MessageReader(request, IN_HEADER))) return undefined;
		} catch (error) {
			errno = shareErrno(error);
			out.at = OUT_HEADER;
		}
		const end = out.at;
		out.at = 0;
		out.u32(end);
		out.u32(-errno);
		out.u64(unique);
		out.at = end;
		return out.message();
	}

	/** Closes everything and forgets every node: the guest has let go of the file system, or is gone. */
	reset(): void {
		for (const handle of this.#handles.values()) closeHandle(handle);
		this.#handles.clear();
		for (const { id, node, references } of this.#nodes.values()) {
			if (id !== ROOT_ID) this.#folder.forget(node, references);
		}
		this.#nodes.clear();
		this.#ids.clear();
		this.#nextId = ROOT_ID + 1;
		this.#nextHandle = 1;
		this.#addRoot();
	}

	#addRoot(): void {
		const root: KnownNode = { id: ROOT_ID, node: this.#folder.root, references: 1 };
		this.#nodes.set(ROOT_ID, root);
		this.#ids.set(root.node, root);
	}

	/** FORGET comes without room for a reply. */
	#forgetful(request: Uint8Array): void {
		const header = new MessageReader(request, 4);
		const opcode = header.u32();
		if (opcode !== OP.FORGET && opcode !== OP.BATCH_FORGET) return;
		header.skip(8);
		try {
			this.#dispatch(opcode, header.index(), new MessageReader(request, IN_HEADER));
		} catch (error) {
			if (!(error instanceof ShareError)) throw error;
		}
	}

	/** False when there is nothing to answer. */
	#dispatch(opcode: number, id: number, args: MessageReader): boolean {
		switch (opcode) {
			case OP.INIT:
				this.#init(args);
				break;
			case OP.LOOKUP:
				this.#lookup(id, args.cString());
				break;
			case OP.FORGET:
				this.#forget(id, args.index());
				return false;
			case OP.BATCH_FORGET:
				this.#forgetMany(args);
				return false;
			case OP.GETATTR:
				this.#getAttributes(id, args);
				break;
			case OP.SETATTR:
				this.#setAttributes(id, args);
				break;
			case OP.READLINK:
				this.#out.put(new TextEncoder().encode(this.#folder.readLink(this.#node(id))));
				break;
			case OP.OPEN:
				this.#open(id, args.u32());
				break;
			case OP.CREATE:
				this.#create(id, args);
				break;
			case OP.MKNOD:
				this.#makeNode(id, args);
				break;
			case OP.READ:
				this.#read(args);
				break;
			case OP.WRITE:
				this.#write(args);
				break;
			case OP.OPENDIR:
				this.#openFolder(id);
				break;
			case OP.READDIR:
				this.#readFolder(args, false);
				break;
			case OP.READDIRPLUS:
				this.#readFolder(args, true);
				break;
			case OP.RELEASE:
			case OP.RELEASEDIR:
				this.#release(args.index());
				break;
			case OP.FLUSH:
				this.#file(args.index());
				break;
			case OP.FSYNC: {
				const file = this.#file(args.index());
				file.sync((args.u32() & FSYNC_DATA_ONLY) !== 0);
				break;
			}
			case OP.FSYNCDIR:
				this.#folder.syncFolder(this.#openFolderOf(args.index()).node);
				break;
			case OP.STATFS:
				this.#space();
				break;
			case OP.DESTROY:
				this.reset();
				break;
			case OP.INTERRUPT:
				// Everything is done when it is answered: there is never anything left to interrupt.
				return false;
			case OP.FALLOCATE:
				throw new ShareError("EOPNOTSUPP");
			default:
				this.#changeNames(opcode, id, args);
		}
		return true;
	}

	#changeNames(opcode: number, id: number, args: MessageReader): void {
		const folder = this.#folder;
		switch (opcode) {
			case OP.MKDIR: {
				const permissions = args.u32();
				args.skip(4);
				this.#entry(folder.makeFolder(this.#node(id), args.cString(), permissions & 0o1777));
				break;
			}
			case OP.SYMLINK: {
				const name = args.cString();
				this.#entry(folder.makeLink(this.#node(id), name, args.cString()));
				break;
			}
			case OP.LINK: {
				const node = this.#node(args.index());
				this.#entry(folder.link(node, this.#node(id), args.cString()));
				break;
			}
			case OP.UNLINK:
				folder.unlink(this.#node(id), args.cString());
				break;
			case OP.RMDIR:
				folder.removeFolder(this.#node(id), args.cString());
				break;
			case OP.RENAME:
			case OP.RENAME2: {
				const to = this.#node(args.index());
				const flags = opcode === OP.RENAME2 ? args.u32() : 0;
				if (opcode === OP.RENAME2) args.skip(4);
				if ((flags & ~RENAME_NOREPLACE) !== 0) throw new ShareError("EINVAL");
				const name = args.cString();
				folder.rename(this.#node(id), name, to, args.cString(), flags === 0);
				break;
			}
			default:
				throw new ShareError("ENOSYS");
		}
	}

	#init(args: MessageReader): void {
		const major = args.u32();
		const minor = args.u32();
		const out = this.#out;
		if (major < MAJOR || (major === MAJOR && minor < LEAST_MINOR)) throw new ShareError("EPROTO");
		if (major > MAJOR) {
			// The kernel asks again, in our version.
			out.u32(MAJOR);
			out.u32(MINOR);
			out.zeros(56);
			return;
		}
		const readAhead = args.u32();
		const flags = args.u32();
		this.reset();
		out.u32(MAJOR);
		out.u32(MINOR);
		out.u32(Math.min(readAhead, MAX_IO));
		out.u32(flags & OFFERED);
		out.u16(64);
		out.u16(48);
		out.u32(MAX_IO);
		out.u32(1);
		out.u16(MAX_PAGES);
		out.zeros(34);
	}

	#node(id: number): ShareNode {
		const known = this.#nodes.get(id);
		if (known === undefined) throw new ShareError("ESTALE");
		return known.node;
	}

	#lookup(id: number, name: string): void {
		this.#entry(this.#folder.lookup(this.#node(id), name));
	}

	/** Answers with a node that the folder gave a reference to. */
	#entry(node: ShareNode): void {
		try {
			this.#putEntry(node, this.#folder.attributes(node));
		} catch (error) {
			this.#folder.forget(node, 1);
			throw error;
		}
	}

	#putEntry(node: ShareNode, attributes: ShareAttributes): void {
		const out = this.#out;
		if (out.room < ENTRY_BYTES) throw new ShareError("ERANGE");
		out.u64(this.#remember(node));
		out.u64(0);
		out.u64(VALID_SECONDS);
		out.u64(VALID_SECONDS);
		out.u64(0);
		this.#putAttributes(attributes);
	}

	#remember(node: ShareNode): number {
		let known = this.#ids.get(node);
		if (known === undefined) {
			if (this.#nodes.size >= MAX_NODES) throw new ShareError("ENFILE");
			known = { id: this.#nextId++, node, references: 0 };
			this.#ids.set(node, known);
			this.#nodes.set(known.id, known);
		}
		known.references++;
		return known.id;
	}

	#forget(id: number, references: number): void {
		const known = this.#nodes.get(id);
		if (known === undefined || id === ROOT_ID) return;
		const count = Math.min(references, known.references);
		known.references -= count;
		this.#folder.forget(known.node, count);
		if (known.references > 0) return;
		this.#nodes.delete(id);
		this.#ids.delete(known.node);
	}

	#forgetMany(args: MessageReader): void {
		const count = args.u32();
		args.skip(4);
		for (let i = 0; i < count; i++) this.#forget(args.index(), args.index());
	}

	#putAttributes(attributes: ShareAttributes): void {
		const out = this.#out;
		const { kind, inode, size, blocks, permissions, links, uid, gid, accessed, modified, changed } = attributes;
		const times = [accessed, modified, changed];
		out.u64(inode);
		out.u64(size);
		out.u64(blocks);
		for (const time of times) out.u64(secondsOf(time));
		for (const time of times) out.u32(nanosecondsOf(time));
		out.u32(MODE_OF_KIND[kind] | permissions);
		out.u32(links);
		out.u32(uid);
		out.u32(gid);
		// A device node is nobody's device here.
		out.u32(0);
		out.u32(PAGE);
		out.u32(0);
	}

	#attributesReply(node: ShareNode, file: ShareFile | undefined): void {
		const out = this.#out;
		const attributes = this.#folder.attributes(node, file);
		out.u64(VALID_SECONDS);
		out.u64(0);
		this.#putAttributes(attributes);
	}

	#getAttributes(id: number, args: MessageReader): void {
		const flags = args.u32();
		args.skip(4);
		const handle = args.index();
		this.#attributesReply(this.#node(id), (flags & GETATTR_FH) !== 0 ? this.#file(handle) : undefined);
	}

	#setAttributes(id: number, args: MessageReader): void {
		const node = this.#node(id);
		const valid = args.u32();
		args.skip(4);
		const handle = args.index();
		const size = args.u64();
		args.skip(8);
		const [accessed, modified] = [args.u64(), args.u64()];
		args.skip(8);
		const [accessedRest, modifiedRest] = [args.u32(), args.u32()];
		args.skip(4);
		const mode = args.u32();
		args.skip(4);
		const [uid, gid] = [args.u32(), args.u32()];
		const has = (bit: number): boolean => (valid & bit) !== 0;
		const changes: ShareChanges = {};
		if (has(FATTR.MODE)) changes.permissions = mode & 0o1777;
		if (has(FATTR.UID)) changes.uid = uid;
		if (has(FATTR.GID)) changes.gid = gid;
		if (has(FATTR.SIZE)) changes.size = size;
		if (has(FATTR.ATIME)) changes.accessed = has(FATTR.ATIME_NOW) ? "now" : toTime(accessed, accessedRest);
		if (has(FATTR.MTIME)) changes.modified = has(FATTR.MTIME_NOW) ? "now" : toTime(modified, modifiedRest);
		const file = has(FATTR.FH) ? this.#file(handle) : undefined;
		this.#folder.change(node, changes, file);
		this.#attributesReply(node, file);
	}

	#addHandle(handle: Handle): number {
		const id = this.#nextHandle++;
		this.#handles.set(id, handle);
		return id;
	}

	#requireHandleRoom(): void {
		if (this.#handles.size >= MAX_HANDLES) throw new ShareError("ENFILE");
	}

	#file(handle: number): ShareFile {
		const found = this.#handles.get(handle);
		if (found === undefined || !("file" in found)) throw new ShareError("EBADF");
		return found.file;
	}

	#openFolderOf(handle: number): FolderCursor {
		const found = this.#handles.get(handle);
		if (found === undefined || !("folder" in found)) throw new ShareError("EBADF");
		return found.folder;
	}

	#openReply(handle: number): void {
		const out = this.#out;
		out.u64(handle);
		out.u64(0);
	}

	#open(id: number, flags: number): void {
		const node = this.#node(id);
		this.#requireHandleRoom();
		this.#openReply(this.#addHandle({ file: this.#folder.open(node, openMode(flags)) }));
	}

	#create(id: number, args: MessageReader): void {
		const folder = this.#node(id);
		const flags = args.u32();
		const permissions = args.u32() & 0o1777;
		args.skip(8);
		this.#requireHandleRoom();
		const mode = { ...openMode(flags), exclusive: (flags & O_EXCL) !== 0 };
		const { node, file } = this.#folder.create(folder, args.cString(), permissions, mode);
		try {
			this.#entry(node);
		} catch (error) {
			file.close();
			throw error;
		}
		this.#openReply(this.#addHandle({ file }));
	}

	/** Plain files only: a guest makes no devices, sockets or pipes on its host. */
	#makeNode(id: number, args: MessageReader): void {
		const folder = this.#node(id);
		const mode = args.u32();
		args.skip(12);
		if ((mode & S_IFMT) !== 0 && (mode & S_IFMT) !== MODE_OF_KIND.file) throw new ShareError("EPERM");
		const how = { read: true, write: false, exclusive: true };
		const { node, file } = this.#folder.create(folder, args.cString(), mode & 0o1777, how);
		file.close();
		this.#entry(node);
	}

	#read(args: MessageReader): void {
		const file = this.#file(args.index());
		const offset = args.index();
		const size = Math.min(args.u32(), this.#out.room);
		const target = this.#out.reserve(size);
		this.#out.at -= size - file.read(offset, target);
	}

	#write(args: MessageReader): void {
		const file = this.#file(args.index());
		const offset = args.index();
		const size = args.u32();
		args.skip(20);
		file.write(offset, args.take(size));
		this.#out.u32(size);
		this.#out.u32(0);
	}

	#openFolder(id: number): void {
		const node = this.#node(id);
		this.#requireHandleRoom();
		this.#openReply(this.#addHandle({ folder: new FolderCursor(this.#folder, node) }));
	}

	#readFolder(args: MessageReader, plus: boolean): void {
		const cursor = this.#openFolderOf(args.index());
		const offset = args.index();
		const out = this.#out;
		out.limit = Math.min(out.limit, out.at + args.u32());
		cursor.seek(offset);
		if (cursor.position < offset) return;
		for (let name = cursor.next(); name !== undefined; name = cursor.next()) {
			if (this.#putName(cursor, name, plus)) continue;
			cursor.putBack(name);
			return;
		}
	}

	/** False when there is no room for it. A name that went away meanwhile is left out. */
	#putName(cursor: FolderCursor, name: string, plus: boolean): boolean {
		const out = this.#out;
		const bytes = new TextEncoder().encode(name);
		const size = (plus ? ENTRY_BYTES : 0) + ((24 + bytes.length + 7) & ~7);
		if (size > out.room) return false;
		let node: ShareNode;
		let attributes: ShareAttributes;
		try {
			node = this.#folder.lookup(cursor.node, name);
		} catch {
			return true;
		}
		let kept = false;
		try {
			attributes = this.#folder.attributes(node);
			if (plus) this.#putEntry(node, attributes);
			kept = plus;
		} catch (error) {
			if (isGone(error)) return true;
			throw error;
		} finally {
			if (!kept) this.#folder.forget(node, 1);
		}
		out.u64(attributes.inode);
		out.u64(cursor.position);
		out.u32(bytes.length);
		out.u32(MODE_OF_KIND[attributes.kind] >> 12);
		out.put(bytes);
		out.zeros(-out.at & 7);
		return true;
	}

	#release(id: number): void {
		const handle = this.#handles.get(id);
		if (handle === undefined) throw new ShareError("EBADF");
		this.#handles.delete(id);
		closeHandle(handle);
	}

	#space(): void {
		const out = this.#out;
		const { blockSize, blocks, free, available, files, freeFiles } = this.#folder.space();
		for (const value of [blocks, free, available, files, freeFiles]) out.u64(value);
		out.u32(blockSize);
		out.u32(255);
		out.u32(blockSize);
		out.zeros(28);
	}
}

function closeHandle(handle: Handle): void {
	if ("file" in handle) handle.file.close();
	else handle.folder.close();
}

const GONE: readonly ShareErrorCode[] = ["ENOENT", "ESTALE", "EACCES", "ELOOP", "ENOTDIR"];

function isGone(error: unknown): boolean {
	return typeof error === "object" && error !== null && "code" in error && GONE.some((code) => code === error.code);
}
