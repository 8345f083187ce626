import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Io } from "../../src/cli/io.ts";
import { main } from "../../src/cli/main.ts";
import { bundledDatabase, bundledSha256 } from "../../src/data/index.ts";
import { writeDbTxt, writeRegulatoryBin, writeRegulatoryDb } from "../../src/formats/index.ts";

interface Run {
	code: number;
	out: string;
	err: string;
	files: Map<string, Uint8Array>;
}

const encode = (data: string | Uint8Array): Uint8Array =>
	typeof data === "string" ? new TextEncoder().encode(data) : data;

async function run(args: string, given: Record<string, string | Uint8Array> = {}): Promise<Run> {
	const files = new Map(Object.entries(given).map(([name, data]) => [name, encode(data)]));
	const result: Run = { code: -1, out: "", err: "", files };
	const io: Io = {
		version: "1.2.3",
		stdout: (data) => {
			result.out += typeof data === "string" ? data : Buffer.from(data).toString("latin1");
		},
		stderr: (text) => {
			result.err += text;
		},
		read: async (path) => {
			const data = files.get(path);
			if (data === undefined)
				throw Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), {
					code: "ENOENT",
					syscall: "open",
				});
			return data;
		},
		write: async (path, data) => void files.set(path, encode(data)),
		resolve: (path, from) => join(dirname(from), path),
		style: (_, text) => text,
	};
	result.code = await main(args === "" ? [] : args.split(" "), io);
	return result;
}

const json = ({ out }: Run): Record<string, unknown> => JSON.parse(out) as Record<string, unknown>;
const small =
	"country DE: DFS-ETSI\n\t(2400 - 2483.5 @ 40), (100 mW)\n\t(5150 - 5250 @ 80), (200 mW), NO-OUTDOOR, AUTO-BW\n";

describe("the command as a whole", () => {
	test("help, version and usage", async () => {
		expect(await run("--help")).toMatchObject({ code: 0, err: "" });
		expect(await run("--version")).toMatchObject({ code: 0, out: "1.2.3\n" });
		expect((await run("channels --help")).out).toContain("--rules FILE");
		expect(await run("")).toMatchObject({ code: 2, out: "" });
		expect(await run("nonsense")).toMatchObject({
			code: 2,
			err: 'regdomain: there is no command "nonsense"; see regdomain --help\n',
		});
		expect(await run("channels DE --nonsense")).toMatchObject({ code: 2 });
		expect(await run("channels DE US")).toMatchObject({ code: 2 });
	});

	test("every fault is one line that names the file, the line or the field", async () => {
		expect(await run("channels ZZ")).toMatchObject({ code: 3, out: "" });
		expect(await run("decompile missing.db")).toMatchObject({
			code: 5,
			err: "regdomain: ENOENT: no such file or directory, open 'missing.db'\n",
		});
		expect(await run("compile bad.txt -o out", { "bad.txt": "country DE\n" })).toMatchObject({
			code: 1,
			err: "regdomain: bad.txt: Syntax error in line 1 (country name must be followed by colon)\n",
		});
		expect((await run("channels QX --rules r.json", { "r.json": '{"alpha2":"QX","rules":[{}]}' })).err).toBe(
			"regdomain: r.json: rules[0].startKHz must be a 32-bit integer\n",
		);
		expect((await run("channels QX --rules r.json", { "r.json": "{" })).err).toMatch(
			/^regdomain: r\.json: not JSON: .*\n$/,
		);
		expect((await run("compile b.txt", { "b.txt": Uint8Array.of(0xff, 0xfe) })).err).toContain("not UTF-8");
		expect((await run("decompile d.db", { "d.db": "RGDB\0\0\0\x15" })).err).toContain(
			"regulatory.db has version 20, this file 21",
		);
	});
});

test("channels: the contract's JSON", async () => {
	const result = json(await run("channels DE --json"));
	expect(Object.keys(result)).toEqual(["schemaVersion", "alpha2", "dfsRegion", "channels"]);
	const channels = result["channels"] as Record<string, unknown>[];
	expect(channels).toHaveLength(139);
	expect(channels.find(({ channel, band }) => channel === 52 && band === "5")).toEqual({
		band: "5",
		channel: 52,
		centreMHz: 5260,
		enabled: true,
		maxEirpMbm: 2000,
		cacMs: 60_000,
		flags: ["RADAR", "INDOOR_ONLY", "NO_320MHZ"],
		widthsMHz: [20, 40, 80, 160],
	});
	expect((json(await run("channels DE --band 6 --json"))["channels"] as unknown[]).length).toBe(59);
	expect((json(await run("channels DE --band 60 --json"))["channels"] as unknown[]).length).toBe(6);
	expect((await run("channels DE --format csv")).out.split("\r\n")).toHaveLength(141);
	expect((await run("channels DE --format markdown --band 5")).out).toContain("| 5 | 36 | 5180 | yes | 23 |");
	expect((await run("channels JP --explain --band 5")).out).toContain(
		"5745 MHz [149]: no rule of JP holds 20 MHz around 5745 MHz",
	);
	const rules = JSON.stringify({
		alpha2: "QX",
		dfsRegion: 1,
		rules: [
			{
				startKHz: 5_170_000,
				endKHz: 5_250_000,
				maxBandwidthKHz: 80_000,
				maxGainMbi: 0,
				maxEirpMbm: 2000,
				cacMs: 0,
				flags: 0,
			},
		],
	});
	const own = json(await run("channels QX --rules r.json --json", { "r.json": rules }));
	expect(own).toMatchObject({ alpha2: "QX", dfsRegion: 1 });
	expect((own["channels"] as { enabled: boolean }[]).filter(({ enabled }) => enabled)).toHaveLength(4);
});

test("databases: compile, decompile, format, lint, diff, update", async () => {
	const compiled = await run("compile db.txt -o out.db --json", { "db.txt": writeDbTxt(bundledDatabase()) });
	expect(json(compiled)).toMatchObject({ schemaVersion: 1, bytes: 6380, countries: 182, warnings: [] });
	expect(createHash("sha256").update(compiled.files.get("out.db")!).digest("hex")).toBe(bundledSha256);
	const again = await run("decompile out.db -o back.txt", { "out.db": compiled.files.get("out.db")! });
	const back = await run("compile back.txt -o again.db", { "back.txt": again.files.get("back.txt")! });
	expect(back.files.get("again.db")).toEqual(compiled.files.get("out.db"));
	const bin = writeRegulatoryBin(bundledDatabase());
	expect((await run("decompile a.bin", { "a.bin": bin })).out).toContain("country DE: DFS-ETSI");
	expect((await run("compile s.txt --format bin", { "s.txt": small })).out.startsWith("RGDB\0\0\0\x13")).toBe(true);
	expect(await run("compile w.txt -o w.db", { "w.txt": "country U:\n\t(2402 - 2472 @ 40), (20)\n" })).toMatchObject({
		code: 0,
		err: "Warning (line 1): country 'U' not alpha2\n",
	});

	const messy = "#top\ncountry  DE :  DFS-ETSI\n (2400-2483.5@40),(100mW) , AUTO-BW # why\n\n\n";
	expect((await run("format m.txt", { "m.txt": messy })).out).toBe(
		"#top\ncountry DE: DFS-ETSI\n\t(2400 - 2483.5 @ 40), (100 mW), AUTO-BW # why\n",
	);
	const wrong = await run("lint l.txt --json", {
		"l.txt": "country DE:\n\t(2400 - 2483.5 @ 40), (100)\n\t(5150 - 5250 @ 80), (23)\n\t(5260 - 5350 @ 80), (23)\n",
	});
	expect((json(wrong)["findings"] as { check: string }[]).map(({ check }) => check)).toEqual([
		"power-unit",
		"dfs-missing",
		"gap",
	]);
	expect((await run("lint l.txt --strict", { "l.txt": "country DE:\n\t(2400 - 2483.5 @ 40), (100)\n" })).code).toBe(1);

	const changed = await run("diff a.txt b.txt --json --exit-code", {
		"a.txt": small,
		"b.txt": small.replace("200 mW", "100 mW"),
	});
	expect(changed.code).toBe(1);
	expect(json(changed)).toMatchObject({ identical: false, countries: [{ alpha2: "DE", kind: "changed" }] });
	expect((await run("diff a.txt b.txt", { "a.txt": small, "b.txt": small.replace("200 mW", "100 mW") })).out).toContain(
		"5 GHz channel 36: 23 → 20 dBm",
	);
	const module = await run("update x.db --release 1 -o m.js", { "x.db": writeRegulatoryDb(bundledDatabase()) });
	expect(new TextDecoder().decode(module.files.get("m.js"))).toContain('export const version = "1";');
});

test("domains: show, list, intersect, common, explain, country, legacy, chart, export", async () => {
	expect((await run("show de")).out).toMatch(
		/^global\ncountry DE: DFS-ETSI\n\t\(2400 - 2483 @ 40\), \(N\/A, 20\), \(N\/A\)\n/,
	);
	expect(json(await run("show DE --json"))).toMatchObject({ alpha2: "DE", dfsRegion: 2 });
	expect((await run("list")).out.split("\n")).toHaveLength(183);
	expect(json(await run("intersect US JP --json"))).toMatchObject({ alpha2: "98", dfsRegion: 0 });
	expect((await run("intersect US")).code).toBe(2);
	expect((await run("intersect --all --json")).code).toBe(0);
	expect((json(await run("common US DE JP --band 5 --width 80 --json"))["channels"] as unknown[]).length).toBe(16);
	expect((await run("explain JP --freq 5745 --width 80")).out).toContain("cannot be used");
	expect(json(await run("explain DE --freq 5500 --width 80 --json"))).toMatchObject({
		usable: true,
		canBeacon: false,
		cacMs: 60_000,
	});
	expect((await run("explain DE --freq 5501")).code).toBe(1);
	for (const code of ["DE", "deu", "276", "Germany"])
		expect((await run(`country ${code}`)).out).toBe("DE DEU 276 Germany\n");
	expect((await run("country XX")).code).toBe(3);
	expect((await run("legacy 0x10")).out).toContain("FCC1_FCCA (0x10)");
	expect((await run("chart DE")).out).toMatch(/^<svg .*<\/svg>\n$/s);
	expect((await run("export DE --format c")).out).toContain("regdom_DE");
	expect((json(await run("export"))["domains"] as unknown[]).length).toBe(182);
	expect((await run("export --format ksy")).out).toContain("id: regulatory_db");
});

test("simulate: a snapshot after every step", async () => {
	const scenario = {
		radios: [{ name: "wlan0" }, { name: "wlan1", strict: true }],
		steps: [
			{ hint: "user", alpha2: "US" },
			{ hint: "driver", radio: "wlan1", alpha2: "JP" },
			{ hint: "user", alpha2: "QQ" },
			{ advanceMs: 3142 },
		],
	};
	const result = json(await run("simulate s.json --json", { "s.json": JSON.stringify(scenario) }));
	const steps = result["steps"] as {
		global: { alpha2: string };
		radios: Record<string, { alpha2?: string; channels: unknown[] }>;
	}[];
	expect(steps.map(({ global }) => global.alpha2)).toEqual(["US", "98", "98", "98"]);
	expect(steps[1]!.radios["wlan1"]).toMatchObject({ alpha2: "JP" });
	expect(steps[1]!.radios["wlan0"]!.channels).toHaveLength(139);
	expect((await run("simulate s.json --explain", { "s.json": JSON.stringify(scenario) })).out).toContain(
		"intersected: driver JP on wlan1",
	);
	const strict = { radios: [{ name: "w", strict: true }], steps: [{ hint: "driver", radio: "w", alpha2: "US" }] };
	expect((await run("simulate s.json --explain", { "s.json": JSON.stringify(strict) })).out).toContain(
		"kernel quirk: w: channel 169 (5845 MHz) has NO_20MHZ, NO_10MHZ\n",
	);
	expect((await run("simulate s.json", { "s.json": '{"steps":[{"hint":"driver"}]}' })).err).toBe(
		"regdomain: s.json: steps[0].radio must be a string\n",
	);
});

test("tools: element, check, iw", async () => {
	expect((await run("element US --band 2.4")).out).toBe(
		"07065553200 10b1e\n\tCountry: US\tEnvironment: Indoor/Outdoor\n\t\tChannels [1 - 11] @ 30 dBm\n".replace(
			"200 10b1e",
			"20010b1e",
		),
	);
	expect(json(await run("element --parse 0706555320010b1e --json"))).toMatchObject({ alpha2: "US" });
	expect(
		(await run("check hostapd h.conf", { "h.conf": "country_code=JP\nieee80211d=1\nhw_mode=a\nchannel=149\n" })).code,
	).toBe(1);
	const shown = (await run("show US")).out;
	expect((await run("iw reg.txt", { "reg.txt": shown })).out).toBe("global: US, 11 rules\n");
});
