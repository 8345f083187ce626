import { spawn } from "node:child_process";
import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FLAT, flatGuest, printing } from "./support/flat-guest.ts";
import { aptMissing, localApt } from "./support/local-apt.ts";
import { openTerminal, ptyMissing } from "./support/terminal.ts";

/**
 * Ctrl-C at moments of chance over a command's whole life: XKVM_INTERRUPTS of them, half a dozen by itself, from
 * XKVM_INTERRUPT_SEED on.
 */
const MOMENTS = Number(process.env["XKVM_INTERRUPTS"] ?? 6);
const SEED = Number(process.env["XKVM_INTERRUPT_SEED"] ?? 1);
const TIMEOUT = 60_000 + MOMENTS * 20_000;
const bin = fileURLToPath(new URL("../bin/xkvm.js", import.meta.url));

/** Evenly spread over 0 to 1, the same for a seed: the fractional parts of multiples of the golden ratio. */
const fraction = (i: number): number => ((SEED + i) * 0.618033988749895) % 1;

interface Ended {
	code: number | null;
	signal: NodeJS.Signals | null;
	stderr: string;
	milliseconds: number;
	/** The command had ended by itself before. */
	finished: boolean;
	group: number;
}

/** Runs xkvm in a process group of its own and interrupts it as a terminal would (`group`), or alone. */
function interrupted(
	args: readonly string[],
	env: Record<string, string>,
	whom: "group" | "process",
	afterMs: number,
): Promise<Ended> {
	return new Promise((resolve, reject) => {
		const from = performance.now();
		const child = spawn(process.execPath, [bin, ...args], {
			detached: true,
			env: { ...process.env, NO_COLOR: "1", ...env },
			stdio: ["ignore", "ignore", "pipe"],
		});
		let stderr = "";
		let finished = true;
		child.stderr.on("data", (chunk) => {
			stderr += String(chunk);
		});
		const timer = setTimeout(() => {
			finished = child.exitCode !== null || child.signalCode !== null;
			if (!finished) process.kill(whom === "group" ? -child.pid! : child.pid!, "SIGINT");
		}, afterMs);
		child.on("error", reject);
		child.on("close", (code, signal) => {
			clearTimeout(timer);
			resolve({ code, signal, stderr, milliseconds: performance.now() - from, finished, group: child.pid! });
		});
	});
}

/** Waits for the last process of a group; the dead that nobody has collected yet count as gone soon. */
async function groupGone(group: number): Promise<boolean> {
	for (let tries = 0; tries < 200; tries++) {
		try {
			process.kill(-group, 0);
		} catch {
			return true;
		}
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	return false;
}

/** 130; or, before Node runs any of xkvm's code, the signal itself, which a shell shows as 130. */
function isInterruption({ code, signal }: Ended): boolean {
	return code === 130 || (code === null && signal === "SIGINT");
}

const noApt = aptMissing();

describe.skipIf(noApt !== undefined)(`image build${noApt === undefined ? "" : ` (${noApt})`}`, () => {
	let folder: string;
	let environment: Record<string, string>;
	let life: number;
	const cache = (): string => join(folder, "cache", "xkvm");
	const build = (whom: "group" | "process", afterMs: number): Promise<Ended> =>
		interrupted(["image", "build", "--force"], environment, whom, afterMs);

	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-sigint-"));
		for (const name of ["cache", "tmp"]) mkdirSync(join(folder, name));
		environment = {
			...localApt(folder),
			XDG_CACHE_HOME: join(folder, "cache"),
			TMPDIR: join(folder, "tmp"),
		};
		const whole = await build("process", 1e9);
		expect(whole.code).toBe(0);
		life = whole.milliseconds;
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	/** What is in the cache besides apt's own lists; each image with its files' sizes as its manifest has them. */
	function contents(): string[] {
		const list = readdirSync(cache(), { recursive: true }).map(String);
		return list.filter((path) => !/^apt(\/|$)/.test(path) && !/^(images|names|tmp)$/.test(path)).sort();
	}

	function isWhole(): boolean {
		const [name] = readdirSync(join(cache(), "images"));
		const image = join(cache(), "images", name!);
		const { size } = JSON.parse(readFileSync(join(image, "image.json"), "utf8")) as { size: number };
		return statSync(join(image, "vmlinuz")).size + statSync(join(image, "initrd.img")).size === size;
	}

	it("leaves the cache as it was or whole, and no process, whenever it comes", { timeout: TIMEOUT }, async () => {
		const before = contents();
		let interruptions = 0;
		for (let i = 0; i < MOMENTS; i++) {
			const moment = fraction(i) * life * 1.05;
			const ended = await build(i % 2 === 0 ? "group" : "process", moment);
			const about = `moment ${i} of seed ${SEED}, ${Math.round(moment)} of ${Math.round(life)} ms: ${JSON.stringify(ended)}`;
			if (isInterruption(ended)) interruptions++;
			else expect(ended.code, about).toBe(0);
			expect(ended.stderr.split("\n").filter((line) => line.startsWith("xkvm: ")).length, about).toBeLessThanOrEqual(1);
			expect(await groupGone(ended.group), about).toBe(true);
			expect(contents(), about).toEqual(before);
			expect(isWhole(), about).toBe(true);
			expect(readdirSync(join(folder, "tmp")), about).toEqual([]);
		}
		expect(interruptions).toBeGreaterThan(MOMENTS / 3);
		expect((await build("process", 1e9)).code).toBe(0);
	});

	it("leaves nothing of a first build", { timeout: TIMEOUT }, async () => {
		for (let i = 0; i < Math.ceil(MOMENTS / 3); i++) {
			rmSync(cache(), { recursive: true, force: true });
			const moment = fraction(1000 + i) * life;
			const ended = await build("group", moment);
			const about = `moment ${1000 + i} of seed ${SEED}: ${JSON.stringify(ended)}`;
			if (!isInterruption(ended)) {
				expect(ended.code, about).toBe(0);
				continue;
			}
			expect(await groupGone(ended.group), about).toBe(true);
			const left = existsSync(cache()) ? contents() : [];
			if (left.some((path) => path.endsWith("image.json"))) expect(isWhole(), about).toBe(true);
			else expect(left, about).toEqual([]);
		}
	});
});

const noPty = ptyMissing();

describe.skipIf(noPty !== undefined)(`run${noPty === undefined ? "" : ` (${noPty})`}`, () => {
	let folder: string;
	let kernel: string;
	let life: number;
	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-sigint-"));
		mkdirSync(join(folder, "tmp"));
		kernel = join(folder, "spin.flat");
		writeFileSync(kernel, flatGuest(...printing("ready\n"), ...FLAT.spin));
		const terminal = openTerminal(["run", "--kernel", kernel]);
		const from = performance.now();
		await terminal.until(/ready/);
		life = performance.now() - from;
		terminal.signal(9);
		await terminal.ended;
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	it("ends with 130 and the terminal as it was, whenever it comes", { timeout: TIMEOUT }, async () => {
		for (let i = 0; i < MOMENTS; i++) {
			const moment = fraction(i) * life * 1.3;
			const terminal = openTerminal(["run", "--kernel", kernel], { env: { TMPDIR: join(folder, "tmp") } });
			const before = await terminal.termios();
			await new Promise((resolve) => setTimeout(resolve, moment));
			terminal.signal(2);
			const { code, signal, termios } = await terminal.ended;
			const about = `moment ${i} of seed ${SEED}, ${Math.round(moment)} of ${Math.round(life)} ms`;
			expect([code, signal], about).toEqual(code === null ? [null, 2] : [130, 0]);
			expect(termios, about).toEqual(before);
			expect(readdirSync(join(folder, "tmp")), about).toEqual([]);
		}
	});
});
