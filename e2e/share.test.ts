import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
	existsSync,
	linkSync,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { NodeFolder } from "../packages/kvm-cli/src/share/node-folder.ts";
import { FuseServer, P9Server, type SharedFolder, type ShareNode } from "../packages/kvm-core/src/share/index.ts";
import { FuseClient } from "../packages/kvm-core/test/machine/fuse-client.ts";
import { P9Client } from "../packages/kvm-core/test/machine/p9-client.ts";

const SECRET = "the secret of the host";
const OP = { GETATTR: 3, SYMLINK: 6, MKDIR: 9, UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, RELEASE: 18, LOOKUP: 1 };
const [READ, WRITE, READ_WRITE] = [0, 1, 2];
const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const opened: (() => void)[] = [];
afterEach(() => {
	for (const close of opened.splice(0).reverse()) close();
});

interface Setup {
	/** The shared folder, and the one beside it that no guest may ever see. */
	share: string;
	outside: string;
	secret: string;
	folder: NodeFolder;
	client: Client;
}

type Client = FuseClient | P9Client;

function setup(options: { readonly?: boolean; protocol?: "fuse" | "9p" } = {}): Setup {
	const root = mkdtempSync(join(tmpdir(), "xkvm-share-"));
	const [share, outside] = [join(root, "share"), join(root, "outside")];
	const secret = join(outside, "secret");
	mkdirSync(join(share, "sub"), { recursive: true });
	mkdirSync(outside);
	writeFileSync(secret, SECRET, { mode: 0o640 });
	writeFileSync(join(share, "file"), "inside");
	writeFileSync(join(share, "sub", "deep"), "deeper");
	const folder = new NodeFolder(share, options);
	const protocol = options.protocol ?? "fuse";
	const client = protocol === "fuse" ? new FuseClient(new FuseServer(folder)) : new P9Client(new P9Server(folder));
	opened.push(
		() => rmSync(root, { recursive: true }),
		() => folder.close(),
		() => client.server.reset(),
	);
	return { share, outside, secret, folder, client };
}

describe.skipIf(process.platform !== "linux")("a folder of the host", () => {
	it("is read and written as it is", () => {
		const { client, share } = setup();
		expect(client.list(1n).sort()).toEqual(["file", "sub"]);
		expect(client.list(1n, true).sort()).toEqual(["file", "sub"]);
		const made = client.create(client.node("sub"), "new");
		const content = new Uint8Array(300_000).map((_, i) => i * 7);
		expect(client.write(made.handle, content).errno).toBe(0);
		client.call(OP.RELEASE, 0n, made.handle, 0, 0, 0n);
		expect(Buffer.compare(readFileSync(join(share, "sub/new")), content)).toBe(0);
		const handle = client.open(client.node("sub/new"), READ);
		expect(Buffer.compare(client.read(handle, 300_000).body, content)).toBe(0);
		expect(client.setAttributes(client.node("file"), { mode: 0o4755, mtime: 12_345n }).errno).toBe(0);
		const stats = statSync(join(share, "file"));
		expect([stats.mode & 0o7777, stats.mtimeMs]).toEqual([0o755, 12_345_000]);
		expect(client.call(OP.LINK, client.node("sub"), client.node("file"), "hard").errno).toBe(0);
		expect(client.call(OP.SYMLINK, 1n, "soft", "sub/hard").errno).toBe(0);
		expect(readlinkSync(join(share, "soft"))).toBe("sub/hard");
		expect(client.call(OP.RENAME, 1n, client.node("sub"), "file", "moved").errno).toBe(0);
		expect(existsSync(join(share, "sub/moved"))).toBe(true);
		for (const name of ["deep", "new", "hard", "moved"]) {
			expect(client.call(OP.UNLINK, client.node("sub"), name).errno).toBe(0);
		}
		expect(client.call(OP.RMDIR, 1n, "sub").errno).toBe(0);
		expect(readdirSync(share)).toEqual(["soft"]);
	});

	it("keeps a file that has no name any more as long as it is open", () => {
		const { client } = setup();
		const node = client.node("file");
		const handle = client.open(node, READ_WRITE);
		expect(client.call(OP.UNLINK, 1n, "file").errno).toBe(0);
		expect(client.write(handle, bytesOf("still ")).errno).toBe(0);
		expect(textOf(client.read(handle).body)).toBe("still ");
		expect(client.setAttributes(node, { size: 3n }).errno).toBe(0);
		const again = client.open(node, READ);
		expect(textOf(client.read(again).body)).toBe("sti");
		client.call(OP.RELEASE, 0n, handle, 0, 0, 0n);
		client.call(OP.RELEASE, 0n, again, 0, 0, 0n);
		expect(client.call(OP.GETATTR, node, 0, 0, 0n).errno).toBe(116);
	});

	it("follows what is moved, and notices what the host put in its place", () => {
		const { client, share } = setup();
		mkdirSync(join(share, "a/b/c"), { recursive: true });
		writeFileSync(join(share, "a/b/c/f"), "here");
		const node = client.node("a/b/c/f");
		expect(client.call(OP.RENAME, client.node("a"), 1n, "b", "elsewhere").errno).toBe(0);
		const handle = client.open(node);
		expect(textOf(client.read(handle).body)).toBe("here");
		client.call(OP.RELEASE, 0n, handle, 0, 0, 0n);
		renameSync(join(share, "elsewhere/c/f"), join(share, "f"));
		writeFileSync(join(share, "elsewhere/c/f"), "another");
		expect(client.call(OP.GETATTR, node, 0, 0, 0n).errno).toBe(116);
	});

	it("shows files as root's or nobody's, never set-user-ID", () => {
		const { client, share } = setup();
		execFileSync("chmod", ["6755", join(share, "file")]);
		const { view } = client.call(OP.GETATTR, client.node("file"), 0, 0, 0n);
		expect([view.getUint32(76, true), view.getUint32(84, true), view.getUint32(88, true)]).toEqual([0o100755, 0, 0]);
	});

	it("opens a bounded number of files, and many folders with few descriptors", () => {
		const { client, share } = setup();
		for (let i = 0; i < 200; i++) mkdirSync(join(share, `d${i}/x`), { recursive: true });
		for (let round = 0; round < 2; round++) {
			for (let i = 0; i < 200; i++) expect(client.list(client.node(`d${i}/x`))).toEqual([]);
		}
		expect(readdirSync("/proc/self/fd").length).toBeLessThan(200);
		const node = client.node("file");
		const handles: bigint[] = [];
		for (let handle = client.open(node); handle > 0n; handle = client.open(node)) handles.push(handle);
		expect(handles.length).toBe(1024);
		client.call(OP.RELEASE, 0n, handles[0]!, 0, 0, 0n);
		expect(client.open(node)).toBeGreaterThan(0n);
	});

	it("stays as it is when it is read-only", () => {
		const { client, share } = setup({ readonly: true });
		const before = execFileSync("ls", ["-lR", "--time-style=full-iso", share]).toString();
		const node = client.node("file");
		expect(textOf(client.read(client.open(node)).body)).toBe("inside");
		for (const errno of [
			-Number(client.open(node, WRITE)),
			-Number(client.open(node, READ_WRITE)),
			-Number(client.open(node, READ | 0o1000)),
			client.create(1n, "new").errno,
			client.setAttributes(node, { size: 0n }).errno,
			client.setAttributes(node, { mode: 0o777 }).errno,
			client.setAttributes(node, { mtime: 1n }).errno,
			client.call(OP.MKDIR, 1n, 0, 0, "d").errno,
			client.call(OP.SYMLINK, 1n, "s", "t").errno,
			client.call(OP.LINK, 1n, node, "l").errno,
			client.call(OP.RENAME, 1n, 1n, "file", "c").errno,
			client.call(OP.UNLINK, 1n, "file").errno,
			client.call(OP.RMDIR, 1n, "sub").errno,
		]) {
			expect(errno).toBe(30);
		}
		expect(execFileSync("ls", ["-lR", "--time-style=full-iso", share]).toString()).toBe(before);
	});
});

/** One way out; it gets what it read, if anything, and must find nothing. */
type Escape = readonly [name: string, attempt: (setup: Setup) => readonly Uint8Array[] | undefined];

const NAMES = [
	"..",
	"../outside",
	"../outside/secret",
	"sub/../../outside/secret",
	".",
	"",
	"/",
	"/etc/passwd",
	"a\0b",
];

/** Every operation that takes a name, with one that is no name. */
const byName: Escape[] = NAMES.flatMap((name): Escape[] => [
	[`looking up "${name}"`, ({ client }) => readAll(client, client.call(OP.LOOKUP, 1n, name))],
	[
		`making the file "${name}"`,
		({ client }) => {
			const { errno, handle } = client.create(1n, name, READ_WRITE);
			if (errno === 0) client.write(handle, bytesOf("escaped"));
			return errno === 0 ? [client.read(handle).body] : undefined;
		},
	],
	[
		`removing, moving and linking "${name}"`,
		({ client }) => {
			client.call(OP.UNLINK, 1n, name);
			client.call(OP.RMDIR, 1n, name);
			client.call(OP.RENAME, 1n, 1n, name, "taken");
			client.call(OP.RENAME, 1n, 1n, "file", name);
			client.call(OP.LINK, 1n, client.node("file"), name);
			client.call(OP.SYMLINK, 1n, name, "target");
			client.call(OP.MKDIR, 1n, 0o777, 0, name);
			return readAll(client, client.call(OP.LOOKUP, 1n, "taken"));
		},
	],
]);

/** Links that lead out, and what could follow them. */
const byLink: Escape[] = [
	["an absolute link to a file", (at: Setup) => at.secret],
	["a link with dots to a file", () => "../outside/secret"],
	["an absolute link to a folder", (at: Setup) => at.outside],
	["a link to the root", () => "/"],
	["a link to /proc/self/cwd", () => "/proc/self/cwd"],
].flatMap(([name, target]): Escape[] => {
	const plant = (at: Setup) => {
		at.client.call(OP.SYMLINK, 1n, "out", (target as (at: Setup) => string)(at));
		return at.client.node("out");
	};
	return [
		[
			`${name}: opening it`,
			(at) => {
				const node = plant(at);
				return [READ, WRITE, READ_WRITE, WRITE | 0o1000].flatMap((flags) => {
					const handle = at.client.open(node, flags);
					if (handle <= 0n) return [];
					at.client.write(handle, bytesOf("escaped"));
					return [at.client.read(handle).body];
				});
			},
		],
		[
			`${name}: names below it`,
			(at) => {
				const node = plant(at);
				at.client.create(node, "new");
				at.client.call(OP.MKDIR, node, 0o777, 0, "made");
				at.client.call(OP.UNLINK, node, "secret");
				at.client.call(OP.RENAME, node, 1n, "secret", "stolen");
				at.client.call(OP.RENAME, 1n, node, "file", "pushed");
				return [...readAll(at.client, at.client.call(OP.LOOKUP, node, "secret")), ...at.client.list(node).map(bytesOf)];
			},
		],
		[
			`${name}: changing what is behind it`,
			(at) => {
				const node = plant(at);
				at.client.setAttributes(node, { size: 0n });
				at.client.setAttributes(node, { mode: 0o777 });
				at.client.setAttributes(node, { mtime: 1n });
				return undefined;
			},
		],
		[
			`${name}: making a file of its name`,
			(at) => {
				plant(at);
				const { errno, handle } = at.client.create(1n, "out", READ_WRITE);
				if (errno === 0) at.client.write(handle, bytesOf("escaped"));
				return errno === 0 ? [at.client.read(handle).body] : undefined;
			},
		],
		[
			`${name}: a hard link to it`,
			(at) => {
				const node = plant(at);
				return readAll(at.client, at.client.call(OP.LINK, 1n, node, "hard"));
			},
		],
	];
});

/** A name that was one thing when the guest looked, and is another by the time it acts. */
const bySwap: Escape[] = [
	[
		"a folder becomes a link, and is gone",
		(at) => {
			const node = at.client.node("sub");
			rmSync(join(at.share, "sub"), { recursive: true });
			symlinkSync(at.outside, join(at.share, "sub"));
			return probe(at, node);
		},
	],
	[
		"a folder becomes a link, and is elsewhere in the share",
		(at) => {
			const node = at.client.node("sub");
			renameSync(join(at.share, "sub"), join(at.share, "kept"));
			symlinkSync(at.outside, join(at.share, "sub"));
			return probe(at, node);
		},
	],
	[
		"a folder with a link above it, after its descriptor was closed",
		(at) => {
			mkdirSync(join(at.share, "p/outside"), { recursive: true });
			const node = at.client.node("p/outside");
			for (let i = 0; i < 100; i++) mkdirSync(join(at.share, `d${i}`));
			for (let i = 0; i < 100; i++) at.client.list(at.client.node(`d${i}`));
			rmSync(join(at.share, "p"), { recursive: true });
			symlinkSync(join(at.outside, ".."), join(at.share, "p"));
			return probe(at, node);
		},
	],
	[
		"a file becomes a link",
		(at) => {
			const node = at.client.node("file");
			unlinkSync(join(at.share, "file"));
			symlinkSync(at.secret, join(at.share, "file"));
			at.client.setAttributes(node, { size: 0n });
			at.client.setAttributes(node, { mode: 0o777 });
			at.client.setAttributes(node, { mtime: 1n });
			return [READ, READ_WRITE].map((flags) => at.client.read(at.client.open(node, flags)).body);
		},
	],
	[
		"a file becomes a link while it is open",
		(at) => {
			const node = at.client.node("file");
			const handle = at.client.open(node, READ_WRITE);
			unlinkSync(join(at.share, "file"));
			symlinkSync(at.secret, join(at.share, "file"));
			at.client.write(handle, bytesOf("escaped"));
			at.client.setAttributes(node, { size: 0n });
			at.client.setAttributes(node, { mode: 0o777 });
			return [at.client.read(handle).body, at.client.read(at.client.open(node, READ)).body];
		},
	],
	[
		"a folder that is open is listed again behind a link",
		(at) => {
			const node = at.client.node("sub");
			const names = at.client.list(node);
			renameSync(join(at.share, "sub"), join(at.share, "kept"));
			symlinkSync(at.outside, join(at.share, "sub"));
			return [...names, ...at.client.list(node)].map(bytesOf);
		},
	],
	[
		"a pipe takes the place of a file, and nobody waits on it",
		(at) => {
			const node = at.client.node("file");
			unlinkSync(join(at.share, "file"));
			execFileSync("mkfifo", [join(at.share, "file"), join(at.share, "pipe")]);
			at.client.create(1n, "pipe", WRITE);
			return [READ, WRITE].flatMap((flags) => [
				at.client.read(at.client.open(node, flags)).body,
				at.client.read(at.client.open(at.client.node("pipe"), flags)).body,
			]);
		},
	],
	["handles made up", (at) => Array.from({ length: 64 }, (_, handle) => at.client.read(BigInt(handle)).body)],
];

describe.skipIf(process.platform !== "linux")("a guest does not get out", () => {
	const attempts = [...byName, ...byLink, ...bySwap];

	it("is tried in 60 ways", () => {
		expect(attempts.length).toBeGreaterThanOrEqual(60);
	});

	it.each(attempts.flatMap((attempt) => [[...attempt, "fuse"] as const, [...attempt, "9p"] as const]))(
		"%s",
		(...args) => {
			const [, attempt, protocol] = args;
			const at = setup({ protocol });
			const before = lstatSync(at.secret, { bigint: true });
			const cwd = readdirSync(".").sort();
			for (const bytes of attempt(at) ?? []) {
				expect(textOf(bytes)).not.toContain(SECRET);
				expect(textOf(bytes)).not.toBe("secret");
			}
			expect(readdirSync(at.outside)).toEqual(["secret"]);
			expect(readFileSync(at.secret, "utf8")).toBe(SECRET);
			const after = lstatSync(at.secret, { bigint: true });
			const facts = ({ mode, nlink, mtimeNs, size, ino }: typeof after) => ({ mode, nlink, mtimeNs, size, ino });
			expect(facts(after)).toEqual(facts(before));
			expect(readdirSync(join(at.share, "..")).sort()).toEqual(["outside", "share"]);
			expect(readdirSync(".").sort()).toEqual(cwd);
		},
	);

	it("not in a race either: a folder and a link change places all the while", async () => {
		const at = setup();
		mkdirSync(join(at.share, "real"));
		writeFileSync(join(at.share, "real", "secret"), "decoy");
		symlinkSync(at.outside, join(at.share, "link"));
		renameSync(join(at.share, "real"), join(at.share, "x"));
		const script = `const {renameSync} = require("node:fs"); process.chdir(process.argv[1]);
			process.stdout.write("running");
			for (;;) { renameSync("x", "real"); renameSync("link", "x"); renameSync("x", "link"); renameSync("real", "x"); }`;
		const child: ChildProcess = spawn(process.execPath, ["-e", script, at.share], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		opened.push(() => child.kill("SIGKILL"));
		await new Promise((resolve) => child.stdout!.once("data", resolve));
		let [inside, failed] = [0, 0];
		for (let i = 0; i < 3000; i++) {
			const { errno, view } = at.client.call(OP.LOOKUP, 1n, "x");
			if (errno !== 0) {
				failed++;
				continue;
			}
			const folder = view.getBigUint64(0, true);
			const { errno: missing, view: entry } = at.client.call(OP.LOOKUP, folder, "secret");
			if (i % 10 === 0) at.client.call(OP.RELEASE, 0n, at.client.create(folder, `new${i}`).handle, 0, 0, 0n);
			if (missing !== 0) {
				failed++;
				continue;
			}
			const handle = at.client.open(entry.getBigUint64(0, true), READ);
			if (handle <= 0n) {
				failed++;
				continue;
			}
			expect(textOf(at.client.read(handle).body)).toBe("decoy");
			at.client.call(OP.RELEASE, 0n, handle, 0, 0, 0n);
			inside++;
		}
		child.kill("SIGKILL");
		expect(readdirSync(at.outside)).toEqual(["secret"]);
		expect(readFileSync(at.secret, "utf8")).toBe(SECRET);
		// Both have to have happened, or nothing was raced for.
		expect(inside).toBeGreaterThan(0);
		expect(failed).toBeGreaterThan(0);
	});

	it("a file that has names in and out is what it is: the same file", () => {
		const at = setup();
		linkSync(at.secret, join(at.share, "hard"));
		expect(textOf(at.client.read(at.client.open(at.client.node("hard"))).body)).toBe(SECRET);
	});
});

/** Everything one can do to a folder a guest still holds. */
function probe(at: Setup, node: bigint): Uint8Array[] {
	const { client } = at;
	client.create(node, "new");
	client.call(OP.MKDIR, node, 0o777, 0, "made");
	client.call(OP.SYMLINK, node, "soft", "x");
	client.call(OP.UNLINK, node, "secret");
	client.call(OP.RENAME, node, 1n, "secret", "stolen");
	client.call(OP.RENAME, 1n, node, "file", "pushed");
	client.setAttributes(node, { mode: 0o777 });
	return [
		...readAll(client, client.call(OP.LOOKUP, node, "secret")),
		...readAll(client, client.call(OP.LOOKUP, 1n, "stolen")),
		...client.list(node).map(bytesOf),
	];
}

function readAll(client: Client, { errno, view }: { errno: number; view: DataView }): Uint8Array[] {
	if (errno !== 0) return [];
	const node = view.getBigUint64(0, true);
	return [client.read(client.open(node)).body, ...client.list(node).map(bytesOf)];
}

/** Every implementation gives the same node for the same file, while it is held. */
it("one file is one node", () => {
	const { folder, share } = setup();
	linkSync(join(share, "file"), join(share, "again"));
	const shared: SharedFolder = folder;
	const first: ShareNode = shared.lookup(shared.root, "file");
	expect(shared.lookup(shared.root, "again")).toBe(first);
	shared.forget(first, 2);
	expect(shared.lookup(shared.root, "file")).not.toBe(first);
});
