import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { flatGuest } from "../packages/kvm-cli/test/support/flat-guest.ts";
import { bin, buildImage, env } from "./support/images.ts";

const SEABIOS = "/usr/share/seabios/bios-256k.bin";
const noGdb = spawnSync("gdb", ["--version"]).status === 0 ? "" : "no gdb here";
const cloud = buildImage("default");
const noCloud = noGdb || (typeof cloud === "string" ? cloud : "");

interface DebugGuest {
	/** What gdb's `target remote` takes. */
	address: string;
	/** Ends the input, waits for the end, and answers with the exit code and what was printed. */
	end(input?: string): Promise<{ code: number | null; output: string }>;
}

let folder: string;
const children: ChildProcess[] = [];
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-gdb-"));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
	for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** Starts `xkvm debug` and waits until gdb can attach. */
async function debugGuest(args: readonly string[]): Promise<DebugGuest> {
	const child = spawn(process.execPath, [bin, "debug", "--json", "--timeout", "240", ...args], { env });
	children.push(child);
	let stdout = "";
	let stderr = "";
	child.stderr.on("data", (chunk) => {
		stderr += String(chunk);
	});
	const closed = new Promise<number | null>((resolve) => child.on("close", resolve));
	const listening = new Promise<{ host?: string; port?: number; path?: string }>((resolve, reject) => {
		child.stdout.on("data", (chunk) => {
			stdout += String(chunk);
			const line = stdout.split("\n").find((text) => text.includes('"listening"') && text.endsWith("}"));
			if (line !== undefined) resolve(JSON.parse(line));
		});
		child.on("close", () => reject(new Error(`xkvm debug ended: ${stderr}`)));
	});
	const { host, port, path } = await listening;
	return {
		address: path ?? `${host}:${port}`,
		async end(input = "") {
			child.stdin.on("error", () => {});
			child.stdin.end(input);
			const code = await closed;
			const events = stdout
				.trim()
				.split("\n")
				.map((line) => JSON.parse(line) as { event: string; data?: string });
			return { code, output: events.map(({ data }) => data ?? "").join("") };
		},
	};
}

/** Runs gdb's commands; `interrupt` is sent Ctrl-C once the text appears. */
function gdb(commands: readonly string[], file?: string, interrupt?: string): Promise<string> {
	const lines = ["set pagination off", "set confirm off", "set width 0", ...commands];
	const args = ["-nx", "-batch", ...lines.flatMap((line) => ["-ex", line]), ...(file === undefined ? [] : [file])];
	const child = spawn("gdb", args, { env });
	children.push(child);
	return new Promise((resolve, reject) => {
		let text = "";
		let interrupting: NodeJS.Timeout | undefined;
		child.stdout.on("data", (chunk) => {
			text += String(chunk);
			if (interrupt === undefined || !text.includes(interrupt)) return;
			interrupt = undefined;
			// One that comes while gdb is not waiting for the guest is lost.
			interrupting = setInterval(() => {
				if (text.includes("SIGINT")) clearInterval(interrupting);
				else child.kill("SIGINT");
			}, 1000);
		});
		child.stderr.on("data", (chunk) => {
			text += String(chunk);
		});
		child.on("error", reject);
		child.on("close", () => {
			clearInterval(interrupting);
			resolve(text);
		});
	});
}

describe.skipIf(noCloud !== "")(`Debian's gdb and cloud kernel${noCloud && ` [${noCloud}]`}`, () => {
	it("breaks at start_kernel, steps, finishes, watches a variable, and lets the kernel go on to its shell", async () => {
		const symbols = join(folder, "vmlinux.sym");
		const guest = await debugGuest(["--wait", "--symbols", symbols, "--listen", `unix:${join(folder, "gdb")}`]);
		const text = await gdb(
			[
				`target remote ${guest.address}`,
				'printf "entry %#lx\\n", $pc',
				"break start_kernel",
				"continue",
				"backtrace 2",
				"stepi",
				'printf "stepped %#lx\\n", $pc',
				"break do_one_initcall",
				"continue",
				"delete",
				'printf "caller %#lx\\n", *(long *)$rsp',
				"finish",
				'printf "finished %#lx\\n", $pc',
				"watch *(unsigned long *)&jiffies_64",
				"continue",
				"delete",
				"monitor translate 0xffffffff81000000",
				"monitor translate 0xdead000000000000",
				"info threads",
				"detach",
			],
			symbols,
		);
		const { code, output } = await guest.end("echo $((6 * 7)) from $(uname -s)\n");
		expect(text).toMatch(/entry 0x1[0-9a-f]{6}\n/);
		expect(text).toMatch(/Breakpoint 1, 0xffffffff8[0-9a-f]+ in start_kernel \(\)\n#0 .* in start_kernel \(\)\n#1 /);
		const [, at] = /Breakpoint 1, (0x[0-9a-f]+) in/.exec(text)!;
		expect(BigInt(/stepped (0x[0-9a-f]+)/.exec(text)![1]!)).not.toBe(BigInt(at!));
		expect(text).toMatch(/Breakpoint 2, .* in do_one_initcall \(\)/);
		expect(/finished (.*)/.exec(text)![1]).toBe(/caller (.*)/.exec(text)![1]);
		const [, before, after] = /Old value = (\d+)\nNew value = (\d+)\n.* in do_timer \(\)/.exec(text)!;
		expect(Number(after)).toBeGreaterThan(Number(before));
		expect(text).toContain("0xffffffff81000000 -> 0x1000000 (2 MiB page");
		expect(text).toContain("0xdead000000000000: not canonical");
		expect(text).toMatch(/\* 1 +Thread 1 .*CPL 0, 64-bit code/);
		expect(output).toContain("42 from Linux");
		expect(code).toBe(0);
	});

	it("attaches to a running guest, interrupts it again, and kills it", async () => {
		const guest = await debugGuest(["--listen", "0"]);
		const text = await gdb(
			[
				`target remote ${guest.address}`,
				'printf "cr0 %d\\n", ($cr0 & 1)',
				"echo going\\n",
				"continue",
				'printf "rflags %d\\n", ($eflags & 2)',
				"kill",
			],
			undefined,
			"going",
		);
		expect(text).toContain("cr0 1");
		expect(text).toContain("SIGINT");
		expect(text).toContain("rflags 2");
		const { code } = await guest.end();
		expect(code).toBe(1);
	});
});

/** Counts in memory and says each count on COM1, by what it reads from there. */
const COUNTER = flatGuest(
	...[0x31, 0xdb], // xor ebx, ebx
	...[0x66, 0xba, 0xfd, 0x03], // mov dx, 3fdh
	...[0xec], // again: in al, dx
	...[0x43], // inc ebx
	...[0x00, 0xc8], // add al, cl
	...[0x89, 0x1d, 0x00, 0x00, 0x20, 0x00], // mov [200000h], ebx
	...[0x01, 0xc1], // add ecx, eax
	...[0xeb, 0xf2], // jmp again
);
const AGAIN = 0x100026;
const STORED = 0x100030;

it.skipIf(noGdb !== "")(`gdb goes back to where a guest was${noGdb && ` [${noGdb}]`}`, async () => {
	const kernel = join(folder, "counter");
	writeFileSync(kernel, COUNTER);
	const args = ["--wait", "--listen", "0", "--reverse", "--memory", "16", "--net", "none", "--kernel", kernel];
	const guest = await debugGuest([...args, "--arch", "i386"]);
	const look = (name: string): string =>
		`printf "${name} pc %#x eax %#x ecx %#x ebx %d stored %d\\n", $pc, $eax, $ecx, $ebx, *(int *)0x200000`;
	const text = await gdb([
		"set architecture i386",
		`target remote ${guest.address}`,
		`hbreak *${AGAIN}`,
		...["continue", "continue", "continue", "continue"],
		look("before"),
		...["stepi", "stepi", "stepi", "stepi"],
		look("stepped"),
		...["reverse-stepi", "reverse-stepi", "reverse-stepi", "reverse-stepi"],
		look("back"),
		"reverse-continue",
		look("earlier"),
		...["continue", "continue"],
		look("again"),
		"delete",
		"watch *(int *)0x200000",
		"reverse-continue",
		look("written"),
		"reverse-continue",
		look("written before"),
		"delete",
		"reverse-continue",
		look("first"),
		"kill",
	]);
	const [state, of] = [
		new Map<string, string>(),
		(name: string): string => {
			const found = state.get(name);
			if (found === undefined) throw new Error(`gdb did not say ${name}: ${text}`);
			return found;
		},
	];
	for (const [, name, rest] of text.matchAll(/^([a-z ]+) (pc 0x.*)$/gm)) state.set(name!, rest!);
	expect(of("before")).toMatch(/^pc 0x100026 .* ebx 3 stored 3$/);
	expect(of("stepped")).toMatch(/ ebx 4 stored 4$/);
	expect(of("back")).toBe(of("before"));
	expect(of("earlier")).toMatch(/^pc 0x100026 .* ebx 2 stored 2$/);
	// Two stops on from there, one of which is `before`'s.
	expect(of("again")).toMatch(/^pc 0x100026 .* ebx 4 stored 4$/);
	for (const name of ["written", "written before"]) expect(of(name)).toContain(`pc 0x${STORED.toString(16)} `);
	const stored = (name: string): number => Number(/stored (\d+)/.exec(of(name))![1]);
	expect(stored("written before")).toBe(stored("written") - 1);
	expect(of("first")).toMatch(/ stored 0$/);
	expect(text).toContain("No more reverse-execution history");
	expect((await guest.end()).code).toBe(1);
});

const noFirmware = noGdb || (existsSync(SEABIOS) ? "" : `no ${SEABIOS}`);
it.skipIf(noFirmware !== "")(`gdb holds firmware at the reset vector${noFirmware && ` [${noFirmware}]`}`, async () => {
	const guest = await debugGuest(["--wait", "--listen", "0", "--firmware", SEABIOS]);
	const text = await gdb([
		`target remote ${guest.address}`,
		'printf "reset %#lx %#x\\n", $pc, *(unsigned char *)$pc',
		"info threads",
		"stepi",
		'printf "jumped %#lx\\n", $pc',
		// Where SeaBIOS goes into protected mode.
		"break *0xf0000 if $cr0 & 1",
		"kill",
	]);
	// A far jump, of which gdb is told the linear address.
	expect(text).toContain("reset 0xfffffff0 0xea");
	expect(text).toContain("16-bit code");
	expect(text).toMatch(/jumped 0xf[0-9a-f]{4}\n/);
	expect((await guest.end()).code).toBe(1);
});
