import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OP } from "../../src/fuse/protocol.ts";
import { FuseServer } from "../../src/fuse/server.ts";
import { VirtioFs } from "../../src/machine/virtio/share/fs.ts";
import { MemoryFolder } from "../../src/share/memory-folder.ts";
import { FuseClient, fuseRequest, pack } from "./fuse-client.ts";
import { Driver } from "./virtio-driver.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytesOf = (value: string) => new TextEncoder().encode(value);
const [ENOENT, EBADF, EEXIST, ENOTDIR, EINVAL, EROFS, ENOSYS, ENOTEMPTY, EPROTO, EILSEQ, EOPNOTSUPP, ESTALE] = [
	...[2, 9, 17, 20, 22, 30, 38, 39, 71, 84, 95, 116],
];

function makeClient(options: { readonly?: boolean } = {}) {
	let now = 1_700_000_000_000_000_000n;
	const folder = new MemoryFolder({ now: () => (now += 1000n), ...options });
	const server = new FuseServer(folder);
	return { folder, server, client: new FuseClient(server) };
}

describe("INIT", () => {
	test("negotiates the version and what both sides know", () => {
		const { client } = makeClient();
		const { view, body } = client.call(OP.INIT, 0n, 7, 38, 131_072, (1 << 22) | (1 << 2), 0, new Uint8Array(44));
		expect(body.length).toBe(64);
		expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([7, 31]);
		expect(view.getUint32(12, true)).toBe(1 << 22);
		expect(view.getUint32(20, true)).toBe(512 * 1024);
		expect(view.getUint16(28, true)).toBe(128);
		expect(client.call(OP.INIT, 0n, 8, 0, 0, 0).view.getUint32(0, true)).toBe(7);
		expect(client.call(OP.INIT, 0n, 7, 5, 0, 0).errno).toBe(EPROTO);
	});
});

describe("files", () => {
	test("are made, written, read, cut, renamed, linked and removed", () => {
		const { client, server } = makeClient();
		const made = client.create(1n, "a");
		expect(made.errno).toBe(0);
		expect(client.write(made.handle, bytesOf("hello, world")).view.getUint32(0, true)).toBe(12);
		expect(text(client.read(made.handle, 5, 7n).body)).toBe("world");
		expect(text(client.read(made.handle, 50, 12n).body)).toBe("");
		const node = made.view.getBigUint64(0, true);
		expect(client.setAttributes(node, { size: 5n, mode: 0o7640 }).errno).toBe(0);
		const attributes = client.call(OP.GETATTR, node, 0, 0, 0n).view;
		expect(attributes.getBigUint64(16 + 8, true)).toBe(5n);
		expect(attributes.getUint32(16 + 60, true)).toBe(0o101640);
		expect(client.setAttributes(node, { uid: 1000 }).errno).toBe(1);
		expect(client.call(OP.RELEASE, node, made.handle, 0, 0, 0n).errno).toBe(0);
		expect(client.read(made.handle).errno).toBe(EBADF);
		expect(client.call(OP.LINK, 1n, node, "b").view.getBigUint64(0, true)).toBe(node);
		expect(client.call(OP.MKDIR, 1n, 0o755, 0, "d").errno).toBe(0);
		expect(client.call(OP.RENAME, 1n, client.node("d"), "b", "c").errno).toBe(0);
		expect(client.call(OP.RENAME2, 1n, 1n, 1, 0, "a", "d").errno).toBe(EEXIST);
		expect(client.call(OP.RENAME2, 1n, 1n, 2, 0, "a", "d").errno).toBe(EINVAL);
		expect(client.node("d/c")).toBe(node);
		expect(client.call(OP.RMDIR, 1n, "d").errno).toBe(ENOTEMPTY);
		expect(client.call(OP.UNLINK, client.node("d"), "c").errno).toBe(0);
		expect(client.call(OP.RMDIR, 1n, "d").errno).toBe(0);
		expect(client.call(OP.SYMLINK, 1n, "s", "some/where").errno).toBe(0);
		expect(text(client.call(OP.READLINK, client.node("s")).body)).toBe("some/where");
		expect(client.list(1n).sort()).toEqual(["a", "s"]);
		expect(client.call(OP.LOOKUP, 1n, "none").errno).toBe(ENOENT);
		expect(client.call(OP.LOOKUP, node, "below a file").errno).toBe(ENOTDIR);
		expect(server.openHandles).toBe(0);
	});

	test("that nobody remembers are forgotten, one by one and many at once", () => {
		const { client, server } = makeClient();
		const nodes = Array.from({ length: 5 }, (_, i) => {
			const made = client.create(1n, `f${i}`);
			client.call(OP.RELEASE, 0n, made.handle, 0, 0, 0n);
			return made.view.getBigUint64(0, true);
		});
		client.node("f0");
		expect(server.knownNodes).toBe(6);
		client.call(OP.FORGET, nodes[0], 1n);
		expect(server.knownNodes).toBe(6);
		client.call(OP.FORGET, nodes[0], 99n);
		expect(server.knownNodes).toBe(5);
		expect(client.call(OP.GETATTR, nodes[0], 0, 0, 0n).errno).toBe(ESTALE);
		client.call(OP.BATCH_FORGET, 0n, 4, 0, ...nodes.slice(1).flatMap((node) => [node, 1n]));
		expect(server.knownNodes).toBe(1);
		client.call(OP.FORGET, 1n, 1n);
		expect(client.node("f0")).not.toBe(0n);
		client.call(OP.DESTROY, 0n);
		expect(server.knownNodes).toBe(1);
	});

	test("what is not there is said to be so", () => {
		const { client } = makeClient();
		const made = client.create(1n, "a");
		for (const opcode of [21, 22, 23, 24, 31, 34, 39, 40, 46, 47, 50, 51, 4096]) {
			expect(client.call(opcode, 1n, new Uint8Array(64)).errno).toBe(ENOSYS);
		}
		expect(client.call(OP.FALLOCATE, 1n, made.handle, 0n, 100n, 0, 0).errno).toBe(EOPNOTSUPP);
		expect(client.call(OP.MKNOD, 1n, 0o020666, 0x0103, 0, 0, "null").errno).toBe(1);
		expect(client.call(OP.MKNOD, 1n, 0o100644, 0, 0, 0, "plain").errno).toBe(0);
		expect(client.call(OP.LOOKUP, 1n, Uint8Array.of(0xff, 0xfe, 0)).errno).toBe(EILSEQ);
		expect(client.call(OP.STATFS, 1n).body.length).toBe(80);
	});

	test("a read-only share stays as it is", () => {
		const { folder } = makeClient();
		folder.create(folder.root, "a", 0o644, { read: true, write: true, exclusive: true }).file.write(0, bytesOf("text"));
		(folder as { readonly: boolean }).readonly = true;
		const client = new FuseClient(new FuseServer(folder));
		const node = client.node("a");
		expect(text(client.read(client.open(node)).body)).toBe("text");
		for (const errno of [
			-Number(client.open(node, 1)),
			client.create(1n, "b").errno,
			client.setAttributes(node, { size: 0n }).errno,
			client.call(OP.MKDIR, 1n, 0, 0, "d").errno,
			client.call(OP.SYMLINK, 1n, "s", "t").errno,
			client.call(OP.LINK, 1n, node, "l").errno,
			client.call(OP.RENAME, 1n, 1n, "a", "c").errno,
			client.call(OP.UNLINK, 1n, "a").errno,
			client.call(OP.RMDIR, 1n, "a").errno,
		]) {
			expect(errno).toBe(EROFS);
		}
	});
});

test.each([false, true])("folders are listed in pieces, from any place on (with attributes: %s)", (plus) => {
	const { client, server } = makeClient();
	const names = Array.from({ length: 200 }, (_, i) => `file-${"x".repeat(i % 50)}${i}`);
	for (const name of names) client.call(OP.RELEASE, 0n, client.create(1n, name).handle, 0, 0, 0n);
	expect(client.list(1n, plus, 1000)).toEqual(names);
	const handle = client.call(OP.OPENDIR, 1n, 0, 0).view.getBigUint64(0, true);
	const first = (offset: bigint) => {
		const { view, body } = client.call(OP.READDIR, 1n, handle, offset, 300, 0, 0n, 0, 0);
		return text(body.subarray(24, 24 + view.getUint32(16, true)));
	};
	expect([first(150n), first(3n), first(0n)]).toEqual([names[150], names[3], names[0]]);
	expect(client.call(OP.READDIR, 1n, handle, 10_000n, 300, 0, 0n, 0, 0).body.length).toBe(0);
	expect(server.openHandles).toBe(1);
});

test("the device carries requests scattered over descriptors, and FORGETs without an answer", () => {
	const { folder } = makeClient();
	const device = new VirtioFs({ folder, tag: "shared" });
	const driver = new Driver(device).start();
	const tag = Array.from({ length: 36 }, (_, i) => driver.read(driver.config + i, 1));
	expect(text(Uint8Array.from(tag)).replace(/\0+$/, "")).toBe("shared");
	expect(driver.read(driver.config + 36, 4)).toBe(1);
	const init = fuseRequest(OP.INIT, 0n, 7, 38, 65_536, 0);
	const { rooms } = driver.add(1, [
		{ send: init.subarray(0, 40) },
		{ send: init.subarray(40) },
		{ room: 16 },
		{ room: 64 },
	]);
	driver.kick(1);
	expect(new DataView(rooms[0].buffer, rooms[0].byteOffset).getUint32(0, true)).toBe(80);
	expect(rooms[1][0]).toBe(7);
	driver.add(0, [{ send: fuseRequest(OP.FORGET, 1n, 1n) }]);
	driver.kick(0);
	expect(driver.used(0).map(({ length }) => length)).toEqual([0]);
	expect(() => new VirtioFs({ folder, tag: "x".repeat(37) })).toThrow(/1 to 36 bytes/);
});

test("random requests and random bytes get a reply or none, and leave no handles behind", () => {
	const opcode = fc.oneof(fc.constantFrom(...Object.values(OP)), fc.integer({ min: 0, max: 60 }));
	const small = fc.oneof(fc.bigInt({ min: 0n, max: 8n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
	const field = fc.oneof(
		fc.integer({ min: 0, max: 0xffff_ffff }),
		fc.integer({ min: 0, max: 8 }),
		small,
		fc.constantFrom("a", "b", "..", "a/b", ""),
		fc.uint8Array({ maxLength: 40 }),
	);
	const request = fc.record({ opcode, node: small, fields: fc.array(field, { maxLength: 9 }), room: fc.nat(5000) });
	fc.assert(
		fc.property(fc.array(request, { maxLength: 40 }), fc.uint8Array({ maxLength: 200 }), (requests, junk) => {
			const { server, client, folder } = makeClient();
			client.create(1n, "a");
			client.call(OP.MKDIR, 1n, 0o755, 0, "b");
			for (const { opcode: op, node, fields, room } of requests) {
				const reply = server.handle(fuseRequest(op, node, ...fields), room);
				if (reply !== undefined) expect(reply.length).toBeLessThanOrEqual(Math.max(16, room));
			}
			server.handle(junk, 4096);
			server.handle(pack(junk.length + 40, 3, 1n, 1n, new Uint8Array(16), junk), 4096);
			server.reset();
			expect(server.openHandles).toBe(0);
			expect(folder.space().free).toBeGreaterThanOrEqual(0n);
		}),
		{ seed: 12, numRuns: 300 },
	);
});
