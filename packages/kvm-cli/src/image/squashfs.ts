import { deflateSync } from "node:zlib";
import { MetadataTable } from "./squashfs-metadata.ts";
import {
	completeTree,
	contentSize,
	contents,
	directory,
	type FileSource,
	S_IFBLK,
	S_IFCHR,
	S_IFDIR,
	S_IFIFO,
	S_IFLNK,
	S_IFMT,
	S_IFREG,
	type TreeEntry,
} from "./tree.ts";

/** Where {@link writeSquashfs} puts the file system. */
export interface SquashfsSink {
	write(offset: number, bytes: Uint8Array): void;
}

/** How {@link writeSquashfs} works. */
export interface SquashfsOptions {
	/** Compress with zlib: a smaller file, a slower guest. @default false */
	readonly compress?: boolean;
	/** Called with the bytes of file contents written so far. */
	onProgress?(bytes: number): void;
}

const MAGIC = 0x7371_7368;
const SUPERBLOCK_SIZE = 96;
const BLOCK_LOG = 17;
const BLOCK_SIZE = 1 << BLOCK_LOG;
const ZLIB = 1;
const UNCOMPRESSED_INODES = 0x1;
const UNCOMPRESSED_DATA = 0x2;
const UNCOMPRESSED_FRAGMENTS = 0x8;
const NO_FRAGMENTS = 0x10;
const NO_XATTRS = 0x200;
const UNCOMPRESSED_IDS = 0x800;
/** In a data block's size: the block is stored as it is. */
const STORED_BLOCK = 1 << 24;
const NONE = 0xffff_ffff;
const NO_TABLE = 0xffff_ffff_ffff_ffffn;
const SECTOR = 4096;
/** Entries that one header of a directory listing covers at most. */
const LISTING_RUN = 256;

const InodeType = {
	Directory: 1,
	File: 2,
	Symlink: 3,
	BlockDevice: 4,
	CharacterDevice: 5,
	Fifo: 6,
	ExtendedDirectory: 8,
	ExtendedFile: 9,
} as const;
type InodeType = (typeof InodeType)[keyof typeof InodeType];

interface Node {
	readonly entry: TreeEntry;
	readonly name: Uint8Array;
	readonly children: Node[];
	readonly number: number;
	readonly parent: Node | undefined;
	/** Set when its inode is written. */
	reference: { block: number; offset: number } | undefined;
	/** Basic type of its inode, as directory listings name it. */
	type: InodeType;
}

/**
 * Writes a squashfs 4.0 file system (Linux Documentation/filesystems/squashfs.rst) that is the same for the same tree:
 * no time stamps, entries in the order of their names. Without compression, as a guest that runs in software wants it,
 * reading it costs no more than the copy.
 *
 * @returns the file system's size in bytes, a multiple of 4096
 * @throws RangeError for paths no tree can have, and for more than 65,535 owners
 */
export function writeSquashfs(
	entries: readonly TreeEntry[],
	sink: SquashfsSink,
	options: SquashfsOptions = {},
): number {
	return new Writer(sink, options).write(entries);
}

class Writer {
	readonly #sink: SquashfsSink;
	readonly #options: SquashfsOptions;
	readonly #pack: ((bytes: Uint8Array) => Uint8Array) | undefined;
	readonly #inodes: MetadataTable;
	readonly #listings: MetadataTable;
	readonly #ids = new Map<number, number>();
	#at = SUPERBLOCK_SIZE;
	#contentBytes = 0;
	#inodeCount = 0;

	constructor(sink: SquashfsSink, options: SquashfsOptions) {
		this.#sink = sink;
		this.#options = options;
		this.#pack = options.compress ? (bytes) => deflateSync(bytes, { level: 9 }) : undefined;
		this.#inodes = new MetadataTable(this.#pack);
		this.#listings = new MetadataTable(this.#pack);
	}

	write(entries: readonly TreeEntry[]): number {
		const root = this.#plan(completeTree(entries));
		this.#writeNode(root);
		const inodeTable = this.#append(this.#inodes.finish());
		const directoryTable = this.#append(this.#listings.finish());
		const idTable = this.#writeIds();
		const bytesUsed = this.#at;
		const padding = -bytesUsed & (SECTOR - 1);
		this.#append(new Uint8Array(padding));
		this.#sink.write(0, this.#superblock(root, { inodeTable, directoryTable, idTable, bytesUsed }));
		return this.#at;
	}

	#plan(entries: readonly TreeEntry[]): Node {
		const encoder = new TextEncoder();
		const make = (entry: TreeEntry, name: string, parent: Node | undefined): Node => {
			const node: Node = {
				entry,
				name: encoder.encode(name),
				children: [],
				number: ++this.#inodeCount,
				parent,
				reference: undefined,
				type: typeOf(entry),
			};
			parent?.children.push(node);
			return node;
		};
		const root = make(directory(""), "", undefined);
		const nodes = new Map<string, Node>([["", root]]);
		const sorted = entries
			.map((entry) => ({ entry, depth: entry.path.split("/").length }))
			.sort((a, b) => a.depth - b.depth || (a.entry.path < b.entry.path ? -1 : 1));
		for (const { entry } of sorted) {
			const slash = entry.path.lastIndexOf("/");
			const parent = nodes.get(entry.path.slice(0, Math.max(slash, 0)))!;
			nodes.set(entry.path, make(entry, entry.path.slice(slash + 1), parent));
		}
		for (const node of nodes.values()) node.children.sort((a, b) => Buffer.compare(a.name, b.name));
		return root;
	}

	/** Children first: a listing needs to know where their inodes are. */
	#writeNode(node: Node): void {
		for (const child of node.children) this.#writeNode(child);
		if (node.type === InodeType.Directory) this.#writeDirectory(node);
		else if (node.type === InodeType.File) this.#writeFile(node);
		else this.#putInode(node, node.type, specialBody(node));
	}

	#writeDirectory(node: Node): void {
		const { block, offset } = this.#listings.position();
		const length = this.#writeListing(node.children) + 3;
		const links = 2 + node.children.filter(({ type }) => type === InodeType.Directory).length;
		const parent = node.parent?.number ?? this.#inodeCount + 1;
		const body = new Uint8Array(length > 0xffff ? 24 : 16);
		const view = new DataView(body.buffer);
		if (length > 0xffff) {
			view.setUint32(0, links, true);
			view.setUint32(4, length, true);
			view.setUint32(8, block, true);
			view.setUint32(12, parent, true);
			view.setUint16(18, offset, true);
			view.setUint32(20, NONE, true);
			this.#putInode(node, InodeType.ExtendedDirectory, body);
		} else {
			view.setUint32(0, block, true);
			view.setUint32(4, links, true);
			view.setUint16(8, length, true);
			view.setUint16(10, offset, true);
			view.setUint32(12, parent, true);
			this.#putInode(node, InodeType.Directory, body);
		}
	}

	/** @returns bytes of the listing */
	#writeListing(children: readonly Node[]): number {
		let length = 0;
		for (let first = 0; first < children.length; ) {
			const { number: base, reference } = children[first]!;
			let end = first;
			while (
				end < children.length &&
				end - first < LISTING_RUN &&
				children[end]!.reference!.block === reference!.block &&
				Math.abs(children[end]!.number - base) < 0x8000
			) {
				end++;
			}
			this.#listings.put(words(end - first - 1, reference!.block, base));
			length += 12;
			for (const { name, number, reference: at, type } of children.slice(first, end)) {
				const record = new Uint8Array(8 + name.length);
				const view = new DataView(record.buffer);
				view.setUint16(0, at!.offset, true);
				view.setInt16(2, number - base, true);
				view.setUint16(4, type, true);
				view.setUint16(6, name.length - 1, true);
				record.set(name, 8);
				this.#listings.put(record);
				length += record.length;
			}
			first = end;
		}
		return length;
	}

	#writeFile(node: Node): void {
		const { data } = node.entry;
		const size = contentSize(node.entry);
		const start = this.#at;
		const count = Math.ceil(size / BLOCK_SIZE);
		const sizes = new Uint32Array(count);
		for (let i = 0; i < count; i++) {
			const offset = i * BLOCK_SIZE;
			const length = Math.min(BLOCK_SIZE, size - offset);
			const block = read(data!, offset, length);
			const packed = this.#pack?.(block);
			const stored = packed === undefined || packed.length >= length;
			this.#append(stored ? block : packed);
			sizes[i] = stored ? length | STORED_BLOCK : packed.length;
			this.#contentBytes += length;
		}
		if (count > 0) this.#options.onProgress?.(this.#contentBytes);
		const large = start > NONE || size > NONE;
		const header = new Uint8Array(large ? 40 : 16);
		const view = new DataView(header.buffer);
		if (large) {
			view.setBigUint64(0, BigInt(start), true);
			view.setBigUint64(8, BigInt(size), true);
			view.setUint32(24, 1, true);
			view.setUint32(28, NONE, true);
			view.setUint32(36, NONE, true);
		} else {
			view.setUint32(0, start, true);
			view.setUint32(4, NONE, true);
			view.setUint32(12, size, true);
		}
		const body = new Uint8Array(header.length + 4 * count);
		body.set(header);
		body.set(words(...sizes), header.length);
		this.#putInode(node, large ? InodeType.ExtendedFile : InodeType.File, body);
	}

	#putInode(node: Node, type: InodeType, body: Uint8Array): void {
		const { mode, uid, gid } = node.entry;
		const header = new Uint8Array(16);
		const view = new DataView(header.buffer);
		view.setUint16(0, type, true);
		view.setUint16(2, mode & 0o7777, true);
		view.setUint16(4, this.#id(uid ?? 0), true);
		view.setUint16(6, this.#id(gid ?? 0), true);
		view.setUint32(12, node.number, true);
		node.reference = this.#inodes.position();
		this.#inodes.put(header);
		this.#inodes.put(body);
	}

	#id(id: number): number {
		const known = this.#ids.get(id);
		if (known !== undefined) return known;
		if (this.#ids.size === 0xffff) throw new RangeError("more than 65,535 owners in one file system");
		this.#ids.set(id, this.#ids.size);
		return this.#ids.size - 1;
	}

	/** @returns where the index of the blocks of owners is */
	#writeIds(): number {
		const table = new MetadataTable(undefined);
		table.put(words(...this.#ids.keys()));
		const start = this.#append(table.finish());
		const index = new BigUint64Array(table.blocks.map((block) => BigInt(start + block)));
		return this.#append(new Uint8Array(index.buffer));
	}

	#superblock(
		root: Node,
		at: { inodeTable: number; directoryTable: number; idTable: number; bytesUsed: number },
	): Uint8Array {
		const bytes = new Uint8Array(SUPERBLOCK_SIZE);
		const view = new DataView(bytes.buffer);
		const stored = this.#pack === undefined ? UNCOMPRESSED_INODES | UNCOMPRESSED_DATA | UNCOMPRESSED_FRAGMENTS : 0;
		view.setUint32(0, MAGIC, true);
		view.setUint32(4, this.#inodeCount, true);
		view.setUint32(12, BLOCK_SIZE, true);
		view.setUint16(20, ZLIB, true);
		view.setUint16(22, BLOCK_LOG, true);
		view.setUint16(24, stored | NO_FRAGMENTS | NO_XATTRS | UNCOMPRESSED_IDS, true);
		view.setUint16(26, this.#ids.size, true);
		view.setUint16(28, 4, true);
		const { block, offset } = root.reference!;
		view.setBigUint64(32, (BigInt(block) << 16n) | BigInt(offset), true);
		view.setBigUint64(40, BigInt(at.bytesUsed), true);
		view.setBigUint64(48, BigInt(at.idTable), true);
		view.setBigUint64(56, NO_TABLE, true);
		view.setBigUint64(64, BigInt(at.inodeTable), true);
		view.setBigUint64(72, BigInt(at.directoryTable), true);
		// There are no fragments; readers want the table's place all the same.
		view.setBigUint64(80, BigInt(at.idTable), true);
		view.setBigUint64(88, NO_TABLE, true);
		return bytes;
	}

	/** @returns where the bytes were put */
	#append(bytes: Uint8Array): number {
		const start = this.#at;
		if (bytes.length > 0) this.#sink.write(start, bytes);
		this.#at += bytes.length;
		return start;
	}
}

function typeOf({ path, mode }: TreeEntry): InodeType {
	switch (mode & S_IFMT) {
		case S_IFDIR:
			return InodeType.Directory;
		case S_IFREG:
			return InodeType.File;
		case S_IFLNK:
			return InodeType.Symlink;
		case S_IFCHR:
			return InodeType.CharacterDevice;
		case S_IFBLK:
			return InodeType.BlockDevice;
		case S_IFIFO:
			return InodeType.Fifo;
		default:
			throw new RangeError(`${JSON.stringify(path)}: mode ${mode.toString(8)} is no kind of file`);
	}
}

/** What follows the header in the inode of a symbolic link, a device or a pipe. */
function specialBody({ entry, type }: Node): Uint8Array {
	if (type === InodeType.Symlink) {
		const target = contents(entry)!;
		return Buffer.concat([words(1, target.length), target]);
	}
	if (type === InodeType.Fifo) return words(1);
	const { major, minor } = entry.rdev ?? { major: 0, minor: 0 };
	return words(1, (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12));
}

function read(data: Uint8Array | FileSource, offset: number, length: number): Uint8Array {
	return data instanceof Uint8Array ? data.subarray(offset, offset + length) : data.read(offset, length);
}

function words(...values: number[]): Uint8Array {
	const bytes = new Uint8Array(4 * values.length);
	const view = new DataView(bytes.buffer);
	values.forEach((value, i) => {
		view.setUint32(4 * i, value, true);
	});
	return bytes;
}
