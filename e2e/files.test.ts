import { createHash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSandbox } from "../packages/kvm-cli/src/index.ts";
import { NodeFolder } from "../packages/kvm-cli/src/share/node-folder.ts";
import { Virtio9p } from "../packages/kvm-core/src/machine/index.ts";
import { buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";
import { runInGuest } from "./support/machine.ts";

/** The suite has time for few; the figures to show are 10000 and 1024. */
const FILES = Number(env["XKVM_SHARE_FILES"] ?? 60);
const MIB = Number(env["XKVM_SHARE_MIB"] ?? 2);

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";

let root: string;
let share: string;
beforeAll(() => {
	root = mkdtempSync(join(tmpdir(), "xkvm-files-"));
	share = join(root, "share");
	mkdirSync(join(share, "in/small"), { recursive: true });
	writeFileSync(join(root, "secret"), "the secret of the host");
	for (let i = 0; i < FILES; i++) writeFileSync(join(share, "in/small", `f${i}`), `file ${i}\n`.repeat(1 + (i % 300)));
	const big = join(share, "in/big");
	for (let i = 0; i < MIB; i++) writeFileSync(big, randomBytes(2 ** 20), { flag: "a" });
});
afterAll(() => rmSync(root, { recursive: true }));

async function digest(path: string, bytes = Number.POSITIVE_INFINITY): Promise<string> {
	const hash = createHash("sha256");
	await pipeline(createReadStream(path, { end: bytes - 1 }), hash);
	return hash.digest("hex");
}

/** What the guest sums of the big file, at most: the host sums the whole copy that the guest made. */
const SUMMED_BYTES = 2 ** 20;

/** Digest of names and contents, as the guest computes it too. */
function digestOfSmall(folder: string): string {
	const hash = createHash("sha256");
	for (const name of readdirSync(folder).sort()) {
		hash.update(
			`${createHash("sha256")
				.update(readFileSync(join(folder, name)))
				.digest("hex")}  ${name}\n`,
		);
	}
	return hash.digest("hex");
}

describe.skipIf(typeof image === "string")(`a shared folder in a Debian guest${because}`, () => {
	it("carries many files and a big one both ways, by virtio-fs, and nothing from beside it", {
		timeout: GUEST_TEST_MS,
	}, async () => {
		const script = `
small() { (cd "$1" && ls | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c 1-64); }
big() { head -c ${SUMMED_BYTES} "$1" | sha256sum | cut -c 1-64; }
small /share/in/small; big /share/in/big
mkdir -p /share/out && cp -r /share/in/small /share/out/small && cp /share/in/big /share/out/big
small /share/out/small; sync /share/out/big; big /fixed/big
touch /fixed/new 2>/dev/null || echo refused
rm /fixed/big 2>/dev/null || echo refused
ln -s ../../secret /share/out/leak; cat /share/out/leak 2>/dev/null || echo nothing
cat /share/../secret /share/in/../../secret /secret 2>/dev/null || echo nothing
cd /share/out && mkdir -p a/b && mv a/b c && ln big hard && [ hard -ef big ] && rmdir a c && rm hard && echo moved
exec 3>tmp; rm tmp; echo kept >&3 && [ ! -e tmp ] && echo unlinked
df /share | tail -1 | grep -q /share && echo space
`;
		const { kernel, initrd } = image as Image;
		await using vm = await createSandbox({
			image: { kernel, initrd },
			mounts: [
				{ host: share, guest: "/share" },
				{ host: join(share, "in"), guest: "/fixed", readonly: true },
			],
		});
		const { stdout, stderr } = await vm.exec(script).output();
		const small = digestOfSmall(join(share, "in/small"));
		const big = await digest(join(share, "in/big"), SUMMED_BYTES);
		expect(String(stdout).split("\n"), String(stderr)).toEqual([
			...[small, big, small, big, "refused", "refused", "nothing", "nothing", "moved", "unlinked", "space", ""],
		]);
		expect(digestOfSmall(join(share, "out/small"))).toBe(small);
		expect(await digest(join(share, "out/big"))).toBe(await digest(join(share, "in/big")));
		expect(readdirSync(join(share, "out")).sort()).toEqual(["big", "leak", "small"]);
	});
});

const generic = buildImage("generic", "--kernel", "generic");
it.skipIf(typeof generic === "string")(
	`Debian's generic kernel starts, and has 9p where it has no virtio-fs${typeof generic === "string" ? ` [${generic}]` : ""}`,
	{ timeout: GUEST_TEST_MS },
	async () => {
		const folder = new NodeFolder(share);
		const script = `
uname -r
modprobe 9pnet_virtio && modprobe 9p && mkdir -p /share || exit 9
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 shared /share || exit 8
small() { (cd "$1" && ls | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c 1-64); }
small /share/in/small
mkdir -p /share/plan9 && cp -r /share/in/small /share/plan9/small && head -c 1000000 /share/in/big >/share/plan9/part
small /share/plan9/small; sha256sum /share/plan9/part | cut -c 1-64
ln -s ../../secret /share/plan9/leak; cat /share/plan9/leak 2>/dev/null || echo nothing
cat /share/../secret 2>/dev/null || echo nothing
cd /share/plan9 && mkdir -p a/b && mv a/b c && ln part hard && [ hard -ef part ] && rmdir a c && rm hard && echo moved
`;
		const { stdout, stderr, console } = await runInGuest(generic as Image, script, {
			devices: [new Virtio9p({ folder, tag: "shared" })],
		});
		folder.close();
		const small = digestOfSmall(join(share, "in/small"));
		const part = createHash("sha256")
			.update(readFileSync(join(share, "in/big")).subarray(0, 1_000_000))
			.digest("hex");
		expect(stdout.split("\n"), `${stderr}${console}`).toEqual([
			...[(generic as Image).kernelRelease, small, small, part, "nothing", "nothing", "moved", ""],
		]);
		expect(digestOfSmall(join(share, "plan9/small"))).toBe(small);
		expect(readdirSync(join(share, "plan9")).sort()).toEqual(["leak", "part", "small"]);
	},
);
