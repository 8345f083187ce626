import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDisk } from "../packages/kvm-cli/src/guest/disk.ts";
import { NodeFolder } from "../packages/kvm-cli/src/share/node-folder.ts";
import { HostileGuest } from "../packages/kvm-core/test/machine/hostile-guest.ts";
import { createGateway } from "../packages/ustack/src/gateway/index.ts";
import { createNodeOutbound } from "../packages/ustack/src/node/index.node.ts";
import { env } from "./support/images.ts";

/** Seconds a campaign is to last; without them, a fixed number of actions. */
const SECONDS = Number(env["HOSTILE_SECONDS"] ?? 0);
const SEED = Number(env["HOSTILE_SEED"] ?? 1);
const ACTIONS = 4000;
const MEMORY_LIMIT = 512 * 2 ** 20;

describe.skipIf(process.platform !== "linux")("a hostile guest", () => {
	it(
		"before a gateway, with a folder and a disk of the host, harms none of them",
		async () => {
			const start = process.memoryUsage().rss;
			const end = performance.now() + SECONDS * 1000;
			const attempts = { connect: 0, sent: 0, files: 0 };
			for (let i = 0; i === 0 || performance.now() < end; i++) {
				const seed = SEED * 1_000_003 + i * 7919;
				const root = mkdtempSync(join(tmpdir(), "xkvm-hostile-"));
				const disk = join(root, "disk.img");
				writeFileSync(disk, new Uint8Array(2 ** 16).fill(7));
				mkdirSync(join(root, "share"));
				writeFileSync(join(root, "secret"), "the secret of the host");
				const folder = new NodeFolder(join(root, "share"));
				const overlay = openDisk({ path: disk, readonly: false, overlay: { path: join(root, "disk.cow") } });
				const outbound = createNodeOutbound();
				const refuse = () => {
					attempts.connect++;
					throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
				};
				const gateway = createGateway({
					outbound: { ...outbound, connect: refuse, query: () => Promise.reject(new Error("no upstream")) },
					policy: { deny: ["0.0.0.0/0", "::/0"] },
				});
				const guest = new HostileGuest({
					seed,
					folder,
					disk: overlay,
					attach: (link) => void gateway.attach(link),
				});
				try {
					for (let k = 0; k < ACTIONS; k++) {
						guest.act();
						if (k % 500 === 499) await new Promise(setImmediate);
					}
					await guest.board.idle();
				} catch (error) {
					throw new Error(`seed ${seed}, action ${guest.actions}`, { cause: error });
				}
				guest.board.reset();
				gateway.close();
				overlay.close();
				folder.close();
				attempts.sent += guest.net.stats.txFrames;
				attempts.files += guest.most.files + guest.most.fids;
				expect(readdirSync(root).sort()).toEqual(["disk.cow", "disk.img", "secret", "share"]);
				expect(readFileSync(join(root, "secret"), "utf8")).toBe("the secret of the host");
				expect(readFileSync(disk).every((byte) => byte === 7)).toBe(true);
				rmSync(root, { recursive: true });
				expect(process.memoryUsage().rss - start, `seed ${seed}`).toBeLessThan(MEMORY_LIMIT);
			}
			// Everything is denied: no connection was made; and the guest did get through to gateway and folder.
			expect(attempts.connect).toBe(0);
			expect(attempts.sent).toBeGreaterThan(0);
			expect(attempts.files).toBeGreaterThan(0);
		},
		SECONDS * 1000 + 120_000,
	);
});
