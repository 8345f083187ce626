import { readFile } from "node:fs/promises";
import { loadKernel, openKvm } from "@x/kvm-core";
import type { Command } from "commander";
import { CliError, EXIT } from "../exit.ts";
import { builtinGuest } from "../guest/builtin-guest.ts";
import { ConsoleTail } from "../guest/console-tail.ts";
import { type Guest, type GuestBoot, startGuest } from "../guest/guest.ts";
import { IMAGE_COMMAND_LINE, overlayInitrd } from "../guest/overlay.ts";
import type { StoredImage } from "../image/store.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import { elapsedLine } from "../terminal/elapsed.ts";
import { styleFor } from "../terminal/style.ts";
import { imageFor } from "./image.ts";
import { DEFAULT_MEMORY_MIB } from "./run-options.ts";

const INIT_MARK = "xkvm-init-reached";
const LIMIT_MS = 120_000;
/** What the guest is asked; each answer is a line "key value". */
const QUESTIONS = `echo uname $(uname -a)
echo memory $(awk '/^MemTotal/ { printf "%d MiB", $2 / 1024 }' /proc/meminfo)
echo cpu $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
`;

interface Run {
	readonly output: string;
	/** Milliseconds from power-on to the first line of /init, if it got there. */
	readonly initMs: number | undefined;
	readonly totalMs: number;
}

/** Runs a guest that says what it has to say and powers off. */
async function runToPowerOff(io: CliIo, boot: GuestBoot, start: number, onInit: () => void): Promise<Run> {
	const tail = new ConsoleTail();
	const console: Uint8Array[] = [];
	const answers: Uint8Array[] = [];
	let initMs: number | undefined;
	const guest: Guest = startGuest({
		kvm: openKvm(),
		boot,
		memoryMib: DEFAULT_MEMORY_MIB,
		disks: [],
		debugExitPort: undefined,
		testDevice: false,
		onSerial(bytes) {
			tail.push(bytes);
			console.push(bytes.slice());
			if (initMs === undefined && tail.includes(INIT_MARK)) {
				initMs = performance.now() - start;
				onInit();
			}
		},
		onSerialDrained() {},
		ports: ["stdin", "stdout", "stderr", "control"].map((name) => ({
			name,
			onOutput(bytes) {
				if (name === "stdout") answers.push(bytes.slice());
			},
			onDrained() {},
			onOpen() {},
		})),
	});
	const stop = (): void => guest.stop();
	const timer = setTimeout(stop, LIMIT_MS);
	io.signal.addEventListener("abort", stop, { once: true });
	try {
		const exit = await guest.run();
		io.signal.throwIfAborted();
		if (exit.reason !== "power-off") {
			const why =
				exit.reason === "stopped" ? `did not power off within ${LIMIT_MS / 1000} s` : `ended with ${exit.reason}`;
			const last = tail.lines(1)[0];
			throw new CliError(EXIT.failed, "GUEST_FAILED", `the guest ${why}${last ? `; its last words: ${last}` : ""}`);
		}
		const output = Buffer.concat(answers.length > 0 ? answers : console).toString();
		return { output, initMs, totalMs: performance.now() - start };
	} finally {
		clearTimeout(timer);
		io.signal.removeEventListener("abort", stop);
		guest.close();
	}
}

async function linuxDemo(io: CliIo, image: StoredImage, json: boolean): Promise<void> {
	const line = elapsedLine(io, `Booting Linux ${image.kernelRelease} on the software engine`);
	try {
		const file = await readFile(image.kernel);
		const initrd = overlayInitrd(await readFile(image.initrd), [], ["sh", "-c", QUESTIONS]);
		const start = performance.now();
		const commandLine = [...IMAGE_COMMAND_LINE, `XKVM_MARK=${INIT_MARK}`].join(" ");
		const boot: GuestBoot = { kernel: await loadKernel(file), initrd, commandLine, protocol: undefined };
		const { output, initMs, totalMs } = await runToPowerOff(io, boot, start, () => line.text("Linux runs /init"));
		line.end();
		const answers = new Map(output.split("\n").map((row) => [row.split(" ")[0]!, row.split(" ").slice(1).join(" ")]));
		const [uname, memory, cpu] = ["uname", "memory", "cpu"].map((key) => answers.get(key));
		if (!uname || !memory || !cpu || initMs === undefined) {
			throw new CliError(EXIT.failed, "GUEST_FAILED", "the guest powered off without answering");
		}
		if (json) {
			io.stdout.write(
				jsonDocument({
					guest: "linux",
					image: image.id,
					uname,
					memory,
					cpu,
					initMs: Math.round(initMs),
					totalMs: Math.round(totalMs),
				}),
			);
			return;
		}
		const style = styleFor(io.stdout, io.env);
		io.stdout.write(`${style.bold(uname)}\n`);
		io.stdout.write(`memory    ${memory}\n`);
		io.stdout.write(`cpu       ${cpu}\n`);
		io.stdout.write(`/init     ${(initMs / 1000).toFixed(2)} s after power-on\n`);
		io.stdout.write(`power off clean, ${(totalMs / 1000).toFixed(2)} s after power-on\n`);
	} finally {
		line.end();
	}
}

async function builtinDemo(io: CliIo, reason: string, json: boolean): Promise<void> {
	io.stderr.write(
		`No Linux guest here (${reason}).\nRunning a small built-in guest instead, to show that the engine works:\n`,
	);
	const start = performance.now();
	const kernel = await loadKernel(builtinGuest());
	const boot: GuestBoot = { kernel, initrd: undefined, commandLine: "", protocol: undefined };
	const { output, totalMs } = await runToPowerOff(io, boot, start, () => {});
	if (json) io.stdout.write(jsonDocument({ guest: "builtin", output, totalMs: Math.round(totalMs) }));
	else io.stdout.write(`${output}power off clean, ${(totalMs / 1000).toFixed(2)} s after power-on\n`);
}

export function addDemoCommand(program: Command, io: CliIo): void {
	program
		.command("demo")
		.description("boot the default image, let the guest introduce itself, and power off")
		.option("--builtin", "use the small built-in guest, which needs no image")
		.option("--json", "print one JSON object")
		.action(async (flags: { builtin?: boolean; json?: boolean }) => {
			const json = flags.json ?? false;
			const image = flags.builtin ? "asked for" : await imageOrReason(io);
			if (typeof image === "string") await builtinDemo(io, image, json);
			else await linuxDemo(io, image, json);
			if (json) return;
			const command = io.env["npm_lifecycle_event"] === "start" ? "node packages/kvm-cli/bin/xkvm.js" : "xkvm";
			const next: readonly (readonly [string, string])[] =
				typeof image === "string"
					? [
							["run --kernel FILE --initrd FILE", "a kernel of your own"],
							["doctor", "what this host can do"],
						]
					: [
							["run", "a shell in a fresh guest; Ctrl-A x leaves"],
							["run -- cat /proc/cpuinfo", "one command, with its output and exit code"],
							["doctor", "what this host can do"],
						];
			io.stderr.write("\nTry next:\n");
			for (const [words, meaning] of next)
				io.stderr.write(`  ${`${command} ${words}`.padEnd(command.length + 34)}${meaning}\n`);
		});
}

/** The default image, or why there can be none here. */
async function imageOrReason(io: CliIo): Promise<StoredImage | string> {
	try {
		return await imageFor(undefined, io);
	} catch (error) {
		if (error instanceof CliError && (error.code === "NO_APT" || error.code === "NO_PACKAGE")) return error.message;
		throw error;
	}
}
