import { OP } from "../../src/fuse/protocol.ts";
import type { FuseServer } from "../../src/fuse/server.ts";

/** A reply: its error number, positive, and what is behind the header. */
export interface FuseReply {
	errno: number;
	body: Uint8Array;
	view: DataView;
}

/** Numbers of 4 and 8 bytes, bytes as they are, and strings with their zero. */
export type Field = number | bigint | Uint8Array | string;

/** Puts fields one after another. */
export function pack(...fields: readonly Field[]): Uint8Array {
	const parts = fields.map((field) => {
		if (typeof field === "string") return new TextEncoder().encode(`${field}\0`);
		if (field instanceof Uint8Array) return field;
		const bytes = new Uint8Array(typeof field === "bigint" ? 8 : 4);
		if (typeof field === "bigint") new DataView(bytes.buffer).setBigUint64(0, field, true);
		else new DataView(bytes.buffer).setUint32(0, field, true);
		return bytes;
	});
	const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

/** A request as Linux's driver makes it. */
export function fuseRequest(opcode: number, nodeId: bigint, ...fields: readonly Field[]): Uint8Array {
	const body = pack(...fields);
	return pack(40 + body.length, opcode, 7n, nodeId, 0, 0, 1, 0, body);
}

/** The kernel's side of the protocol. */
export class FuseClient {
	readonly server: FuseServer;

	constructor(server: FuseServer) {
		this.server = server;
		this.call(OP.INIT, 0n, 7, 38, 131_072, 0xffff_ffff);
	}

	call(opcode: number, nodeId: bigint, ...fields: readonly Field[]): FuseReply {
		const reply = this.server.handle(fuseRequest(opcode, nodeId, ...fields), 2 ** 20)?.slice() ?? new Uint8Array(16);
		const view = new DataView(reply.buffer);
		if (view.getUint32(0, true) !== reply.length && reply.some((byte) => byte !== 0)) throw new Error("wrong length");
		return { errno: Math.abs(view.getInt32(4, true)), body: reply.subarray(16), view: new DataView(reply.buffer, 16) };
	}

	/** The node behind a path, looked up name by name; 0 when there is none. */
	node(path: string): bigint {
		let node = 1n;
		for (const name of path.split("/").filter(Boolean)) {
			const { errno, view } = this.call(OP.LOOKUP, node, name);
			if (errno !== 0) return 0n;
			node = view.getBigUint64(0, true);
		}
		return node;
	}

	/** Opens by flags; the handle, or minus the error. */
	open(node: bigint, flags = 0): bigint {
		const { errno, view } = this.call(OP.OPEN, node, flags, 0);
		return errno === 0 ? view.getBigUint64(0, true) : BigInt(-errno);
	}

	read(handle: bigint, size = 65_536, offset = 0n): FuseReply {
		return this.call(OP.READ, 0n, handle, offset, size, 0, 0n, 0, 0);
	}

	write(handle: bigint, bytes: Uint8Array, offset = 0n): FuseReply {
		return this.call(OP.WRITE, 0n, handle, offset, bytes.length, 0, 0n, 0, 0, bytes);
	}

	create(parent: bigint, name: string, flags = 2): FuseReply & { handle: bigint } {
		const reply = this.call(OP.CREATE, parent, flags, 0o644, 0, 0, name);
		return { ...reply, handle: reply.errno === 0 ? reply.view.getBigUint64(128, true) : 0n };
	}

	/** Changes size or permissions. */
	setAttributes(node: bigint, changes: { size?: bigint; mode?: number; uid?: number; mtime?: bigint }): FuseReply {
		const { size, mode, uid, mtime } = changes;
		const valid =
			(mode === undefined ? 0 : 1) |
			(uid === undefined ? 0 : 2) |
			(size === undefined ? 0 : 8) |
			(mtime === undefined ? 0 : 32);
		return this.call(
			OP.SETATTR,
			node,
			...[valid, 0, 0n, size ?? 0n, 0n, 0n, mtime ?? 0n, 0n],
			...[0, 0, 0, mode ?? 0, 0, uid ?? 0, 0, 0],
		);
	}

	/** All names in a folder, by READDIR or READDIRPLUS in pieces of `size` bytes. */
	list(node: bigint, plus = false, size = 512): string[] {
		const opened = this.call(OP.OPENDIR, node, 0, 0);
		if (opened.errno !== 0) return [];
		const handle = opened.view.getBigUint64(0, true);
		const names: string[] = [];
		for (let offset = 0n; ; ) {
			const { errno, body, view } = this.call(
				plus ? OP.READDIRPLUS : OP.READDIR,
				node,
				handle,
				offset,
				size,
				0,
				0n,
				0,
				0,
			);
			if (errno !== 0) throw new Error(`READDIR: ${errno}`);
			if (body.length === 0) break;
			for (let at = 0; at < body.length; ) {
				const entry = at + (plus ? 128 : 0);
				const length = view.getUint32(entry + 16, true);
				offset = view.getBigUint64(entry + 8, true);
				names.push(new TextDecoder().decode(body.subarray(entry + 24, entry + 24 + length)));
				at = entry + ((24 + length + 7) & ~7);
			}
		}
		this.call(OP.RELEASEDIR, node, handle, 0, 0, 0n);
		return names;
	}
}
