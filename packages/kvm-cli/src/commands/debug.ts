import { writeFile } from "node:fs/promises";
import type { Kernel } from "@x/kvm-core";
import { type GuestSymbol, readKallsyms, SymbolTable, writeSymbolElf } from "@x/kvm-core/debug";
import type { Command } from "commander";
import { gdbDriver } from "../debug/gdb-driver.ts";
import { DEFAULT_PORT, parseListenAddress, remoteAddress } from "../debug/listen-address.ts";
import { CliError, EXIT } from "../exit.ts";
import { VirtualClock } from "../guest/clock.ts";
import { runGuest } from "../guest/session.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { addRunOptions, reportEnd, splitArguments } from "./run.ts";
import { parseRunOptions, type RunFlags } from "./run-options.ts";

interface DebugFlags extends RunFlags {
	listen: string;
	wait?: boolean;
	symbols?: string;
	arch: string;
	kaslr?: boolean;
	reverse?: boolean;
}

const HELP = `
The guest runs as under xkvm run, and gdb attaches with "target remote" whenever it likes:

  xkvm debug --wait --symbols vmlinux.sym     # in one terminal
  gdb vmlinux.sym -ex 'target remote :${DEFAULT_PORT}' \\
      -ex 'hbreak start_kernel' -ex continue  # in another

--symbols writes what gdb needs to know the kernel's functions and variables by name, from the
table every Linux kernel carries for itself: no debug package is needed. A kernel gets "nokaslr"
so that its addresses are those of the file; --kaslr leaves that away.

In gdb: break, hbreak, watch, rwatch, awatch, stepi, finish, continue, Ctrl-C, detach; vCPUs are
threads; "monitor help" lists what gdb has no words for. Breakpoints of the software engine touch
no guest memory, so they can be set before the kernel is loaded and never show to the guest.

--reverse records the run, on the software engine in virtual time with one processor, and gdb has
reverse-stepi, reverse-step, reverse-next, reverse-finish and reverse-continue, which stops at
breakpoints and at what a watched variable was before. The past reaches back to the last stop
before a device interrupted the guest or wrote to its memory (timers of the interrupt controllers
and the PIT, and answers to reads, do no harm), and begins anew where gdb changes something.`;

export function addDebugCommand(program: Command, io: CliIo, outcome: Outcome): void {
	addRunOptions(
		program.command("debug").description("start a guest that gdb can attach to, from its first instruction"),
	)
		.option("--listen <address>", "where to wait for gdb: HOST:PORT, PORT or unix:PATH", String(DEFAULT_PORT))
		.option("--wait", "hold the guest before its first instruction until gdb lets it go")
		.option("--symbols <file>", "write the kernel's symbols there, as an ELF file for gdb")
		.option("--arch <arch>", "registers gdb is shown: auto, i386 or x86-64", "auto")
		.option("--reverse", "record the run, so that gdb can execute it backwards")
		.option("--kaslr", "let the kernel choose its addresses at random")
		.addHelpText("after", HELP)
		.action(async (first: string | undefined, rest: string[], flags: DebugFlags, command: Command) => {
			const { image, words } = splitArguments(first, rest, command);
			const listen = parseListenAddress(flags.listen);
			const bits = parseArch(flags.arch);
			if (flags.symbols !== undefined && flags.firmware !== undefined) {
				throw new CliError(EXIT.usage, "BAD_OPTION", "--symbols needs a kernel, not --firmware");
			}
			// Of the engines only the software one has breakpoints on every kind of host.
			const engine = flags.engine ?? "software";
			const request = parseRunOptions(image, words, { ...flags, engine, ...withoutKaslr(flags) }, io.env, true);
			if (flags.reverse === true && flags.engine === "hardware") {
				throw new CliError(
					EXIT.usage,
					"BAD_OPTION",
					"--reverse with --engine hardware: only the software engine goes back",
				);
			}
			if (flags.reverse === true && request.cpus > 1) {
				const message = `--reverse with --cpus ${request.cpus}: only a guest with one processor goes back`;
				throw new CliError(EXIT.usage, "BAD_OPTION", message);
			}
			const event = (data: object): void => {
				if (request.json) io.stdout.write(jsonDocument(data));
			};
			const driver = gdbDriver({
				listen,
				wait: flags.wait === true,
				reverse: flags.reverse === true,
				bits,
				async prepare({ kernel }) {
					const symbols = kernel === undefined ? undefined : kernelSymbols(kernel);
					if (flags.symbols !== undefined) {
						if (symbols === undefined) {
							const message = "--symbols: this kernel carries no symbol table (CONFIG_KALLSYMS) that can be read";
							throw new CliError(EXIT.notFound, "NO_SYMBOLS", message);
						}
						await writeFile(flags.symbols, writeSymbolElf(symbols.list, symbols.bits));
						event({ event: "symbols", file: flags.symbols, count: symbols.list.length });
					}
					return symbols === undefined ? undefined : new SymbolTable(symbols.list);
				},
				onListening(address) {
					event({ event: "listening", ...address });
					const file = flags.symbols === undefined ? "" : ` ${flags.symbols}`;
					io.stderr.write(`gdb can attach: gdb${file} -ex 'target remote ${remoteAddress(address)}'\n`);
				},
				onTrace(line) {
					io.stderr.write(`${line}\n`);
				},
				onDebugger(what) {
					event({ event: what });
					io.stderr.write(`gdb ${what}\n`);
				},
			});
			const clock = flags.reverse === true ? new VirtualClock() : undefined;
			reportEnd(await runGuest(request, io, driver, clock), request.json, io, outcome);
		});
}

function parseArch(text: string): 32 | 64 | undefined {
	if (text === "auto") return undefined;
	if (text === "i386") return 32;
	if (text === "x86-64") return 64;
	throw new CliError(EXIT.usage, "BAD_OPTION", `--arch ${text}: expected auto, i386 or x86-64`);
}

/** The command line with `nokaslr`; a kernel with a command line of its own keeps its console. */
function withoutKaslr(flags: DebugFlags): { append?: string } {
	if (flags.kaslr === true || flags.firmware !== undefined)
		return flags.append === undefined ? {} : { append: flags.append };
	const own = flags.kernel !== undefined || flags.initrd !== undefined ? "console=ttyS0" : undefined;
	return { append: [flags.append ?? own, "nokaslr"].filter((word) => word !== undefined).join(" ") };
}

function kernelSymbols(kernel: Kernel): { list: GuestSymbol[]; bits: 32 | 64 } | undefined {
	const elf = kernel.format === "bzimage" ? kernel.payload : kernel.format === "elf" ? kernel.elf : undefined;
	for (const { bytes } of elf?.segments ?? []) {
		const list = readKallsyms(bytes, elf!.bits);
		if (list !== undefined) return { list, bits: elf!.bits };
	}
	return undefined;
}
