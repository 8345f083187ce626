/** The thread a sandbox's machine runs in. */
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { type Kvm, loadKernel, type Machine, type VirtioDevice, VirtioFs, VirtioNet } from "@x/kvm-core";
import type { Link } from "@x/netchannel";
import { openLink } from "@x/netchannel/node";
import { ContinuedClock } from "../guest/clock.ts";
import { type FileDisk, openDisk } from "../guest/disk.ts";
import { openEngine } from "../guest/engines.ts";
import { bootGuest, type Guest, startGuest } from "../guest/guest.ts";
import { ROOT_DISK_ID } from "../image/root-switch.ts";
import { makeFolder } from "../image/store.ts";
import { RingLink } from "../network/ring-link.ts";
import { NodeFolder } from "../share/node-folder.ts";
import { addAgent, type InitrdContents, readInitrd } from "./boot-archive.ts";
import { type KeptStart, keptStartPath, readKeptStart, writeKeptStart } from "./kept-start.ts";
import type { FromMachine, KeepSetup, MachineSetup, StartMoment, ToMachine } from "./machine-messages.ts";

const AGENT_PORT = "agent";
const port = parentPort!;
const setup = workerData as MachineSetup;

function tell(message: FromMachine, transfer: ArrayBuffer[] = []): void {
	port.postMessage(message, transfer);
}

function mark(moment: StartMoment): void {
	tell({ type: "moment", moment, at: performance.timeOrigin + performance.now() });
}

/** Bytes on their way to the guest's port. */
class AgentInput {
	readonly #waiting: Uint8Array[] = [];
	guest: Guest | undefined;

	push(bytes: Uint8Array): void {
		this.#waiting.push(bytes);
		this.pump();
	}

	pump(): void {
		for (let next = this.#waiting[0]; next !== undefined && this.guest !== undefined; next = this.#waiting[0]) {
			const taken = this.guest.portInput(AGENT_PORT, next);
			if (taken < next.length) {
				this.#waiting[0] = next.subarray(taken);
				return;
			}
			this.#waiting.shift();
		}
	}
}

/** What is kept of what the guest said while it started. */
const MOST_SAID = 65_536;

class Said {
	#chunks: Uint8Array[] = [];
	#length = 0;

	push(bytes: Uint8Array): void {
		if (this.#length >= MOST_SAID) return;
		this.#chunks.push(bytes.slice());
		this.#length += bytes.length;
	}

	all(): Uint8Array {
		return Buffer.concat(this.#chunks);
	}
}

/** Where this guest's start is kept, if the engine can and the files are there. */
function startPath({ folder, steps }: KeepSetup): string | undefined {
	const { kernel, initrd, commandLine, memoryMiB, cpus, disks, shares, network } = setup;
	const root = disks.at(-1)?.id === ROOT_DISK_ID ? [disks.at(-1)!.path] : [];
	const tags = shares.map(({ tag }) => tag);
	const rest = [commandLine, memoryMiB, cpus, disks.length, tags, network !== undefined, steps];
	try {
		return keptStartPath(folder, [kernel, initrd, ...root], rest);
	} catch {
		return undefined;
	}
}

/** Loads kernel and initrd into an empty machine. */
async function powerOn(machine: Machine): Promise<InitrdContents> {
	const [kernelFile, base] = await Promise.all([readFile(setup.kernel), readFile(setup.initrd)]);
	const kernel = await loadKernel(kernelFile);
	const contents = readInitrd(base);
	mark("files");
	bootGuest(machine, {
		kernel,
		initrd: addAgent(base, contents),
		commandLine: setup.commandLine,
		protocol: undefined,
	});
	return contents;
}

/** Keeps the guest, which stands still meanwhile; the file is finished while it runs on. */
async function keep(path: string, guest: Guest, kept: Omit<KeptStart, "machine">): Promise<void> {
	const { machine } = guest;
	try {
		await makeFolder(dirname(path));
		await machine.board.idle();
		void writeKeptStart(path, { ...kept, machine: machine.save() }, machine.ram).catch(() => {});
	} catch {
		// A full disk, a folder of somebody else's: the next start takes as long as this one.
	}
}

async function run(): Promise<void> {
	mark("thread");
	const disks: FileDisk[] = [];
	let kvm: Kvm | undefined;
	let link: Link | undefined;
	const folders: NodeFolder[] = [];
	try {
		for (const spec of setup.disks) disks.push(openDisk(spec));
		const clock = new ContinuedClock();
		kvm = await openEngine(setup.engine, { cpus: setup.cpus, now: clock.now });
		mark("engine");
		if (setup.network !== undefined) {
			const { cable } = setup.network;
			link = typeof cable === "string" ? await openLink(cable) : new RingLink(cable);
		}
		const devices: VirtioDevice[] = [];
		if (link !== undefined) devices.push(new VirtioNet({ link, mac: setup.network!.mac }));
		for (const { path, tag, readonly } of setup.shares) {
			const folder = new NodeFolder(path, { readonly });
			folders.push(folder);
			devices.push(new VirtioFs({ folder, tag }));
		}
		const input = new AgentInput();
		const greeting = new Said();
		const console = new Said();
		let greeted = false;
		let wanted = false;
		const guest = startGuest({
			kvm,
			memoryMib: setup.memoryMiB,
			cpus: setup.cpus,
			clock,
			disks,
			debugExitPort: undefined,
			testDevice: false,
			onSerial(bytes) {
				console.push(bytes);
				tell({ type: "console", bytes: bytes.slice() });
			},
			onSerialDrained() {},
			devices,
			ports: [
				{
					name: AGENT_PORT,
					onOutput(bytes) {
						if (!greeted) greeting.push(bytes);
						const copy = bytes.slice();
						tell({ type: "agent", bytes: copy }, [copy.buffer]);
					},
					onDrained: () => input.pump(),
					onOpen() {},
				},
			],
		});
		kvm = undefined;
		try {
			const { machine } = guest;
			const path = setup.keep !== undefined && machine.canSave ? startPath(setup.keep) : undefined;
			const found = path === undefined ? undefined : readKeptStart(path, machine.ram);
			let modules: KeptStart["modules"];
			if (found === undefined) modules = (await powerOn(machine)).modules;
			else {
				mark("files");
				clock.continueAt(found.machine.now);
				machine.restore(found.machine);
				modules = found.modules;
				tell({ type: "resumed" });
				if (found.console.length > 0) tell({ type: "console", bytes: found.console });
			}
			tell({ type: "modules", modules });
			mark("powerOn");
			if (found !== undefined) tell({ type: "agent", bytes: found.greeting });
			input.guest = guest;
			port.on("message", (message: ToMachine) => {
				// The greeting is all that an agent says by itself.
				greeted = true;
				if (message.type === "agent") input.push(message.bytes);
				else if (message.type === "search") tell({ type: "searched", found: guest.memoryHolds(message.bytes) });
				else if (path === undefined) tell({ type: "kept" });
				else {
					wanted = true;
					guest.stop();
				}
			});
			for (;;) {
				const exit = await guest.run();
				if (exit.reason !== "stopped" || !wanted) {
					tell({ type: "exit", exit });
					break;
				}
				wanted = false;
				await keep(path!, guest, { greeting: greeting.all(), console: console.all(), modules });
				tell({ type: "kept" });
			}
		} finally {
			guest.close();
		}
	} finally {
		kvm?.close();
		link?.close();
		for (const folder of folders) folder.close();
		for (const disk of disks) disk.close();
	}
}

try {
	await run();
} catch (error) {
	const { name, code, message, exitCode } = error as Error & { code?: unknown; exitCode?: unknown };
	tell({
		type: "failed",
		error: {
			name: name ?? "Error",
			code: String(code ?? "FAILED"),
			message: String(message),
			exitCode: typeof exitCode === "number" ? exitCode : undefined,
		},
	});
}
port.close();
