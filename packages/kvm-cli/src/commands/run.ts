import type { Command } from "commander";
import { parseTrace, traceDriver } from "../debug/trace-driver.ts";
import { EXIT } from "../exit.ts";
import { type GuestDriver, type GuestEnd, runGuest } from "../guest/session.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { runSandbox } from "../run/run-sandbox.ts";
import { imageFor, imageWithPackages, packageList } from "./image.ts";
import { DEFAULT_MEMORY_MIB, parseRunOptions, type RunFlags, type RunRequest } from "./run-options.ts";

/** Gathers a repeatable option. */
const collect = (value: string, all: string[]): string[] => [...all, value];

/** What `xkvm run` takes, and `xkvm debug` too. */
export function addRunOptions(command: Command): Command {
	return command
		.argument("[image]", "an image's name or id (default: the default image, built when missing)")
		.argument("[command...]", "after --: runs in the guest instead of a shell; its output and exit code are xkvm's own")
		.option("--kernel <file>", "a bzImage, an ELF with a PVH note, a 64-bit ELF, or a multiboot 1 kernel")
		.option("--initrd <file>", "initial RAM disk; with a multiboot kernel its module")
		.option("--append <text>", "kernel command line (with an image: added to its own)")
		.option("--firmware <file>", "start this firmware at the reset vector instead, e.g. SeaBIOS's bios-256k.bin")
		.option(
			"--boot <protocol>",
			"how to enter the kernel: linux-payload, linux-entry, linux-real, pvh, elf64 or multiboot",
		)
		.option("--memory <mib>", "guest memory in MiB", String(DEFAULT_MEMORY_MIB))
		.option("--cpus <n>", "processors, which take turns: 1 to 8, more than one on the software engine only", "1")
		.option("--engine <engine>", "auto, software or hardware")
		.option("--fallback <how>", "with --engine hardware, for what KVM cannot emulate: none or emulate", "none")
		.option("--net <link>", "network: user (the default with an image), none, or a link such as tap:NAME")
		.option("--publish <host:guest>", "publish a guest's port: [ADDRESS:]HOST:GUEST[/udp] (repeatable)", collect, [])
		.option("--expose <port>", "let the guest reach a port of this host at gateway.internal (repeatable)", collect, [])
		.option("--allow <rule>", "allow [tcp|udp|icmp:]TARGET[:PORT], and nothing else (repeatable)", collect, [])
		.option("--deny <rule>", "deny the same (repeatable)", collect, [])
		.option(
			"--secret <name=value@host>",
			"a placeholder for the guest, the value for that host (repeatable)",
			collect,
			[],
		)
		.option("--audit <file>", "append every connection to this file, as JSON lines")
		.option("--net-rate <kib>", "KiB a second in each direction")
		.option("--address <cidr>", "the guest's address at a link")
		.option("--gateway <ip>", "the guest's router at a link")
		.option(
			"--disk <file>",
			"a raw disk image; with ro it cannot be written, with overlay[=FILE] writes go to memory or FILE: FILE[,ro|,overlay[=FILE]] (repeatable)",
			collect,
			[],
		)
		.option(
			"--packages <list>",
			"run an image with these Debian packages, made if there is none yet (python3,nodejs; repeatable)",
			packageList,
			[],
		)
		.option(
			"--share <dir:tag>",
			"share a folder, at /mnt/TAG or the path TAG is: DIR:TAG[:ro] (repeatable); a kernel of your own mounts TAG itself, as virtiofs or 9p",
			collect,
			[],
		)
		.option("--env <name=value>", "environment of the shell or command (repeatable)", collect, [])
		.option("--timeout <seconds>", "stop the guest after so long")
		.option("--device <spec>", "isa-debug-exit,iobase=0xf4 or pc-testdev (repeatable)", collect, [])
		.option("--no-snapshot", "start the kernel from power-on, and keep nothing of it for the next time")
		.option("--timings", "say on stderr where the time went")
		.option("--json", "print output and end as one JSON object a line");
}

export function addRunCommand(program: Command, io: CliIo, outcome: Outcome): void {
	addRunOptions(program.command("run").description("start a guest: a shell in it, or one command"))
		.option("--trace <kinds>", "trace the guest: a list of exits, irq and insn")
		.addHelpText("after", "\nOn a terminal: Ctrl-A x leaves, Ctrl-A Ctrl-A sends Ctrl-A.")
		.action(
			async (first: string | undefined, rest: string[], flags: RunFlags & { trace?: string }, command: Command) => {
				const { image, words } = splitArguments(first, rest, command);
				const request = parseRunOptions(image, words, flags, io.env, flags.trace !== undefined);
				const driver = flags.trace === undefined ? undefined : traceDriver(parseTrace(flags.trace), request.json, io);
				reportEnd(await run(request, io, driver), request.json, io, outcome);
			},
		);
}

/** Tells how a guest ended, and makes its exit code the command's. */
export function reportEnd(end: GuestEnd, json: boolean, io: CliIo, outcome: Outcome): void {
	outcome.exitCode = end.exitCode;
	if (json) io.stdout.write(jsonDocument({ event: "end", reason: end.reason, exitCode: end.exitCode }));
	if (end.message === undefined) return;
	if (end.exitCode === EXIT.ok || json) io.stderr.write(`${end.message}\n`);
	else io.stderr.write(`xkvm: ${end.message}\n`);
}

/** A guest of xkvm's own images has the agent in it; any other is a machine with a serial port. */
async function run(request: RunRequest, io: CliIo, driver?: GuestDriver): Promise<GuestEnd> {
	if (request.sandboxed) {
		const image =
			request.packages.length > 0 ? await imageWithPackages(request.packages, io) : await imageFor(request.image, io);
		if (image.architecture === "amd64") return runSandbox(request, image, io);
	}
	return runGuest(request, io, driver);
}

/** Commander drops the `--`; whether the first word is an image or already the command shows in the raw arguments. */
export function splitArguments(
	first: string | undefined,
	rest: string[],
	command: Command,
): { image: string | undefined; words: string[] } {
	const all = first === undefined ? rest : [first, ...rest];
	const raw = command.parent === null ? [] : rawArguments(command.parent);
	const marker = raw.indexOf("--");
	const afterMarker = marker < 0 ? 0 : raw.length - marker - 1;
	const words = all.slice(all.length - afterMarker);
	const operands = all.slice(0, all.length - afterMarker);
	if (operands.length > 1) command.error(`error: unexpected argument '${operands[1]}': a command to run goes after --`);
	return { image: operands[0], words };
}

function rawArguments(program: Command): string[] {
	return (program as Command & { rawArgs: string[] }).rawArgs;
}
