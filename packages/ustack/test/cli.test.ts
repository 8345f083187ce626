import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { parsePublish } from "../src/cli/gateway.node.ts";
import { main } from "../src/cli/main.node.ts";
import { isClosed } from "../src/gateway/ranges.ts";
import { parseRule } from "../src/gateway/rule.ts";
import { parseAddress } from "../src/wire/address.ts";

async function ustack(...args: string[]): Promise<{ code: number; out: string; err: string }> {
	let out = "";
	let err = "";
	const code = await main(args, {
		stdin: Readable.from([]),
		stdout: { write: (text) => (out += text) },
		stderr: { write: (text) => (err += text) },
		signal: new AbortController().signal,
	});
	return { code, out, err };
}

test("help, version and unknown commands", async () => {
	expect(await ustack("--help")).toMatchObject({ code: 0, err: "" });
	expect((await ustack("--help")).out).toContain("ustack gateway");
	expect((await ustack("gateway", "--help")).out).toMatch(/--publish[\s\S]*--allow RULE[\s\S]*--audit FILE/);
	expect((await ustack("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
	expect(await ustack("fly")).toMatchObject({ code: 2, out: "" });
	expect(await ustack()).toMatchObject({ code: 2, out: "" });
});

test.each([
	[["ping"], /HOST/],
	[["ping", "10.0.0.1"], /--link is missing/],
	[["ping", "10.0.0.1", "--link", "tap:x", "--address", "10.0.0.2"], /--address "10.0.0.2"/],
	[["nc", "10.0.0.1", "99999", "--link", "tap:x"], /99999/],
	[["gateway"], /--link/],
	[["gateway", "--link", "tap:x", "--publish", "80"], /--publish "80"/],
	[["gateway", "--link", "tap:x", "--allow", "tcp:host:99999"], /99999/],
	[["gateway", "--link", "tap:x", "--nonsense"], /nonsense/],
	[["gateway", "--link", "tap:x", "--expose", "80"], /--expose "80"/],
	[["gateway", "--link", "tap:x", "--zone", "x"], /--zone "x"/],
	[["gateway", "--link", "tap:x", "--zone", "x=y"], /"y"/],
	[["gateway", "--link", "tap:x", "--default", "maybe"], /maybe/],
	[["gateway", "--link", "tap:x", "--rate-in", "fast"], /fast/],
	[["gateway", "--link", "tap:x", "--secret", "NO_SUCH_VARIABLE=a.example"], /NO_SUCH_VARIABLE/],
	[["gateway", "--link", "tap:x", "--fixed", "52:54:00:00:00:01=10.9"], /10\.9/],
	[["drill"], /FILE/],
	[["drill", "--profile", "vms", "x"], /vms/],
])("%j is refused in one line", async (args, message) => {
	const { code, out, err } = await ustack(...args);
	expect(code).toBe(2);
	expect(out).toBe("");
	expect(err).toMatch(message);
	expect(err.trim().split("\n")).toHaveLength(1);
});

test("drill's JSON and exit code", async () => {
	const folder = mkdtempSync(join(tmpdir(), "ustack-"));
	const good = join(folder, "good.pkt");
	const bad = join(folder, "bad.pkt");
	writeFileSync(good, "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n");
	writeFileSync(bad, "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 read(3, ..., 1) = 1\n");
	const result = await ustack("drill", "--json", good, bad);
	rmSync(folder, { recursive: true });
	expect(result.code).toBe(1);
	expect(JSON.parse(result.out)).toMatchObject({
		schemaVersion: 1,
		passed: 1,
		failed: 1,
		files: [
			{ file: good, ok: true },
			{ file: bad, ok: false, line: 2 },
		],
	});
});

test("publish takes addresses, ports and protocols", () => {
	expect(parsePublish("8080:80")).toEqual({ hostPort: 8080, guestPort: 80, protocol: "tcp" });
	expect(parsePublish("[::1]:53:53/udp")).toEqual({ hostAddress: "::1", hostPort: 53, guestPort: 53, protocol: "udp" });
});

test.each(["a b", "host:0", "host:70000", "tcp:", "*.", "1.2.3.4/33", "host:9-5", "999.1.1.1"])(
	"%j is no rule",
	(text) => {
		expect(() => parseRule(text)).toThrow(expect.objectContaining({ code: "ERR_BAD_RULE" }));
	},
);

test.each([
	["10.0.0.1", true],
	["169.254.169.254", true],
	["100.64.0.1", true],
	["8.8.8.8", false],
	["fd00::1", true],
	["fe80::1", true],
	["::1", true],
	["2606:4700::1", false],
	["64:ff9b::a00:1", true],
	["64:ff9b::808:808", false],
	["2002:0a00:0001::1", true],
	["::ffff:10.0.0.1", true],
])("%s is closed by default: %s", (text, closed) => {
	expect(isClosed(parseAddress(text)!)).toBe(closed);
});
