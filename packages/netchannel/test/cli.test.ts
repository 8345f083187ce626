import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.node.ts";
import { openLink } from "../src/index.node.ts";
import { createPcapHeader, encodePcapHeader, encodePcapPacket } from "../src/index.ts";
import { makeNamespace, noNamespaces } from "./support/netns.ts";
import { makePacket } from "./support/packets.ts";
import { missing, run } from "./support/tools.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);

async function netchannel(
	words: string[],
	signal: AbortSignal = new AbortController().signal,
): Promise<{ code: number; out: string; err: string }> {
	let out = "";
	let err = "";
	const code = await main(words, "1.2.3", {
		out: (text) => (out += text),
		err: (line) => (err += `${line}\n`),
		signal,
	});
	return { code, out, err };
}

const header = createPcapHeader(1);
const file = join(folder, "sample.pcap");
writeFileSync(
	file,
	Buffer.concat([
		encodePcapHeader(header),
		encodePcapPacket(header, 1_700_000_000_000_000_001n, makePacket()),
		encodePcapPacket(
			header,
			1_700_000_000_500_000_000n,
			makePacket({ src: "2001:db8::2", dst: "2001:db8::1", protocol: 6 }),
		),
	]),
);

test("help and version go to stdout; no command, or a wrong one, is usage", async () => {
	expect(await netchannel(["--version"])).toEqual({ code: 0, out: "1.2.3\n", err: "" });
	const help = await netchannel(["--help"]);
	expect(help.code).toBe(0);
	for (const word of ["bench", "capture", "read", "bridge", "links", "qemu-listen:unix:PATH"])
		expect(help.out).toContain(word);
	for (const words of [
		[],
		["frobnicate"],
		["read"],
		["read", "a", "b"],
		["links", "x"],
		["--frobnicate"],
		["read", file, "--count", "5"],
		["capture", "lo"],
		["capture", "lo", "-w", "x", "--count", "many"],
	]) {
		const result = await netchannel(words);
		expect([result.code, result.out], words.join(" ")).toEqual([2, ""]);
		expect(result.err).not.toBe("");
	}
});

test("read prints packets, as lines and as NDJSON", async () => {
	const plain = await netchannel(["read", file]);
	expect(plain.out).toBe(
		"1 1700000000.000000001 UDP 10.0.0.2 port 1000 > 10.0.0.1 port 53 length 60\n2 1700000000.500000000 TCP 2001:db8::2 port 1000 > 2001:db8::1 port 53 length 92\n",
	);
	const lines = (await netchannel(["read", file, "--json"])).out
		.trim()
		.split("\n")
		.map((line) => JSON.parse(line) as Record<string, unknown>);
	expect(lines[0]).toMatchObject({
		schemaVersion: 1,
		number: 1,
		time: "1700000000.000000001",
		protocol: "UDP",
		source: "10.0.0.2",
		destinationPort: 53,
		length: 60,
	});
	expect(lines[0]!["bytes"]).toBe(Buffer.from(makePacket()).toString("hex"));
});

test("failures are one line with the exit code of their kind", async () => {
	const broken = join(folder, "broken.pcapng");
	writeFileSync(broken, "this is no capture");
	for (const [words, code, pattern] of [
		[["read", join(folder, "none")], 3, /none.*ENOENT/],
		[["read", broken], 5, /broken\.pcapng: byte 0/],
		[["bridge", "nonsense", "pcap:x"], 2, /tap:NAME/],
		[["bridge", `pcap:${file}`, `qemu:unix:${folder}/none`], 3, /none/],
		[["capture", "no-such-if0", "-w", "x"], 3, /no-such-if0|Linux|koffi/],
		[["capture", "lo", "-w", "x", "--filter", "port"], 2, /character/],
	] as const) {
		const result = await netchannel([...words]);
		expect([result.code, result.out], words.join(" ")).toEqual([code, ""]);
		expect(result.err.trim().split("\n").at(-1)).toMatch(pattern);
	}
});

test("bridge moves a capture into another, and reports", async () => {
	const copy = join(folder, "copy.pcap");
	const result = await netchannel(["bridge", `pcap:${file}`, `pcap:${copy}?write=1`, "--json"]);
	expect(result.code).toBe(0);
	expect(JSON.parse(result.out)).toMatchObject({ schemaVersion: 1, links: [{ received: 2 }, { sent: 2, dropped: 0 }] });
	await new Promise((resolve) => setTimeout(resolve, 50));
	expect((await netchannel(["read", copy])).out.split("\n")).toHaveLength(3);
});

test("links says what there is and why not", async () => {
	const { code, out } = await netchannel(["links", "--json"]);
	expect(code).toBe(0);
	const { schemaVersion, links } = JSON.parse(out) as {
		schemaVersion: number;
		links: { link: string; available: boolean; reason?: string }[];
	};
	expect(schemaVersion).toBe(1);
	for (const name of ["qemu", "ws", "udp", "pcap", "tap", "tun", "packet", "ring", "unix-dgram"]) {
		const found = links.find(({ link }) => link === name);
		expect(found, name).toBeDefined();
		if (!found!.available) expect(found!.reason).not.toBe("");
	}
});

const noSpaces = noNamespaces();
describe.skipIf(noSpaces !== undefined)(`capture${because(noSpaces)}`, () => {
	test("records an interface until the count, for tshark to read", async () => {
		const space = makeNamespace();
		try {
			space.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1");
			space.ip("link", "set", "v0", "up");
			space.ip("link", "set", "v1", "up");
			const target = join(folder, "captured.pcapng");
			const sender = await openLink(`packet:v0?netns=${space.name}`);
			const timer = setInterval(() => {
				sender.send(makePacket({ dport: 54 }));
				sender.send(makePacket());
			}, 5);
			const result = await netchannel([
				"capture",
				"v1",
				"-w",
				target,
				"--netns",
				space.name,
				"--filter",
				"udp port 53",
				"--count",
				"10",
				"--json",
			]);
			clearInterval(timer);
			sender.close();
			expect(JSON.parse(result.out)).toMatchObject({ schemaVersion: 1, packets: 10, dropped: 0 });
			const lines = (await netchannel(["read", target, "--json"])).out.trim().split("\n");
			expect(lines).toHaveLength(10);
			expect(JSON.parse(lines[0]!)).toMatchObject({ interface: "v1", direction: "in", destinationPort: 53 });
			if (missing("tshark") === undefined)
				expect(run("tshark", "-r", target, "-Y", "udp.dstport == 53").trim().split("\n")).toHaveLength(10);
		} finally {
			space.remove();
		}
	});

	test("an interrupt ends it in order", async () => {
		const stop = new AbortController();
		const target = join(folder, "interrupted.pcapng");
		setTimeout(() => stop.abort(), 100);
		const result = await netchannel(["capture", "lo", "-w", target], stop.signal);
		expect(result.code).toBe(0);
		expect((await netchannel(["read", target])).code).toBe(0);
	});
});

const bin = fileURLToPath(new URL("../bin/netchannel.js", import.meta.url));
const noBuild = existsSync(fileURLToPath(new URL("../dist/bin.js", import.meta.url)))
	? undefined
	: "not built: pnpm build";
test.skipIf(noBuild !== undefined)(
	`the installed command starts, and stops quietly when nobody reads${because(noBuild)}`,
	() => {
		expect(execFileSync(process.execPath, [bin, "--version"], { encoding: "utf8" })).toMatch(/^\d+\.\d+\.\d+\n$/);
		expect(
			execFileSync("sh", ["-c", `"${process.execPath}" "${bin}" read "${file}" | head -n 1`], { encoding: "utf8" }),
		).toMatch(/^1 1700000000/);
	},
);
