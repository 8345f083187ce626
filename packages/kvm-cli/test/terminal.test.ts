import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { cacheFolder } from "../src/image/store.ts";
import { FLAT, flatGuest, printing } from "./support/flat-guest.ts";
import { isRaw, openTerminal, ptyMissing, type Terminal } from "./support/terminal.ts";

const missing = ptyMissing();
const CTRL_A = "\x01";
const CTRL_C = "\x03";

let terminal: Terminal | undefined;
afterEach(() => {
	terminal?.close();
	terminal = undefined;
});

describe.skipIf(missing !== undefined)(`xkvm run on a terminal${missing === undefined ? "" : ` (${missing})`}`, () => {
	let folder: string;
	let kernel: string;
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-tty-"));
		kernel = join(folder, "echo.flat");
		writeFileSync(kernel, flatGuest(...printing("ready\n"), ...FLAT.echo, ...FLAT.powerOff));
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	it("is raw while the guest runs, and as it was behind a power-off", async () => {
		terminal = openTerminal(["run", "--kernel", kernel]);
		const before = await terminal.termios();
		expect(isRaw(before)).toBe(false);
		await terminal.until(/ready/);
		expect(isRaw(await terminal.termios())).toBe(true);
		// Each key is the guest's at once, and shown only because the guest echoes it.
		terminal.type("k");
		await terminal.until(/ready\s+k/);
		terminal.type("q");
		expect(await terminal.ended).toEqual({ code: 0, signal: 0, termios: before });
	});

	it("gives Ctrl-C to the guest, and leaves by Ctrl-A x", async () => {
		terminal = openTerminal(["run", "--kernel", kernel]);
		const before = await terminal.termios();
		await terminal.until(/ready/);
		const from = terminal.shown.length;
		terminal.type(`a${CTRL_C}b`);
		await terminal.until(/a\x03b/, from);
		terminal.type(`${CTRL_A}x`);
		expect(await terminal.ended).toEqual({ code: 0, signal: 0, termios: before });
	});

	it.each([
		["SIGINT", 2, 130],
		["SIGTERM", 15, 143],
		["SIGHUP", 1, 143],
	])("is as it was behind %s", async (_, signal, code) => {
		terminal = openTerminal(["run", "--kernel", kernel]);
		const before = await terminal.termios();
		await terminal.until(/ready/);
		terminal.signal(signal);
		expect(await terminal.ended).toEqual({ code, signal: 0, termios: before });
	});

	it("is as it was when the guest crashes", async () => {
		const crashing = join(folder, "crash.flat");
		writeFileSync(crashing, flatGuest(...printing("ready\n"), ...FLAT.tripleFault));
		terminal = openTerminal(["run", "--kernel", crashing]);
		const before = await terminal.termios();
		expect(await terminal.ended).toEqual({ code: 1, signal: 0, termios: before });
		expect(terminal.shown).toMatch(/triple fault/);
	});
});

const images = join(cacheFolder(process.env), "images");
const noImage = !existsSync(images) || readdirSync(images).length === 0;
const reason = missing ?? (noImage ? "no image: `xkvm image build` makes one" : undefined);

describe.skipIf(reason !== undefined)(
	`a Linux guest on a terminal${reason === undefined ? "" : ` (${reason})`}`,
	() => {
		it("has the terminal's size and its changes, Ctrl-C, and leaves by Ctrl-A x", { timeout: 600_000 }, async () => {
			terminal = openTerminal(["run", "--engine", "software"], { rows: 31, columns: 91 });
			const before = await terminal.termios();
			await terminal.until(/~ # /);
			let from = terminal.shown.length;
			terminal.type("stty size\r");
			await terminal.until(/^31 91\s/m, from);
			// Until the change has arrived, which no answer tells.
			terminal.resize(47, 133);
			from = terminal.shown.length;
			terminal.type("until [ \"$(stty size)\" = '47 133' ]; do sleep 0.1; done; echo resized-$((6 * 7))\r");
			await terminal.until(/resized-42/, from);
			from = terminal.shown.length;
			terminal.type("echo sleeping-$((6 * 7)); sleep 100000\r");
			await terminal.until(/sleeping-42/, from);
			terminal.type(CTRL_C);
			terminal.type("echo alive-$((6 * 7))\r");
			await terminal.until(/alive-42/, from);
			terminal.type(`${CTRL_A}x`);
			expect(await terminal.ended).toEqual({ code: 0, signal: 0, termios: before });
		});
	},
);
