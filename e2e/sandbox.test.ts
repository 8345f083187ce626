import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { createSandbox, type Sandbox, type SandboxError } from "../packages/kvm-cli/src/index.ts";
import { bin, buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";
import { onTerminal } from "./support/terminal.ts";

const TURN_PROBE = fileURLToPath(new URL("./support/turn-probe.mjs", import.meta.url));

/** 10 is the aim, on a machine with nothing else to do: a busy one makes the same work take more processor time. */
const TURN_MS = Number(env["XKVM_TURN_MS"] ?? 100);

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";

interface Result {
	code: number | null;
	stdout: string;
	stderr: string;
}

let folder: string;
let runtime: Record<string, string | undefined>;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-sandbox-"));
	runtime = { ...env, XDG_RUNTIME_DIR: folder };
});
afterAll(() => rmSync(folder, { recursive: true }));

function xkvm(args: readonly string[], input: string | Uint8Array = ""): Promise<Result> {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [bin, ...args], { env: runtime });
		const out: Buffer[] = [];
		const err: Buffer[] = [];
		child.stdout.on("data", (chunk) => out.push(chunk));
		child.stderr.on("data", (chunk) => err.push(chunk));
		child.stdin.on("error", () => {});
		child.stdin.end(input);
		child.on("error", reject);
		child.on("close", (code) =>
			resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
		);
	});
}

describe.skipIf(typeof image === "string")(`a sandbox${because}`, () => {
	let vm: Sandbox;
	beforeAll(async () => {
		const { kernel, initrd } = image as Image;
		vm = await createSandbox({ image: { kernel, initrd }, network: "user", env: { GREETING: "hi" } });
	});
	afterAll(async () => {
		await vm?.close();
	});

	it("says where the time of its start went", () => {
		expect(vm.timings.steps().map(({ moment }) => moment)).toEqual(
			expect.arrayContaining(["image", "thread", "engine", "files", "powerOn", "agent", "ready"]),
		);
	});

	it("takes no long turn of its caller's event loop, and waits for no file in one", {
		timeout: GUEST_TEST_MS,
	}, async () => {
		const { kernel, initrd } = image as Image;
		const uploaded = join(folder, "uploaded");
		mkdirSync(uploaded, { recursive: true });
		for (let i = 0; i < 20; i++) writeFileSync(join(uploaded, `${i}`), randomBytes(10_000));
		const args = ["--trace-sync-io", TURN_PROBE, JSON.stringify({ kernel, initrd }), uploaded, "20"];
		const child = spawn(process.execPath, args, { env });
		const [out, err]: [Buffer[], Buffer[]] = [[], []];
		child.stdout.on("data", (chunk) => out.push(chunk));
		child.stderr.on("data", (chunk) => err.push(chunk));
		const code = await new Promise((resolve) => child.on("close", resolve));
		const said = Buffer.concat(err).toString();
		expect(code, said.slice(-2000)).toBe(0);
		const { "own work": known, ...phases } = JSON.parse(Buffer.concat(out).toString()) as Record<string, number>;
		// The measure sees what is there.
		expect(known).toBeGreaterThanOrEqual(20);
		expect(Object.keys(phases)).toHaveLength(7);
		for (const [phase, ms] of Object.entries(phases)) expect([phase, ms < TURN_MS || ms]).toEqual([phase, true]);
		// All of this package's own, after its modules are there.
		const waits = said.split("WARNING: Detected use of sync API");
		expect(waits.filter((stack) => /node:fs:/.test(stack) && /kvm-cli\/dist\//.test(stack))).toEqual([]);
	});

	it("runs commands with arguments, environment, folder, user, apart outputs and exit codes", async () => {
		const ended = await vm
			.exec(["sh", "-c", 'echo "$0 $GREETING $MORE"; pwd; id -u; echo wrong >&2; exit 42', "a b"], {
				env: { MORE: "there" },
				cwd: "/tmp",
				user: 1000,
			})
			.output();
		expect({ ...ended, stdout: String(ended.stdout), stderr: String(ended.stderr) }).toEqual({
			code: 42,
			signal: null,
			stdout: "a b hi there\n/tmp\n1000\n",
			stderr: "wrong\n",
		});
		for (const code of [0, 1, 126, 127, 130, 137]) {
			expect(await vm.exec(`exit ${code}`).exit).toEqual({ code, signal: null });
		}
		expect(await vm.exec("kill -KILL $$").exit).toEqual({ code: null, signal: "SIGKILL" });
		expect(String((await vm.exec(["uname", "-s"]).output()).stdout)).toBe("Linux\n");
	});

	it("says why a command does not start", async () => {
		const code = async (...argv: string[]): Promise<string | undefined> =>
			vm.exec(argv).exit.then(
				() => undefined,
				(error: SandboxError) => error.code,
			);
		expect(await code("no-such-program")).toBe("ERR_EXEC_NOT_FOUND");
		expect(await code("/no/such/program")).toBe("ERR_EXEC_NOT_FOUND");
		expect(await code("/etc/passwd")).toBe("ERR_EXEC_NOT_EXECUTABLE");
		await expect(vm.exec("true", { user: "nobody-here" }).exit).rejects.toMatchObject({ code: "ERR_EXEC_FAILED" });
		await expect(vm.exec("true", { cwd: "/nowhere" }).exit).rejects.toMatchObject({ code: "ERR_EXEC_FAILED" });
		await vm.files.write("/tmp/script", "echo a script without its first line: $1\n", { mode: 0o755 });
		expect(String((await vm.exec(["/tmp/script", "x"]).output()).stdout)).toBe("a script without its first line: x\n");
	});

	it("carries 10 MB of binary through a command unharmed", async () => {
		const bytes = randomBytes(10_000_000);
		const some = bytes.subarray(0, 1_000_000);
		const { stdout } = await vm.exec(["cat"], { stdin: some }).output();
		expect(stdout.equals(some)).toBe(true);
		const summed = await vm.exec(["sha256sum"], { stdin: bytes }).output();
		expect(String(summed.stdout)).toBe(`${createHash("sha256").update(bytes).digest("hex")}  -\n`);
	});

	it("runs 50 commands at once, and ends those that take too long", async () => {
		const all = await Promise.all(
			Array.from({ length: 50 }, (_, i) => vm.exec(`read x; echo $x ${i}; exit ${i}`, { stdin: `in${i}\n` }).output()),
		);
		for (const [i, { code, stdout }] of all.entries()) expect([code, String(stdout)]).toEqual([i, `in${i} ${i}\n`]);
		await expect(vm.exec("sleep 1000", { timeoutMs: 300 }).exit).rejects.toMatchObject({ code: "ERR_EXEC_TIMEOUT" });
		const abort = new AbortController();
		const sleeping = vm.exec("echo on; sleep 1000", { signal: abort.signal });
		sleeping.stdout.once("data", () => abort.abort());
		await expect(sleeping.exit).rejects.toMatchObject({ code: "ERR_EXEC_ABORTED" });
	});

	it("streams, and makes a writer nobody reads wait", async () => {
		const writer = vm.exec("dd if=/dev/zero bs=1000 count=400 2>/dev/null; echo done >&2", {
			stdin: "pipe",
		});
		let done = false;
		writer.stderr.on("data", () => {
			done = true;
		});
		expect((await vm.exec("sleep 1").exit).code).toBe(0);
		expect(done).toBe(false);
		let size = 0;
		for await (const chunk of writer.stdout) size += (chunk as Buffer).length;
		expect(size).toBe(400_000);
		expect(await writer.exit).toEqual({ code: 0, signal: null });
	});

	it("gives a terminal that can be resized", async () => {
		const shell = vm.exec(["sh"], { tty: { rows: 33, columns: 101 }, stdin: "pipe", env: { PS1: "# " } });
		let screen = "";
		const until = (text: string): Promise<void> =>
			new Promise((resolve) => {
				const look = (): void => {
					if (!screen.includes(text)) return;
					shell.stdout.off("data", look);
					resolve();
				};
				shell.stdout.on("data", look);
				look();
			});
		shell.stdout.on("data", (chunk) => {
			screen += String(chunk);
		});
		await until("# ");
		shell.stdin.write("stty size\n");
		await until("33 101\r\n");
		shell.resize({ rows: 44, columns: 132 });
		shell.stdin.write("stty size\n");
		await until("44 132\r\n");
		shell.stdin.write("sh -c 'echo star''ted; exec sleep 1000'\n");
		await until("\nstarted\r\n");
		shell.stdin.write("\x03");
		shell.stdin.write("echo code $?; exit 9\n");
		expect(await shell.exit).toEqual({ code: 9, signal: null });
		expect(screen).toContain("code 130\r\n");
	});

	it("reads, writes, lists and removes files", async () => {
		const bytes = randomBytes(1_000_000);
		await vm.files.makeFolder("/tmp/a/b", { recursive: true });
		await vm.files.write("/tmp/a/b/c", bytes, { mode: 0o600 });
		expect((await vm.files.read("/tmp/a/b/c")).equals(bytes)).toBe(true);
		expect(await vm.files.stat("/tmp/a/b/c")).toMatchObject({ type: "file", size: 1_000_000, mode: 0o600, uid: 0 });
		await vm.files.write("/tmp/a/b/c", "short");
		await vm.files.rename("/tmp/a/b/c", "/tmp/a/d");
		expect((await vm.files.list("/tmp/a")).sort((x, y) => (x.name < y.name ? -1 : 1))).toEqual([
			{ name: "b", type: "directory" },
			{ name: "d", type: "file" },
		]);
		expect(String(await vm.files.read("/tmp/a/d"))).toBe("short");
		expect(String(await vm.files.read("/proc/sys/kernel/hostname"))).toBe("xkvm\n");
		await expect(vm.files.read("/dev/zero", { maxBytes: 100_000 })).rejects.toMatchObject({
			code: "ERR_SANDBOX_LIMIT",
		});
		await expect(vm.files.remove("/tmp/a")).rejects.toMatchObject({ code: "ENOTEMPTY", syscall: "unlinkat" });
		await vm.files.remove("/tmp/a", { recursive: true });
		await expect(vm.files.stat("/tmp/a")).rejects.toMatchObject({ code: "ENOENT", path: "/tmp/a" });
		await vm.files.remove("/tmp/a", { force: true });
	});

	it("uploads and downloads folders, and cannot be led out of them", async () => {
		const source = join(folder, "source");
		mkdirSync(join(source, "deep/er"), { recursive: true });
		for (let i = 0; i < 20; i++) writeFileSync(join(source, "deep", `${i}`), `file ${i}`, { mode: 0o640 });
		writeFileSync(join(source, "deep/er/big"), randomBytes(300_000));
		symlinkSync("deep/3", join(source, "link"));
		expect(await vm.files.upload(source, "/tmp/up")).toBe(22);
		const { stdout } = await vm
			.exec("cat up/link; readlink up/link; find up -type f | wc -l", { cwd: "/tmp" })
			.output();
		expect(String(stdout)).toBe("file 3deep/3\n21\n");
		await vm.exec("ln -s /etc/passwd /tmp/up/out; ln -s ../../.. /tmp/up/up; mkfifo /tmp/up/pipe").exit;
		const target = join(folder, "target");
		const report = await vm.files.download("/tmp/up", target);
		expect(report.files).toBe(22);
		expect([...report.skipped].sort()).toEqual(["/tmp/up/out", "/tmp/up/pipe", "/tmp/up/up"]);
		expect(readdirSync(target).sort()).toEqual(["deep", "link"]);
		expect(readlinkSync(join(target, "link"))).toBe("deep/3");
		expect(readFileSync(join(target, "deep/er/big")).equals(readFileSync(join(source, "deep/er/big")))).toBe(true);
		await expect(vm.files.download("/tmp/up", target)).rejects.toMatchObject({ code: "EEXIST" });
	});

	it("ends with the guest, and everything in it with it", async () => {
		const sleeping = vm.exec("sleep 1000");
		await vm.exec("poweroff -f").exit.catch(() => {});
		await expect(sleeping.exit).rejects.toMatchObject({ code: "ERR_SANDBOX_GUEST" });
		expect(await vm.ended).toMatchObject({ code: "ERR_SANDBOX_GUEST", value: "power-off" });
		await expect(vm.exec("true").exit).rejects.toMatchObject({ code: "ERR_SANDBOX_GUEST" });
	});
});

describe.skipIf(typeof image === "string")(`xkvm run${because}`, () => {
	it("carries input, outputs and the exit code, shares folders, and says where the time went", async () => {
		const input = randomBytes(100_000);
		mkdirSync(join(folder, "shared"));
		writeFileSync(join(folder, "shared/given"), "by the host");
		const { code, stdout, stderr } = await xkvm(
			[
				...["run", "--timings", "--share", `${join(folder, "shared")}:folder`, "--share", `${folder}:/fixed:ro`, "--"],
				...[
					"sh",
					"-c",
					"sha256sum; echo no >&2; cp /mnt/folder/given /mnt/folder/taken; touch /fixed/x 2>&-; exit 137",
				],
			],
			input,
		);
		expect({ code, stdout }).toEqual({
			code: 137,
			stdout: `${createHash("sha256").update(input).digest("hex")}  -\n`,
		});
		expect(readFileSync(join(folder, "shared/taken"), "utf8")).toBe("by the host");
		expect(readdirSync(folder)).not.toContain("x");
		expect(stderr).toMatch(/^no\n( +\d+ ms {2}.*\n){9,}$/);
	});

	it("is seen, entered and ended by other processes", async () => {
		const running = xkvm(["run", "--", "sleep", "1000"]);
		let sandboxes: { id: string; command: string[] }[] = [];
		while (sandboxes.length === 0) {
			sandboxes = JSON.parse((await xkvm(["ps", "--json"])).stdout).sandboxes;
		}
		expect(sandboxes).toMatchObject([{ image: (image as Image & { id: string }).id, command: ["sleep", "1000"] }]);
		const { id } = sandboxes[0]!;
		const inside = await xkvm(
			["exec", "--env", "X=1 2", id, "--", "sh", "-c", 'cat; echo "$X" >&2; exit 5'],
			"through",
		);
		expect(inside).toEqual({ code: 5, stdout: "through", stderr: "1 2\n" });
		expect((await xkvm(["exec", id, "--", "nosuch"])).code).toBe(127);
		expect((await xkvm(["exec", id, "--", "/etc/passwd"])).code).toBe(126);
		expect(await xkvm(["stop", id])).toEqual({ code: 0, stdout: `${id}\n`, stderr: "" });
		expect((await running).code).toBe(1);
		expect(await xkvm(["exec", id, "--", "true"])).toMatchObject({ code: 3, stdout: "" });
		expect(JSON.parse((await xkvm(["ps", "--json"])).stdout).sandboxes).toEqual([]);
	});

	// libuv's raw mode adds a carriage return of its own to every line.
	it("is a comfortable shell on a terminal", async () => {
		const terminal = onTerminal([process.execPath, bin, "run"], runtime, { rows: 40, columns: 100 });
		await terminal.until("# ");
		terminal.type("stty size\n");
		await terminal.until("40 100\r");
		terminal.type("vi /tmp/note\r");
		// What is typed before the editor has the terminal is lost: its screen says when.
		await terminal.until("1/1");
		terminal.type("iwritten in vi\x1b");
		// Escape is a key of its own when nothing follows it at once.
		await terminal.until("- /tmp/note");
		terminal.type(":wq\r");
		terminal.type("top -d 1\r");
		await terminal.until("Load average");
		await terminal.until("COMMAND");
		terminal.type("q");
		terminal.type("echo; cat /tmp/note | tr a-z A-Z\r");
		await terminal.until("WRITTEN IN VI\r");
		terminal.type("sh -c 'echo star''ted; exec sleep 1000'\r");
		await terminal.until("\nstarted\r");
		terminal.type("\x03");
		terminal.type("echo code $?\r");
		await terminal.until("code 130\r");
		terminal.type("exit 3\r");
		expect(await terminal.code).toBe(3);
	});
});
