import { readFile } from "node:fs/promises";
import { BootError, type Kernel, type Kvm, loadKernel, type MachineExit, planFirmware } from "@x/kvm-core";
import { imageFor, imageWithPackages } from "../commands/image.ts";
import type { RunRequest } from "../commands/run-options.ts";
import { CliError, EXIT } from "../exit.ts";
import { ROOT_DISK_ID } from "../image/root-switch.ts";
import type { CliIo } from "../io.ts";
import { styleFor } from "../terminal/style.ts";
import { type Attachments, openAttachments } from "./attachments.ts";
import type { VirtualClock } from "./clock.ts";
import { ConsoleTail } from "./console-tail.ts";
import { type FileDisk, openDisk } from "./disk.ts";
import { openEngine } from "./engines.ts";
import { EscapeFilter } from "./escape.ts";
import { jsonSink, type OutputSink, plainSink } from "./events.ts";
import { type Guest, type GuestBoot, type GuestOptions, startGuest } from "./guest.ts";
import { type InputPump, pumpInput } from "./input-pump.ts";
import { IMAGE_COMMAND_LINE, overlayInitrd } from "./overlay.ts";
import { kernelProtocol } from "./protocol.ts";

/** How a guest's run ended, and what xkvm makes of it. */
export interface GuestEnd {
	readonly exitCode: number;
	readonly reason: MachineExit["reason"] | "command" | "left" | "timeout";
	/** A line for stderr. */
	readonly message?: string;
}

/** Ports that xkvm's own init uses, by what they carry. */
const PORTS = ["stdin", "stdout", "stderr", "control"] as const;
type PortName = (typeof PORTS)[number];

/** Longest a guest may take for its own shutdown after its command has ended. */
const SHUTDOWN_GRACE_MS = 5000;
const TAIL_LINES = 12;
/** How often to look whether the guest listens to its serial port. */
const POLL_MS = 20;
const END_AGAIN_MS = 500;
const END_OF_TRANSMISSION = Uint8Array.of(4);

async function readInput(flag: string, path: string): Promise<Uint8Array> {
	try {
		return await readFile(path);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		const meaning =
			code === "ENOENT"
				? "no such file"
				: code === "EISDIR"
					? "is a directory"
					: code === "EACCES"
						? "permission denied"
						: code;
		const exitCode =
			code === "ENOENT"
				? EXIT.notFound
				: code === "EACCES"
					? EXIT.permission
					: code === "EISDIR"
						? EXIT.usage
						: EXIT.io;
		throw new CliError(exitCode, code ?? "READ_FAILED", `${flag} ${path}: ${meaning}`, { cause: error });
	}
}

/** Says which file a boot error is about. */
async function naming<T>(what: string, work: () => T | Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		if (!(error instanceof BootError)) throw error;
		const exitCode = error.code === "UNSUPPORTED" ? EXIT.notFound : EXIT.failed;
		throw new CliError(exitCode, error.code, `${what}: ${error.message}`, { cause: error });
	}
}

/** Standard input is a terminal that can be made raw, and standard output shows what the guest answers. */
function isInteractive(request: RunRequest, io: CliIo): boolean {
	return request.command === undefined && !request.json && io.stdin.isTTY === true && io.stdout.isTTY === true;
}

/** What a {@link GuestDriver} drives. */
export interface Driven {
	readonly guest: Guest;
	/** The kernel the guest starts from, if it starts from one. */
	readonly kernel: Kernel | undefined;
	/** Runs the guest until something ends it, as `Machine.run`; waits for whoever reads its output. */
	run(): Promise<MachineExit>;
	/** Ends `run` soon, with `stopped`. */
	stop(): void;
	/** The guest is to end: by a signal, a timeout, or the user. */
	readonly over: AbortSignal;
}

/** Runs a guest to its end in another way than straight on: under a debugger, or with a trace. */
export type GuestDriver = (driven: Driven) => Promise<MachineExit>;

interface Prepared {
	readonly boot: GuestBoot;
	/** The guest is an image's, with xkvm's own init. */
	readonly ownInit: boolean;
	/** A file that goes into the guest as its last disk, the one with its root. */
	readonly rootFile?: string | undefined;
}

async function prepare(request: RunRequest, io: CliIo): Promise<Prepared> {
	if (request.firmware !== undefined) {
		const path = request.firmware;
		const bytes = await readInput("--firmware", path);
		return { boot: { firmware: await naming(`--firmware ${path}`, () => planFirmware(bytes)) }, ownInit: false };
	}
	if (request.kernel !== undefined) {
		const path = request.kernel;
		const kernel = await naming(`--kernel ${path}`, async () => loadKernel(await readInput("--kernel", path)));
		const initrd = request.initrd === undefined ? undefined : await readInput("--initrd", request.initrd);
		const protocol = kernelProtocol(request.boot, kernel);
		return {
			boot: { kernel, initrd, commandLine: ownCommandLine(kernel, path, request.append), protocol },
			ownInit: false,
		};
	}
	const image =
		request.packages.length > 0 ? await imageWithPackages(request.packages, io) : await imageFor(request.image, io);
	const kernel = await naming(image.kernel, async () => loadKernel(await readFile(image.kernel)));
	const protocol = kernelProtocol(request.boot, kernel);
	if (request.initrd !== undefined) {
		const initrd = await readInput("--initrd", request.initrd);
		return { boot: { kernel, initrd, commandLine: request.append ?? "console=ttyS0", protocol }, ownInit: false };
	}
	const initrd = overlayInitrd(await readFile(image.initrd), request.environment, request.command);
	const words = [...IMAGE_COMMAND_LINE, ...terminalWords(request, io)];
	if (request.append !== undefined) words.push(request.append);
	const { rootFile } = image;
	return { boot: { kernel, initrd, commandLine: words.join(" "), protocol }, ownInit: true, rootFile };
}

/** A multiboot kernel's command line starts with its own name; Linux without any gets a console one can see. */
function ownCommandLine(kernel: Kernel, path: string, append: string | undefined): string {
	if (kernel.format === "multiboot") return append === undefined ? path : `${path} ${append}`;
	return append ?? "console=ttyS0";
}

function isLinux(boot: GuestBoot): boolean {
	return (
		"kernel" in boot &&
		(boot.kernel.format === "bzimage" || (boot.kernel.format === "elf" && boot.kernel.elf.pvhEntry !== undefined))
	);
}

function terminalWords(request: RunRequest, io: CliIo): string[] {
	if (!isInteractive(request, io)) return [];
	const { rows, columns } = io.stdout;
	const term = io.env["TERM"];
	return [
		...(rows && columns ? [`XKVM_ROWS=${rows}`, `XKVM_COLS=${columns}`] : []),
		...(term && /^[\w.+-]+$/.test(term) ? [`TERM=${term}`] : []),
	];
}

/**
 * Runs a guest to its end.
 *
 * @param clock - makes it run in virtual time, on the clock's engine
 * @throws CliError for everything that keeps it from starting, and when interrupted
 */
export async function runGuest(
	request: RunRequest,
	io: CliIo,
	driver?: GuestDriver,
	clock?: VirtualClock,
): Promise<GuestEnd> {
	const disks: FileDisk[] = [];
	let attachments: Attachments | undefined;
	try {
		for (const spec of request.disks) disks.push(openDisk(spec));
		const prepared = await prepare(request, io);
		const { rootFile } = prepared;
		if (rootFile !== undefined) disks.push(openDisk({ path: rootFile, readonly: true, id: ROOT_DISK_ID }));
		attachments = await openAttachments(request, io);
		io.signal.throwIfAborted();
		const kvm = clock?.kvm ?? (await openEngine(request.engine, request));
		const devices = { disks, devices: attachments.devices };
		return await new Session(request, io, prepared, devices, kvm, driver, clock).run();
	} finally {
		await attachments?.close();
		for (const disk of disks) disk.close();
	}
}

class Session {
	readonly #request: RunRequest;
	readonly #io: CliIo;
	readonly #ownInit: boolean;
	readonly #waitsForDriver: boolean;
	readonly #sink: OutputSink;
	readonly #tail = new ConsoleTail();
	readonly #guest: Guest;
	readonly #interactive: boolean;
	#pump: InputPump | undefined;
	#controlText = "";
	#exitCode: number | undefined;
	#left = false;
	#timedOut = false;
	/** The guest is being stopped because the reader of its console is slow. */
	#pausing = false;
	#stopAsked = false;
	readonly #over = new AbortController();
	readonly #drive: () => Promise<MachineExit>;
	#timers: NodeJS.Timeout[] = [];

	constructor(
		request: RunRequest,
		io: CliIo,
		prepared: Prepared,
		plugged: Pick<GuestOptions, "disks" | "devices">,
		kvm: Kvm,
		driver?: GuestDriver,
		clock?: VirtualClock,
	) {
		this.#request = request;
		this.#io = io;
		this.#ownInit = prepared.ownInit;
		this.#waitsForDriver = prepared.ownInit || isLinux(prepared.boot);
		this.#interactive = isInteractive(request, io);
		this.#sink = request.json ? jsonSink(io) : plainSink(io);
		this.#guest = startGuest({
			kvm,
			boot: prepared.boot,
			memoryMib: request.memoryMib,
			cpus: request.cpus,
			...plugged,
			debugExitPort: request.debugExitPort,
			testDevice: request.testDevice,
			...(clock && { clock }),
			onSerial: (bytes) => {
				this.#tail.push(bytes);
				if (request.command === undefined) this.#sink.push("console", bytes);
			},
			onSerialDrained: () => this.#pump?.drained(),
			...("firmware" in prepared.boot && { onDebug: (bytes: Uint8Array) => this.#sink.push("stderr", bytes) }),
			...(prepared.ownInit && {
				ports: PORTS.map((name) => ({
					name,
					onOutput: (bytes: Uint8Array) => this.#onPort(name, bytes),
					onDrained: () => {
						if (name === "stdin") this.#pump?.drained();
					},
					onOpen: () => {
						if (name === "stdin") this.#startInput();
					},
				})),
			}),
		});
		clock?.keptBy(this.#guest.machine);
		const kernel = "kernel" in prepared.boot ? prepared.boot.kernel : undefined;
		const driven: Driven = {
			guest: this.#guest,
			kernel,
			run: () => this.#runOn(),
			stop: () => {
				this.#stopAsked = true;
				this.#guest.stop();
			},
			over: this.#over.signal,
		};
		this.#drive = driver === undefined ? driven.run : () => driver(driven);
		this.#sink.onPause((stream, paused) => {
			if (stream !== "console") this.#guest.pausePort(stream, paused);
			else if (paused) {
				this.#pausing = true;
				this.#guest.stop();
			}
		});
	}

	async run(): Promise<GuestEnd> {
		const { signal, stdin, stdout } = this.#io;
		const stop = (): void => this.#stop();
		const resize = (): void => this.#sendSize();
		signal.addEventListener("abort", stop, { once: true });
		if (this.#interactive) {
			stdin.setRawMode?.(true);
			stdout.on("resize", resize);
		}
		const { timeoutMs } = this.#request;
		if (timeoutMs !== undefined) {
			this.#after(timeoutMs, () => {
				this.#timedOut = true;
				this.#stop();
			});
		}
		if (this.#interactive || !this.#waitsForDriver) this.#startInput();
		else if (!this.#ownInit) this.#startInputWhenHeard();
		try {
			signal.throwIfAborted();
			return this.#end(await this.#drive());
		} finally {
			for (const timer of this.#timers) clearTimeout(timer);
			signal.removeEventListener("abort", stop);
			stdout.off("resize", resize);
			this.#pump?.stop();
			if (this.#interactive) stdin.setRawMode?.(false);
			this.#guest.close();
			await this.#sink.flush();
		}
	}

	/** A pause is no stop: the reader of the console has to catch up. */
	async #runOn(): Promise<MachineExit> {
		for (;;) {
			const exit = await this.#guest.run();
			if (this.#pausing) await this.#sink.flush();
			const asked = this.#stopAsked || this.#over.signal.aborted || !this.#pausing;
			this.#stopAsked = false;
			this.#pausing = false;
			if (exit.reason !== "stopped" || asked) return exit;
		}
	}

	#stop(): void {
		this.#over.abort();
		this.#guest.stop();
	}

	#after(milliseconds: number, action: () => void): void {
		this.#timers.push(setTimeout(action, milliseconds));
	}

	/** Input sent before Linux's driver has taken the port over would be lost. */
	#startInputWhenHeard(): void {
		const look = setInterval(() => {
			if (!this.#guest.serialListening()) return;
			clearInterval(look);
			this.#startInput();
		}, POLL_MS);
		this.#timers.push(look);
	}

	#startInput(): void {
		if (this.#pump !== undefined) return;
		const { stdin } = this.#io;
		if (this.#request.command !== undefined) {
			this.#pump = pumpInput(
				stdin,
				(bytes) => this.#guest.portInput("stdin", bytes),
				() => this.#guest.closePort("stdin"),
			);
			return;
		}
		const filter = new EscapeFilter();
		this.#pump = pumpInput(
			stdin,
			(bytes) => this.#guest.serialInput(bytes),
			() => {
				if (this.#ownInit) this.#endSerialInput();
			},
			this.#interactive ? (bytes) => this.#typed(filter, bytes) : undefined,
		);
	}

	/**
	 * The end of a file of commands ends the shell. A terminal has no lasting end of file, and one Ctrl-D may come while
	 * nobody reads or while a command does; so it comes again and again, as the end of a file would.
	 */
	#endSerialInput(): void {
		this.#guest.serialInput(END_OF_TRANSMISSION);
		this.#timers.push(setInterval(() => this.#guest.serialInput(END_OF_TRANSMISSION), END_AGAIN_MS));
	}

	#typed(filter: EscapeFilter, typed: Uint8Array): Uint8Array {
		const { bytes, actions } = filter.push(typed);
		for (const action of actions) {
			if (action === "help") this.#io.stderr.write("\r\nCtrl-A x leaves, Ctrl-A Ctrl-A sends Ctrl-A\r\n");
			else {
				this.#left = true;
				this.#stop();
			}
		}
		return bytes;
	}

	#sendSize(): void {
		const { rows, columns } = this.#io.stdout;
		if (rows && columns) this.#guest.portInput("control", new TextEncoder().encode(`${rows} ${columns}\n`));
	}

	#onPort(port: PortName, bytes: Uint8Array): void {
		if (port === "stdout" || port === "stderr") this.#sink.push(port, bytes);
		else if (port === "control") this.#onControl(new TextDecoder().decode(bytes));
	}

	#onControl(text: string): void {
		this.#controlText = (this.#controlText + text).slice(-256);
		for (let end = this.#controlText.indexOf("\n"); end >= 0; end = this.#controlText.indexOf("\n")) {
			const line = this.#controlText.slice(0, end);
			this.#controlText = this.#controlText.slice(end + 1);
			const code = /^exit (\d{1,3})$/.exec(line)?.[1];
			if (line === "ready") this.#startInput();
			else if (code !== undefined) {
				this.#exitCode = Number(code) & 0xff;
				this.#after(SHUTDOWN_GRACE_MS, () => this.#stop());
			}
		}
	}

	#end(exit: MachineExit): GuestEnd {
		const { signal } = this.#io;
		if (this.#exitCode !== undefined) return { exitCode: this.#exitCode, reason: "command" };
		if (signal.aborted) throw signal.reason;
		if (this.#left) return { exitCode: EXIT.ok, reason: "left", message: "" };
		if (this.#timedOut) {
			const seconds = this.#request.timeoutMs! / 1000;
			return this.#failure("timeout", `the guest was stopped after --timeout ${seconds} s`);
		}
		switch (exit.reason) {
			case "debug-exit":
				return { exitCode: exit.status, reason: exit.reason };
			case "shutdown":
				return this.#failure(exit.reason, "the guest crashed: triple fault");
			case "halted":
				return this.#failure(exit.reason, "the guest halted with interrupts off and nothing can wake it");
			case "internal-error":
				return this.#failure(
					exit.reason,
					`the engine cannot go on: suberror ${exit.suberror}${exit.data.length > 0 ? `, instruction bytes ${hex(exit.data)}` : ""}`,
				);
			case "fail-entry":
			case "debug":
			case "stopped":
				return this.#failure(exit.reason, `the guest stopped: ${exit.reason}`);
			case "power-off":
			case "reset":
				if (this.#tail.includes("Kernel panic")) return this.#failure(exit.reason, "the guest's kernel panicked");
				if (this.#request.command !== undefined) {
					return this.#failure(exit.reason, `the guest ended (${exit.reason}) before the command did`);
				}
				return { exitCode: EXIT.ok, reason: exit.reason };
		}
	}

	/** A command's console was not shown; its last lines may say why there is no exit code. */
	#failure(reason: GuestEnd["reason"], message: string): GuestEnd {
		if (this.#request.command !== undefined && !this.#request.json) {
			const style = styleFor(this.#io.stderr, this.#io.env);
			for (const line of this.#tail.lines(TAIL_LINES)) this.#io.stderr.write(`${style.dim(`guest: ${line}`)}\n`);
		}
		return { exitCode: EXIT.failed, reason, message };
	}
}

function hex(bytes: Uint8Array): string {
	return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
