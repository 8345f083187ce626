import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FLAT, flatGuest, printing } from "./support/flat-guest.ts";
import { isOneLine, xkvm } from "./support/xkvm.ts";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function guest(name: string, ...code: number[]): string {
	const path = join(folder, `${name}.flat`);
	writeFileSync(path, flatGuest(...code));
	return path;
}

const cache = (): Record<string, string> => ({ XDG_CACHE_HOME: join(folder, "cache") });

describe("xkvm", () => {
	it("has help and a version, and takes a wrong word as usage", async () => {
		const help = await xkvm(["--help"]);
		expect(help).toMatchObject({ code: 0, stderr: "" });
		for (const word of ["run", "image", "doctor", "demo", "completion"]) expect(help.stdout).toContain(word);
		expect((await xkvm(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
		expect(await xkvm(["nosuch"])).toMatchObject({ code: 2, stdout: "" });
		expect(await xkvm(["run", "--nosuch"])).toMatchObject({ code: 2, stdout: "" });
	});

	it("reports the engines as JSON", async () => {
		const { code, stdout } = await xkvm(["doctor", "--json"], { env: cache() });
		expect(code).toBe(0);
		expect(JSON.parse(stdout)).toMatchObject({
			schemaVersion: 1,
			engines: {
				software: { available: true },
				hardware: { available: expect.any(Boolean), guestModes: expect.any(Array) },
			},
			auto: expect.stringMatching(/^(software|hardware)$/),
		});
	});

	it("prints completions for each shell", async () => {
		for (const shell of ["bash", "zsh", "fish"]) {
			expect((await xkvm(["completion", shell])).stdout).toMatch(/xkvm/);
		}
		expect((await xkvm(["completion", "tcsh"])).code).toBe(2);
	});

	it("lists and removes images of an empty cache", async () => {
		expect(JSON.parse((await xkvm(["image", "list", "--json"], { env: cache() })).stdout)).toEqual({
			schemaVersion: 1,
			images: [],
		});
		const removal = await xkvm(["image", "rm", "none"], { env: cache() });
		expect(removal.code).toBe(3);
		expect(isOneLine(removal.stderr)).toBe(true);
	});

	it("shows that the engine runs with the built-in guest", async () => {
		const { code, stdout } = await xkvm(["demo", "--builtin"]);
		expect(code).toBe(0);
		expect(stdout).toContain("Primes below 100000: 9592\n");
	});
});

describe("xkvm run with a kernel", () => {
	it("streams the serial port and ends with the guest's power-off", async () => {
		const kernel = guest("hello", ...printing("hello\n"), ...FLAT.powerOff);
		expect(await xkvm(["run", "--kernel", kernel])).toEqual({ code: 0, stdout: "hello\n", stderr: "" });
	});

	it("plugs in a network and a folder, says which port was published, and ends all of it with the guest", async () => {
		const kernel = guest("plugged", ...printing("hello\n"), ...FLAT.powerOff);
		const options = ["--publish", "0:80", "--allow", "example.org", "--share", `${folder}:data`];
		const { code, stdout, stderr } = await xkvm(["run", "--kernel", kernel, ...options]);
		expect({ code, stdout }).toEqual({ code: 0, stdout: "hello\n" });
		expect(stderr).toMatch(/^published 127\.0\.0\.1:\d+ -> guest:80\/tcp\n$/);
	});

	it("gives the guest standard input", async () => {
		const kernel = guest("echo", ...FLAT.echo, ...FLAT.powerOff);
		const text = "round and round ".repeat(200);
		expect(await xkvm(["run", "--kernel", kernel], { input: `${text}q` })).toEqual({
			code: 0,
			stdout: text,
			stderr: "",
		});
	});

	it("ends with (code << 1) | 1 of isa-debug-exit", async () => {
		const kernel = guest("exit", ...FLAT.debugExit(3));
		expect((await xkvm(["run", "--kernel", kernel, "--device", "isa-debug-exit,iobase=0xf4"])).code).toBe(7);
	});

	it("prints NDJSON when asked", async () => {
		const kernel = guest("json", ...printing("hi"), ...FLAT.powerOff);
		const { stdout } = await xkvm(["run", "--json", "--kernel", kernel]);
		const lines = stdout
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line));
		expect(
			lines
				.filter(({ event }) => event === "output")
				.map(({ data }) => data)
				.join(""),
		).toBe("hi");
		expect(lines.at(-1)).toEqual({ schemaVersion: 1, event: "end", reason: "power-off", exitCode: 0 });
	});

	it.each([
		["a triple fault", FLAT.tripleFault, [], /triple fault/],
		["a halt nothing can end", FLAT.halt, [], /halted/],
		["a time-out", FLAT.spin, ["--timeout", "0.5"], /--timeout 0.5 s/],
	])("says in one line that it ended by %s", async (name, code, options, message) => {
		const { code: exitCode, stderr } = await xkvm([
			"run",
			"--kernel",
			guest(name.replaceAll(" ", "-"), ...code),
			...options,
		]);
		expect(exitCode).toBe(1);
		expect(stderr).toMatch(message);
		expect(isOneLine(stderr)).toBe(true);
	});

	it.each([
		["SIGINT", 130],
		["SIGTERM", 143],
	] as const)("ends with %s as %i, whatever the guest does", async (signal, code) => {
		const kernel = guest("spin", ...printing("spinning"), ...FLAT.spin);
		const result = await xkvm(["run", "--kernel", kernel], { kill: { signal, on: "spinning" } });
		expect(result).toMatchObject({ code, stdout: "spinning" });
		expect(isOneLine(result.stderr)).toBe(true);
	});
});

describe("bad input", () => {
	const files = (): Record<string, string> => {
		const text = join(folder, "text");
		writeFileSync(text, "#!/bin/sh\necho no kernel\n".repeat(1000));
		const empty = join(folder, "empty");
		writeFileSync(empty, "");
		const cut = join(folder, "cut");
		writeFileSync(cut, Buffer.concat([Buffer.from("\x7fELF\x02\x01\x01"), Buffer.alloc(30)]));
		const big = join(folder, "big");
		writeFileSync(big, Buffer.alloc(20 << 20));
		const odd = join(folder, "odd.img");
		writeFileSync(odd, Buffer.alloc(1000));
		return { text, empty, cut, big, odd, spin: guest("spin", ...FLAT.spin), missing: join(folder, "missing"), folder };
	};

	it.each<[string, (f: Record<string, string>) => string[], number, RegExp]>([
		["a kernel that is none", (f) => ["--kernel", f["text"]!], 1, /text: not a kernel/],
		["an empty kernel", (f) => ["--kernel", f["empty"]!], 1, /empty: the kernel file is empty/],
		["a truncated kernel", (f) => ["--kernel", f["cut"]!], 1, /cut: the file is cut off/],
		["a missing kernel", (f) => ["--kernel", f["missing"]!], 3, /missing: no such file/],
		["a folder as kernel", (f) => ["--kernel", f["folder"]!], 2, /is a directory/],
		["a missing initrd", (f) => ["--kernel", f["spin"]!, "--initrd", f["missing"]!], 3, /missing: no such file/],
		[
			"an initrd that does not fit",
			(f) => ["--kernel", f["spin"]!, "--initrd", f["big"]!, "--memory", "16"],
			1,
			/does not fit/,
		],
		["a missing disk", (f) => ["--kernel", f["spin"]!, "--disk", f["missing"]!], 3, /missing: no such file/],
		["a disk of an odd size", (f) => ["--kernel", f["spin"]!, "--disk", f["odd"]!], 2, /multiple of 512/],
		["firmware that is none", (f) => ["--firmware", f["text"]!], 1, /64 KiB/],
		["too much memory", (f) => ["--kernel", f["spin"]!, "--memory", "99999999"], 2, /--memory 99999999: expected/],
		["too little memory", (f) => ["--kernel", f["spin"]!, "--memory", "0"], 2, /--memory 0: expected/],
		["an unknown image", () => ["nosuchimage"], 3, /no image nosuchimage/],
		["a link that is none", (f) => ["--kernel", f["spin"]!, "--net", "pcap:nowhere/at/all"], 5, /--net: /],
		["a folder that is none", (f) => ["--kernel", f["spin"]!, "--share", `${f["missing"]}:x`], 3, /missing: no such/],
		["a file as a folder", (f) => ["--kernel", f["spin"]!, "--share", `${f["text"]}:x`], 3, /text: not a directory/],
		["a protocol the kernel lacks", (f) => ["--kernel", f["spin"]!, "--boot", "pvh"], 2, /multiboot/],
		["a word after the image", () => ["one", "two"], 2, /goes after --/],
	])("%s is one line and its exit code", async (_, args, code, message) => {
		const result = await xkvm(["run", ...args(files())], { env: cache() });
		expect(result.stderr).toMatch(message);
		expect(isOneLine(result.stderr)).toBe(true);
		expect(result).toMatchObject({ code, stdout: "" });
	});

	it("names what is missing where there is no apt, and leaves nothing behind", async () => {
		const env = { ...cache(), PATH: join(folder, "no-programs") };
		const result = await xkvm(["image", "build"], { env });
		expect(result.code).toBe(3);
		expect(result.stderr).toMatch(/apt-get is not installed/);
		const demo = await xkvm(["demo"], { env });
		expect(demo).toMatchObject({ code: 0, stdout: expect.stringContaining("9592") });
	});

	it("cannot build in a cache folder that is a file", async () => {
		const path = join(folder, "cache-file");
		writeFileSync(path, "");
		const result = await xkvm(["image", "build"], { env: { XDG_CACHE_HOME: path } });
		expect([1, 3, 5]).toContain(result.code);
		expect(isOneLine(result.stderr)).toBe(true);
	});

	it("an interrupted build leaves no image and no work folder", async () => {
		const home = join(folder, "interrupted");
		mkdirSync(home);
		const result = await xkvm(["image", "build"], {
			env: { XDG_CACHE_HOME: home },
			kill: { signal: "SIGINT", afterMs: 800 },
		});
		// Where there is no apt the build is over before.
		expect([130, 3]).toContain(result.code);
		const left = readdirSync(join(home, "xkvm"), { recursive: true }).map(String);
		expect(left.filter((path) => /^(lock|tmp\/|images\/|names\/)/.test(path))).toEqual([]);
	});
});
