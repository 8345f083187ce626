import { OP } from "../../src/fuse/protocol.ts";
import { T } from "../../src/p9/protocol.ts";
import type { P9Server } from "../../src/p9/server.ts";
import { type Field, type FuseReply, pack } from "./fuse-client.ts";

/** Text behind its length. */
export function string16(text: string): Uint8Array {
	const bytes = new TextEncoder().encode(text);
	return Uint8Array.from([bytes.length & 0xff, bytes.length >> 8, ...bytes]);
}

/** A message as Linux's driver makes it. */
export function p9Message(type: number, ...fields: readonly Field[]): Uint8Array {
	const body = pack(...fields);
	return pack(7 + body.length, Uint8Array.of(type, 1, 0), body);
}

const ROOT = 1;

/** A 9p client with the face of the FUSE client, where nodes are fids: what holds for one is tried with the other. */
export class P9Client {
	readonly server: P9Server;
	#next = 2;

	constructor(server: P9Server) {
		this.server = server;
		this.send(T.VERSION, 2 ** 19, string16("9P2000.L"));
		this.send(T.ATTACH, ROOT, 0xffff_ffff, string16("root"), string16(""), 0);
	}

	send(type: number, ...fields: readonly Field[]): FuseReply {
		const reply = this.server.handle(p9Message(type, ...fields), 2 ** 20)?.slice() ?? new Uint8Array(7);
		const view = new DataView(reply.buffer);
		if (view.getUint32(0, true) !== reply.length) throw new Error("wrong length");
		const errno = reply[4] === T.LERROR + 1 ? view.getUint32(7, true) : 0;
		if (errno === 0 && reply[4] !== type + 1) throw new Error(`reply ${reply[4]} to ${type}`);
		return { errno, body: reply.subarray(7), view: new DataView(reply.buffer, 7) };
	}

	call(opcode: number, node: bigint, ...fields: readonly Field[]): FuseReply {
		const fid = Number(node);
		const text = (i: number) => string16(fields[i] as string);
		switch (opcode) {
			case OP.LOOKUP: {
				const next = this.#next++;
				const reply = this.send(T.WALK, fid, next, Uint8Array.of(1, 0), text(0));
				return withNode(reply, next);
			}
			case OP.UNLINK:
				return this.send(T.UNLINKAT, fid, text(0), 0);
			case OP.RMDIR:
				return this.send(T.UNLINKAT, fid, text(0), 0x200);
			case OP.RENAME:
				return this.send(T.RENAMEAT, fid, text(1), Number(fields[0]), text(2));
			case OP.LINK: {
				const reply = this.send(T.LINK, fid, Number(fields[0]), text(1));
				return reply.errno === 0 ? this.call(OP.LOOKUP, node, fields[1]) : reply;
			}
			case OP.SYMLINK:
				return this.send(T.SYMLINK, fid, text(0), text(1), 0);
			case OP.MKDIR:
				return this.send(T.MKDIR, fid, text(2), fields[0], 0);
			case OP.RELEASE:
				return this.send(T.CLUNK, Number(fields[0]));
			case OP.GETATTR:
				return this.send(T.GETATTR, fid, 0x7ffn);
			default:
				throw new Error(`no ${opcode} in 9p`);
		}
	}

	node(path: string): bigint {
		let node = BigInt(ROOT);
		for (const name of path.split("/").filter(Boolean)) {
			const { errno, view } = this.call(OP.LOOKUP, node, name);
			if (errno !== 0) return 0n;
			node = view.getBigUint64(0, true);
		}
		return node;
	}

	/** A fid of its own for each opening, as the kernel does it. */
	open(node: bigint, flags = 0): bigint {
		const next = this.#next++;
		const walked = this.send(T.WALK, Number(node), next, Uint8Array.of(0, 0));
		if (walked.errno !== 0) return BigInt(-walked.errno);
		const { errno } = this.send(T.LOPEN, next, flags);
		if (errno !== 0) this.send(T.CLUNK, next);
		return errno === 0 ? BigInt(next) : BigInt(-errno);
	}

	read(handle: bigint, size = 65_536, offset = 0n): FuseReply {
		const reply = this.send(T.READ, Number(BigInt.asUintN(32, handle)), offset, size);
		return reply.errno === 0 ? { ...reply, body: reply.body.subarray(4) } : { ...reply, body: new Uint8Array(0) };
	}

	write(handle: bigint, bytes: Uint8Array, offset = 0n): FuseReply {
		return this.send(T.WRITE, Number(BigInt.asUintN(32, handle)), offset, bytes.length, bytes);
	}

	create(parent: bigint, name: string, flags = 2): FuseReply & { handle: bigint } {
		const next = this.#next++;
		const walked = this.send(T.WALK, Number(parent), next, Uint8Array.of(0, 0));
		if (walked.errno !== 0) return { ...walked, handle: 0n };
		const made = this.send(T.LCREATE, next, string16(name), flags, 0o644, 0);
		if (made.errno !== 0) {
			this.send(T.CLUNK, next);
			return { ...made, handle: 0n };
		}
		return { ...withNode(made, Number(this.node(name))), handle: BigInt(next) };
	}

	setAttributes(node: bigint, changes: { size?: bigint; mode?: number; uid?: number; mtime?: bigint }): FuseReply {
		const { size, mode, uid, mtime } = changes;
		const valid =
			(mode === undefined ? 0 : 1) |
			(uid === undefined ? 0 : 2) |
			(size === undefined ? 0 : 8) |
			(mtime === undefined ? 0 : 0x120);
		const times = [0n, 0n, mtime ?? 0n, 0n];
		return this.send(T.SETATTR, Number(node), valid, mode ?? 0, uid ?? 0, 0, size ?? 0n, ...times);
	}

	list(node: bigint, _plus = false, size = 512): string[] {
		const handle = this.open(node);
		if (handle <= 0n) return [];
		const names: string[] = [];
		for (let offset = 0n; ; ) {
			const { errno, view, body } = this.send(T.READDIR, Number(handle), offset, size);
			if (errno !== 0 || view.getUint32(0, true) === 0) break;
			for (let at = 4; at < body.length; ) {
				offset = view.getBigUint64(at + 13, true);
				const length = view.getUint16(at + 22, true);
				names.push(new TextDecoder().decode(body.subarray(at + 24, at + 24 + length)));
				at += 24 + length;
			}
		}
		this.send(T.CLUNK, Number(handle));
		return names;
	}
}

function withNode(reply: FuseReply, node: number): FuseReply {
	if (reply.errno !== 0) return reply;
	const body = pack(BigInt(node), new Uint8Array(128));
	return { errno: 0, body, view: new DataView(body.buffer) };
}
