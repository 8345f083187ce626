import { randomFillSync } from "node:crypto";
import { PassThrough } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PublishOptions } from "@x/ustack/gateway";
import { AgentClient } from "../agent/client.ts";
import { imageFor, imageWithPackages } from "../commands/image.ts";
import { ConsoleTail } from "../guest/console-tail.ts";
import type { DiskSpec } from "../guest/disk.ts";
import type { EngineChoice } from "../guest/engines.ts";
import { MOST_CPUS, MOST_MEMORY_MIB } from "../guest/limits.ts";
import { ROOT_DISK_ID } from "../image/root-switch.ts";
import { cacheFolder } from "../image/store.ts";
import type { CliIo } from "../io.ts";
import { bringLoopbackUp } from "../network/guest-network.ts";
import type { SandboxNetwork } from "../network/options.ts";
import { type NetworkPlan, planNetwork } from "../network/plan.ts";
import { type ModuleTable, modulePaths, PORT_MODULES } from "./boot-archive.ts";
import { kernelCommandLine } from "./command-line.ts";
import { SandboxError } from "./errors.ts";
import { type ExecOptions, Execution, type PreparedCommand } from "./execution.ts";
import { GuestFiles } from "./files.ts";
import { mountShare, mountTag, type SandboxMount, setUpGuest, shutDownGuest } from "./guest-setup.ts";
import { startsFolder } from "./kept-start.ts";
import type { MachineFailure } from "./machine-messages.ts";
import { type MachineThread, startMachineThread } from "./machine-thread.ts";
import { enterRootDisk, INITRAMFS, INITRAMFS_PROGRAMS, ROOT_DISK_MODULES } from "./root-disk.ts";
import { GuestKernel } from "./system-calls.ts";
import { StartTimings } from "./timings.ts";
import { makeUnique } from "./unique-guest.ts";

/** Files of a guest. */
export interface SandboxImage {
	/** A bzImage or an ELF of a 64-bit kernel. */
	readonly kernel: string;
	/** An initramfs; the agent is put behind it. */
	readonly initrd: string;
	/** A file with the root file system, which goes into the guest as its last disk. @default the initramfs is the root */
	readonly rootFile?: string;
	/** What the root file system is, for mount(8). */
	readonly root?: { readonly format: string };
}

/** Options of {@link createSandbox}. */
export interface SandboxOptions {
	/** An image's name or id, or its files. @default the default image, built when it is missing */
	image?: string | SandboxImage;
	/** Debian packages the guest has, instead of an image of your own; the image for them is built when it is missing. */
	packages?: readonly string[];
	/** Guest memory in MiB, 64 to 3072. @default 256 */
	memoryMiB?: number;
	/** Processors, 1 to 8, which take turns; more than one on the software engine only. @default 1 */
	cpus?: number;
	/** @default "auto": /dev/kvm where it runs every kind of guest at full speed, else the software engine */
	engine?: EngineChoice;
	/** Raw disk images, /dev/vda and so on. @default none */
	disks?: readonly DiskSpec[];
	/** Folders of the host, by virtio-fs. @default none */
	mounts?: readonly SandboxMount[];
	/** @default "none" */
	network?: SandboxNetwork;
	/** Environment of every command. */
	env?: Readonly<Record<string, string>>;
	/** Milliseconds of wall-clock time after which the machine is stopped. @default no limit */
	timeoutMs?: number;
	/** Stops the machine when aborted. */
	signal?: AbortSignal;
	/** Added to the kernel's command line. */
	append?: string;
	/**
	 * Keep a guest that has started, without anything of yours in it, in the cache, and go on from it when another one with
	 * the same image and devices is wanted. The software engine only.
	 *
	 * @default true
	 */
	snapshot?: boolean;
	/** What the guest writes to its serial console; valid during the call only. */
	onConsole?: (bytes: Uint8Array) => void;
}

/** How long a guest that is asked to end has before its processes are killed. */
const TERM_GRACE_MS = 100;
/** How long its whole shutdown may take. */
const SHUTDOWN_MS = 10_000;
const LEAST_MEMORY_MIB = 64;
const TAIL_LINES = 12;
/** Commands that are started in one turn of the event loop. */
const STARTS_IN_TURN = 10;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HOME = "/root";
const DEFAULT_SIZE = { rows: 24, columns: 80 };
const MOUNT_MODULES = ["virtiofs"];
const NETWORK_MODULES = ["virtio_net"];
/** What a disk's file system may need. */
const DISK_MODULES = ["virtio_blk", "crc32c_generic", "ext4"];

/** A port of a guest's that is reachable from outside. */
export interface PublishedPort {
	readonly port: number;
	/** Takes it back; connections that are there stay. */
	close(): Promise<void>;
}

/**
 * A disposable Linux machine in this process: its processor in one thread, its network in another. It ends with
 * {@link close}, with the process, or by itself.
 */
export class Sandbox implements AsyncDisposable {
	readonly files: GuestFiles;
	/** Where the time went since `createSandbox` was called. */
	readonly timings: StartTimings;
	/** Resolves when the machine has stopped, to why: undefined after {@link close}. */
	readonly ended: Promise<SandboxError | undefined>;
	readonly #client: AgentClient;
	readonly #kernel: GuestKernel;
	readonly #options: SandboxOptions;
	readonly #tail = new ConsoleTail();
	readonly #thread: MachineThread;
	readonly #ready: Promise<void>;
	readonly #environment: Record<string, string>;
	readonly #network: NetworkPlan | undefined;
	#tellEnd: (error: SandboxError | undefined) => void = () => {};
	#failReady: (error: SandboxError) => void = () => {};
	#modules: ModuleTable = new Map();
	#booted = false;
	#resumed = false;
	#startsInTurn = 0;
	#end: SandboxError | undefined;
	#closing: Promise<void> | undefined;
	#timer: NodeJS.Timeout | undefined;
	readonly #root: SandboxImage["root"];
	readonly #disks: readonly DiskSpec[];
	readonly #abort = (): void => {
		const cause = this.#options.signal?.reason;
		this.#stop(new SandboxError("ERR_SANDBOX_ABORTED", "the sandbox was aborted", { cause }));
	};

	/** For {@link createSandbox}. */
	constructor(options: SandboxOptions, image: SandboxImage, network: NetworkPlan | undefined, timings: StartTimings) {
		this.#options = options;
		this.timings = timings;
		this.#root = image.root;
		this.#disks =
			image.rootFile === undefined
				? (options.disks ?? [])
				: [...(options.disks ?? []), { path: image.rootFile, readonly: true, id: ROOT_DISK_ID }];
		const path = image.root === undefined ? DEFAULT_PATH : `${DEFAULT_PATH}:${INITRAMFS_PROGRAMS}`;
		this.#environment = { PATH: path, HOME, ...options.env };
		this.#network = network;
		this.ended = new Promise((resolve) => {
			this.#tellEnd = resolve;
		});
		this.#client = new AgentClient(
			(bytes) => this.#thread.toAgent(bytes),
			(error) => {
				this.#stop(
					new SandboxError("ERR_SANDBOX_PROTOCOL", `the guest's agent misbehaved: ${error.message}`, { cause: error }),
				);
			},
		);
		this.#kernel = new GuestKernel(this.#client);
		this.files = new GuestFiles(() => this.#whenReady(this.#kernel));
		this.#thread = startMachineThread(
			{
				kernel: image.kernel,
				initrd: image.initrd,
				commandLine: kernelCommandLine(options.append),
				memoryMiB: options.memoryMiB ?? 256,
				cpus: options.cpus ?? 1,
				engine: options.engine ?? "auto",
				disks: this.#disks,
				shares: (options.mounts ?? []).map(({ host, readonly = false }, i) => ({
					path: host,
					tag: mountTag(i),
					readonly,
				})),
				keep:
					options.snapshot === false
						? undefined
						: { folder: startsFolder(cacheFolder(process.env)), steps: this.#stepsBeforeKeeping() },
				network: this.#network && { mac: this.#network.mac, cable: this.#network.cable },
			},
			{
				onMoment: (moment, at) => timings.mark(moment, at),
				onResumed: () => {
					this.#resumed = true;
				},
				onModules: (modules) => {
					this.#modules = modules;
				},
				onAgent: (bytes) => this.#client.receive(bytes),
				onConsole: (bytes) => {
					this.#tail.push(bytes);
					options.onConsole?.(bytes);
				},
				onEnd: (end) => this.#onEnd(end),
			},
		);
		// A port that cannot be published is not waited for until the guest is up.
		this.#network?.gateway?.ready.catch((error: SandboxError) => void this.#stop(error));
		this.#ready = Promise.race([
			this.#setUp(),
			new Promise<never>((_, reject) => {
				this.#failReady = reject;
			}),
		]);
		this.#ready.catch(() => {});
		if (options.timeoutMs !== undefined) {
			const { timeoutMs } = options;
			this.#timer = setTimeout(() => {
				this.#stop(new SandboxError("ERR_SANDBOX_TIMEOUT", `the sandbox ran longer than ${timeoutMs} ms`));
			}, timeoutMs);
		}
		if (options.signal?.aborted) this.#abort();
		else options.signal?.addEventListener("abort", this.#abort, { once: true });
	}

	/**
	 * Resolves when the guest takes commands.
	 *
	 * @throws SandboxError
	 */
	ready(): Promise<void> {
		return this.#ready;
	}

	/** The last lines of the guest's serial console, in case they explain something. */
	consoleTail(): string[] {
		return this.#tail.lines(TAIL_LINES);
	}

	/**
	 * Starts a command; as many as you like at a time.
	 *
	 * @param command - program and arguments, or a text for the guest's shell
	 */
	exec(command: string | readonly string[], options: ExecOptions = {}): Execution {
		const argv = typeof command === "string" ? ["/bin/sh", "-c", command] : [...command];
		return this.#start(argv, options, this.#ready);
	}

	/** Starts a command once `ready` allows it. */
	#start(argv: readonly string[], options: ExecOptions, ready: Promise<void> | undefined): Execution {
		const execution = new Execution();
		const prepare = async (): Promise<PreparedCommand> => {
			await ready;
			await this.#ownTurn();
			const { uid, gid } = await this.#user(options.user);
			const [program] = argv;
			if (program === undefined || program === "") {
				throw new SandboxError("ERR_EXEC_NOT_FOUND", "the command has no program", { value: argv });
			}
			const terminal = options.tty === true ? DEFAULT_SIZE : options.tty === false ? undefined : options.tty;
			const environment: Readonly<Record<string, string>> = {
				...this.#environment,
				...(terminal !== undefined && { TERM: "xterm" }),
				...options.env,
			};
			const candidates = program.includes("/")
				? [program]
				: (environment["PATH"] ?? DEFAULT_PATH).split(":").map((folder) => `${folder || "."}/${program}`);
			this.timings.mark("spawn");
			return {
				name: program,
				request: {
					candidates,
					argv,
					environment: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
					directory: options.cwd ?? HOME,
					uid,
					gid,
					...(terminal !== undefined && { terminal }),
				},
			};
		};
		void execution.start(this.#client, prepare, options);
		return execution;
	}

	/** Lets others have a turn when many commands are started at once. */
	async #ownTurn(): Promise<void> {
		while (this.#startsInTurn >= STARTS_IN_TURN) await nextTurn();
		if (this.#startsInTurn++ === 0) {
			setImmediate(() => {
				this.#startsInTurn = 0;
			});
		}
	}

	/** Whether these bytes are anywhere in the guest's memory: to be sure that a secret never got there. */
	memoryHolds(bytes: Uint8Array): Promise<boolean> {
		return this.#thread.search(bytes);
	}

	/**
	 * Ends it and gives everything back. With disks, the guest is asked to write back what it holds and to switch itself
	 * off; without, there is nothing to lose. Idempotent.
	 */
	close(): Promise<void> {
		this.#closing ??= this.#close();
		return this.#closing;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.close();
	}

	async #close(): Promise<void> {
		if (this.#end === undefined && this.#booted && this.#hasToWriteBack()) {
			const wait = new Promise((resolve) => setTimeout(resolve, SHUTDOWN_MS).unref());
			await Promise.race([shutDownGuest(this.#kernel, TERM_GRACE_MS).catch(() => {}), this.ended, wait]);
		}
		await this.#stop(new SandboxError("ERR_SANDBOX_CLOSED", "the sandbox is closed"));
	}

	#hasToWriteBack(): boolean {
		const { disks = [], mounts = [] } = this.#options;
		return (
			disks.some(({ readonly, overlay }) => !readonly && overlay !== "memory") ||
			mounts.some(({ readonly }) => !readonly)
		);
	}

	/** Stops the thread; the first reason stays. */
	#stop(reason: SandboxError): Promise<void> {
		if (this.#end === undefined) {
			this.#end = reason;
			clearTimeout(this.#timer);
			this.#options.signal?.removeEventListener("abort", this.#abort);
			this.#failReady(reason);
			this.#client.close(reason);
		}
		const gone = Promise.all([this.#thread.terminate(), this.#network?.gateway?.terminate()]).then(() => {});
		gone.then(() => this.#tellEnd(reason.code === "ERR_SANDBOX_CLOSED" ? undefined : this.#end));
		return gone;
	}

	#onEnd(end: { readonly exit: { readonly reason: string } } | { readonly failure: MachineFailure }): void {
		if ("failure" in end) {
			const { name, code, message, exitCode } = end.failure;
			const cause = Object.assign(new Error(message), { name, code, ...(exitCode !== undefined && { exitCode }) });
			void this.#stop(new SandboxError(this.#booted ? "ERR_SANDBOX_GUEST" : "ERR_SANDBOX_BOOT", message, { cause }));
			return;
		}
		const { reason } = end.exit;
		const panicked = this.#tail.includes("Kernel panic");
		const what = panicked ? "the guest's kernel panicked" : `the guest ended: ${reason}`;
		void this.#stop(
			new SandboxError(this.#booted ? "ERR_SANDBOX_GUEST" : "ERR_SANDBOX_BOOT", what, {
				value: panicked ? "panic" : reason,
			}),
		);
	}

	async #whenReady<T>(value: T): Promise<T> {
		await this.#ready;
		return value;
	}

	async #setUp(): Promise<void> {
		await this.#client.ready;
		if (this.#end !== undefined) throw this.#end;
		this.timings.mark("agent");
		const kernel = this.#kernel;
		const { disks = [], mounts = [] } = this.#options;
		const early = modulePaths(this.#modules, [
			...(this.#rootEarly ? ROOT_DISK_MODULES : []),
			...(mounts.length > 0 ? MOUNT_MODULES : []),
			...(this.#network?.configure === undefined ? [] : NETWORK_MODULES),
		]);
		const late = modulePaths(this.#modules, [
			...(this.#rootLate ? ROOT_DISK_MODULES : []),
			...(disks.length > 0 ? DISK_MODULES : []),
			...(this.#network === undefined ? [] : NETWORK_MODULES),
		]);
		const there = modulePaths(this.#modules, PORT_MODULES);
		if (this.#resumed) {
			await makeUnique(kernel, randomFillSync, Date.now);
			this.timings.mark("unique");
		} else {
			await kernel.loadModules(early.filter((path) => !there.includes(path)));
			if (!this.#rootLate) await this.#furnish();
			this.timings.mark("ready");
			if (this.#options.snapshot !== false) {
				await this.#thread.keep();
				this.timings.mark("kept");
			}
		}
		const initramfs = this.#rootEarly ? INITRAMFS : "";
		const missing = late.filter((path) => !there.includes(path) && !early.includes(path));
		await kernel.loadModules(missing.map((path) => `${initramfs}${path}`));
		if (this.#rootLate) await this.#furnish();
		this.timings.mark("ready");
		for (const [i, mount] of mounts.entries()) await mountShare(kernel, mountTag(i), mount);
		if (this.#network !== undefined) {
			const run = (argv: readonly string[]): Promise<unknown> => this.#start(argv, {}, undefined).output();
			Object.assign(this.#environment, await this.#network.setUp(kernel, run), this.#options.env);
		}
		this.timings.mark("network");
		this.#booted = true;
	}

	/** A disk of the caller's that the guest has seen says something of the caller's: nothing looks at disks before keeping. */
	get #rootLate(): boolean {
		return this.#root !== undefined && (this.#options.disks ?? []).length > 0;
	}

	get #rootEarly(): boolean {
		return this.#root !== undefined && !this.#rootLate;
	}

	/** All that what is done to a guest before it is kept goes by. */
	#stepsBeforeKeeping(): unknown[] {
		return [this.#root?.format ?? null, this.#rootEarly, this.#network?.configure !== undefined];
	}

	/** Makes a system of a kernel: its root, its file systems, its network as every guest has it. */
	async #furnish(): Promise<void> {
		const kernel = this.#kernel;
		if (this.#root !== undefined) await enterRootDisk(kernel, this.#root.format, this.#disks.length);
		await setUpGuest(kernel);
		await bringLoopbackUp(kernel);
		await this.#network?.configure?.(kernel);
	}

	/**
	 * Makes a port of the guest's reachable from outside.
	 *
	 * @param port - the guest's, or everything there is to say
	 * @returns the port outside
	 * @throws SandboxError ERR_SANDBOX_NETWORK when it cannot be opened, ERR_SANDBOX_NO_NETWORK
	 */
	async publish(port: number | PublishOptions): Promise<PublishedPort> {
		const gateway = this.#network?.gateway;
		if (gateway === undefined) {
			throw new SandboxError("ERR_SANDBOX_NO_NETWORK", 'a port can be published with network: "user" only');
		}
		await this.#ready;
		const forward = await gateway.publish(typeof port === "number" ? { hostPort: 0, guestPort: port } : port);
		return { port: forward.port, close: () => gateway.unpublish(forward) };
	}

	/** The ports outside of those that were to be published from the start, in order. */
	async published(): Promise<number[]> {
		const ready = await this.#network?.gateway?.ready;
		return ready?.forwards.map(({ port }) => port) ?? [];
	}

	async #user(user: ExecOptions["user"]): Promise<{ uid: number; gid: number }> {
		if (user === undefined || user === "root" || user === 0) return { uid: 0, gid: 0 };
		if (typeof user === "object") return user;
		const kernel = this.#kernel;
		const table = (await new GuestFiles(async () => kernel).read("/etc/passwd", { maxBytes: 2 ** 20 })).toString();
		for (const line of table.split("\n")) {
			const [name, , uid, gid] = line.split(":");
			if (name === String(user) || (typeof user === "number" && Number(uid) === user)) {
				return { uid: Number(uid), gid: Number(gid) };
			}
		}
		if (typeof user === "number") return { uid: user, gid: user };
		throw new SandboxError("ERR_EXEC_FAILED", `user ${user}: not in the guest's /etc/passwd`, { value: user });
	}
}

/** An environment for image building that says nothing. */
function quietIo(signal: AbortSignal | undefined): CliIo {
	const nowhere = new PassThrough().resume();
	return {
		stdin: new PassThrough(),
		stdout: nowhere,
		stderr: nowhere,
		env: process.env,
		signal: signal ?? new AbortController().signal,
	};
}

/**
 * Starts a machine and waits until it takes commands.
 *
 * @throws SandboxError when it cannot be started, CliError when there is no such image
 */
export async function createSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
	const memory = options.memoryMiB ?? 256;
	if (!Number.isInteger(memory) || memory < LEAST_MEMORY_MIB || memory > MOST_MEMORY_MIB) {
		throw new SandboxError(
			"ERR_SANDBOX_OPTION",
			`memoryMiB is ${memory}: give a whole number from ${LEAST_MEMORY_MIB} to ${MOST_MEMORY_MIB}`,
			{ value: memory },
		);
	}
	const { cpus = 1 } = options;
	if (!Number.isInteger(cpus) || cpus < 1 || cpus > MOST_CPUS) {
		const message = `cpus is ${cpus}: give a whole number from 1 to ${MOST_CPUS}`;
		throw new SandboxError("ERR_SANDBOX_OPTION", message, { value: cpus });
	}
	const timings = new StartTimings();
	const { image } = options;
	const packages = options.packages ?? [];
	if (image !== undefined && packages.length > 0) {
		throw new SandboxError("ERR_SANDBOX_OPTION", "packages make an image of their own: give no image beside them", {
			value: packages,
		});
	}
	const io = quietIo(options.signal);
	const files =
		typeof image === "object"
			? image
			: packages.length > 0
				? await imageWithPackages(packages, io)
				: await imageFor(image, io);
	timings.mark("image");
	// To start a thread takes some milliseconds of the caller's: there is a turn for others between the two.
	await nextTurn();
	const network = await planNetwork(options.network ?? "none");
	await nextTurn();
	const sandbox = new Sandbox(options, files, network, timings);
	try {
		await sandbox.ready();
	} catch (error) {
		await sandbox.close();
		throw error;
	}
	return sandbox;
}
