import fc from "fast-check";
import { expect, test } from "vitest";
import { OP } from "../../src/fuse/protocol.ts";
import { Virtio9p } from "../../src/machine/virtio/share/p9.ts";
import { T } from "../../src/p9/protocol.ts";
import { P9Server } from "../../src/p9/server.ts";
import { MemoryFolder } from "../../src/share/memory-folder.ts";
import { P9Client, p9Message, string16 } from "./p9-client.ts";
import { Driver } from "./virtio-driver.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytesOf = (value: string) => new TextEncoder().encode(value);
const [EPERM, ENOENT, EBADF, EINVAL, ENOTEMPTY, EOPNOTSUPP] = [1, 2, 9, 22, 39, 95];

function makeClient() {
	let now = 1_700_000_000_000_000_000n;
	const folder = new MemoryFolder({ now: () => (now += 1000n) });
	const server = new P9Server(folder);
	return { folder, server, client: new P9Client(server) };
}

test("files are made, written, read, cut, renamed, linked and removed", () => {
	const { client, server } = makeClient();
	const made = client.create(1n, "a");
	expect(client.write(made.handle, bytesOf("hello, world")).view.getUint32(0, true)).toBe(12);
	expect(text(client.read(made.handle, 5, 7n).body)).toBe("world");
	const node = client.node("a");
	expect(client.setAttributes(node, { size: 5n, mode: 0o7640 }).errno).toBe(0);
	const { view } = client.call(OP.GETATTR, node);
	expect([view.getUint32(21, true), view.getBigUint64(49, true)]).toEqual([0o101640, 5n]);
	expect(client.setAttributes(node, { uid: 1000 }).errno).toBe(EPERM);
	client.call(OP.RELEASE, 0n, made.handle);
	expect(client.read(made.handle).errno).toBe(EBADF);
	expect(client.call(OP.MKDIR, 1n, 0o755, 0, "d").errno).toBe(0);
	expect(client.call(OP.LINK, client.node("d"), node, "b").errno).toBe(0);
	expect(client.call(OP.RENAME, 1n, client.node("d"), "a", "c").errno).toBe(0);
	expect(client.list(client.node("d")).sort()).toEqual(["b", "c"]);
	expect(client.call(OP.RMDIR, 1n, "d").errno).toBe(ENOTEMPTY);
	expect(client.call(OP.SYMLINK, 1n, "s", "some/where").errno).toBe(0);
	expect(text(client.send(T.READLINK, Number(client.node("s"))).body.subarray(2))).toBe("some/where");
	for (const name of ["b", "c"]) expect(client.call(OP.UNLINK, client.node("d"), name).errno).toBe(0);
	expect(client.call(OP.RMDIR, 1n, "d").errno).toBe(0);
	expect(client.list(1n)).toEqual(["s"]);
	expect(server.openHandles).toBe(0);
});

test("a walk goes as far as it can, and leaves a fid only at its end", () => {
	const { client, server } = makeClient();
	client.call(OP.MKDIR, 1n, 0o755, 0, "a");
	client.call(OP.MKDIR, client.node("a"), 0o755, 0, "b");
	const fids = server.knownFids;
	const walk = (...names: string[]) =>
		client.send(T.WALK, 1, 900, Uint8Array.of(names.length, 0), ...names.map(string16));
	expect(walk("none", "b").errno).toBe(ENOENT);
	expect(walk("a", "none").view.getUint16(0, true)).toBe(1);
	expect(server.knownFids).toBe(fids);
	expect(walk("a", "..").view.getUint16(0, true)).toBe(1);
	expect(walk("a", "b").view.getUint16(0, true)).toBe(2);
	expect(server.knownFids).toBe(fids + 1);
	expect(walk("a").errno).toBe(EBADF);
	expect(client.send(T.WALK, 1, 901, Uint8Array.of(17, 0)).errno).toBe(EINVAL);
	// A fid may walk itself.
	expect(client.send(T.WALK, 900, 900, Uint8Array.of(0, 0)).errno).toBe(0);
	expect(client.send(T.CLUNK, 900).errno).toBe(0);
	expect(client.send(T.CLUNK, 900).errno).toBe(EBADF);
});

test("folders are listed in pieces; versions, locks and what is not there are answered", () => {
	const { client } = makeClient();
	const names = Array.from({ length: 100 }, (_, i) => `file-${"x".repeat(i % 50)}${i}`);
	for (const name of names) client.call(OP.RELEASE, 0n, client.create(1n, name).handle);
	expect(client.list(1n, false, 300)).toEqual(names);
	const file = Number(client.node(names[0]));
	expect(client.send(T.LOCK, file, Uint8Array.of(1), 0, 0n, 0n, 1, string16("me")).body[0]).toBe(0);
	expect(client.send(T.GETLOCK, file, Uint8Array.of(1), 0n, 9n, 1, string16("me")).body[0]).toBe(2);
	expect(client.send(T.XATTRWALK, file, 77, string16("user.x")).errno).toBe(EOPNOTSUPP);
	expect(client.send(T.MKNOD, 1, string16("null"), 0o020666, 1, 3, 0).errno).toBe(EPERM);
	expect(client.send(T.STATFS, 1).body.length).toBe(60);
	expect(client.send(T.VERSION, 100, string16("9P2000.L")).errno).toBe(EINVAL);
	expect(text(client.send(T.VERSION, 8192, string16("9P2000")).body)).toContain("unknown");
	expect(client.send(T.GETATTR, 1, 0n).errno).toBe(EBADF);
});

test("the device carries messages", () => {
	const { folder } = makeClient();
	const driver = new Driver(new Virtio9p({ folder, tag: "shared" })).start();
	expect(driver.read(driver.config, 2)).toBe(6);
	expect(text(Uint8Array.from({ length: 6 }, (_, i) => driver.read(driver.config + 2 + i, 1)))).toBe("shared");
	const { rooms } = driver.add(0, [
		{ send: p9Message(T.VERSION, 8192, string16("9P2000.L")) },
		{ room: 10 },
		{ room: 40 },
	]);
	driver.kick(0);
	expect(rooms[0][4]).toBe(T.VERSION + 1);
	expect(driver.used(0)[0].length).toBe(21);
});

test("random messages and random bytes get a reply or none, and leave nothing open", () => {
	const type = fc.oneof(fc.constantFrom(...Object.values(T)), fc.integer({ min: 0, max: 255 }));
	const name = fc.constantFrom("a", "b", "..", "a/b", "").map(string16);
	const field = fc.oneof(
		fc.integer({ min: 0, max: 8 }),
		fc.integer({ min: 0, max: 0xffff_ffff }),
		fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
		name,
		fc.uint8Array({ maxLength: 40 }),
	);
	const message = fc.record({ type, fields: fc.array(field, { maxLength: 9 }), room: fc.nat(5000) });
	fc.assert(
		fc.property(fc.array(message, { maxLength: 40 }), fc.uint8Array({ maxLength: 200 }), (messages, junk) => {
			const { server, client } = makeClient();
			client.create(1n, "a");
			client.call(OP.MKDIR, 1n, 0o755, 0, "b");
			for (const { type: kind, fields, room } of messages) {
				const reply = server.handle(p9Message(kind, ...fields), room);
				if (reply !== undefined) expect(reply.length).toBeLessThanOrEqual(room);
			}
			server.handle(junk, 4096);
			server.reset();
			expect([server.openHandles, server.knownFids]).toEqual([0, 0]);
		}),
		{ seed: 12, numRuns: 300 },
	);
});
