import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const noBuild = existsSync(join(dist, "index.node.js")) ? undefined : "not built: pnpm build";
const notRoot =
	noBuild ??
	(process.platform !== "linux" || process.getuid?.() !== 0 ? "only root can give its rights up" : undefined);
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
const folder = mkdtempSync(join(tmpdir(), "netchannel-lacking-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What opening links in another process comes to: a code and message for each. */
function outcomes(
	library: string,
	calls: readonly string[],
	options: { uid?: number; gid?: number } = {},
): { code: string; message: string; errno?: number }[] {
	const code = `
		const links = await import(${JSON.stringify(pathToFileURL(join(library, "index.node.js")).href)});
		const results = [];
		for (const open of [${calls.map((call) => `() => links.${call}`).join(",")}]) {
			try { (await open()).close(); results.push({ code: "none", message: "" }); }
			catch ({ code, message, errno }) { results.push({ code, message, errno }); }
		}
		console.log(JSON.stringify(results));`;
	const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
		encoding: "utf8",
		...options,
	});
	try {
		return JSON.parse(stdout);
	} catch {
		throw new Error(stderr);
	}
}

describe("what a host lacks is a typed error", () => {
	test.skipIf(noBuild !== undefined)(`no koffi: native links say so, the others work${because(noBuild)}`, () => {
		const alone = join(folder, "dist");
		cpSync(dist, alone, { recursive: true });
		const [tap, packet, udp] = outcomes(alone, [
			'openTap({ name: "x" })',
			'openPacket({ interface: "lo" })',
			'openLink("udp:127.0.0.1:9")',
		]);
		for (const outcome of [tap, packet])
			expect(outcome).toMatchObject({ code: "ERR_LINK_UNSUPPORTED", message: expect.stringMatching(/koffi|Linux/) });
		expect(udp).toMatchObject({ code: "none" });
	});

	test.skipIf(notRoot !== undefined)(`no permission: the message names the capability${because(notRoot)}`, () => {
		// The package as nobody can read it, its koffi beside it.
		const readable = join(folder, "readable");
		cpSync(dist, join(readable, "dist"), { recursive: true });
		const koffi = realpathSync(fileURLToPath(new URL("../node_modules/koffi", import.meta.url)));
		cpSync(dirname(koffi), join(readable, "node_modules"), { recursive: true, dereference: true });
		for (const path of [folder, readable]) chmodSync(path, 0o755);
		const [tap, packet, space] = outcomes(
			join(readable, "dist"),
			['openTap({ name: "nobody0" })', 'openPacket({ interface: "lo" })', 'openTap({ name: "x", netns: "no-such" })'],
			{ uid: 65534, gid: 65534 },
		);
		expect(tap).toMatchObject({ code: "ERR_LINK_PERMISSION", message: expect.stringContaining("CAP_NET_ADMIN") });
		expect([1, 13]).toContain(tap!.errno);
		expect(packet).toMatchObject({
			code: "ERR_LINK_PERMISSION",
			errno: 1,
			message: expect.stringContaining("CAP_NET_RAW"),
		});
		expect(space).toMatchObject({ code: "ERR_LINK_NOT_FOUND", errno: 2 });
	});
});
