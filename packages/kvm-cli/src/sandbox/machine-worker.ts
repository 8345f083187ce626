/** The thread a sandbox's machine runs in. */
import { readFile } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import { type Kvm, loadKernel, type VirtioDevice, VirtioFs, VirtioNet } from "@x/kvm-core";
import type { Link } from "@x/netchannel";
import { openLink } from "@x/netchannel/node";
import { type FileDisk, openDisk } from "../guest/disk.ts";
import { openEngine } from "../guest/engines.ts";
import { type Guest, startGuest } from "../guest/guest.ts";
import { RingLink } from "../network/ring-link.ts";
import { NodeFolder } from "../share/node-folder.ts";
import { addAgent, readInitrd } from "./boot-archive.ts";
import type { FromMachine, MachineSetup, StartMoment, ToMachine } from "./machine-messages.ts";

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

async function run(): Promise<void> {
	mark("thread");
	const disks: FileDisk[] = [];
	let kvm: Kvm | undefined;
	let link: Link | undefined;
	const folders: NodeFolder[] = [];
	try {
		for (const spec of setup.disks) disks.push(openDisk(spec));
		kvm = await openEngine(setup.engine);
		mark("engine");
		const [kernelFile, base] = await Promise.all([readFile(setup.kernel), readFile(setup.initrd)]);
		const kernel = await loadKernel(kernelFile);
		const contents = readInitrd(base);
		tell({ type: "modules", modules: contents.modules });
		mark("files");
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
		const guest = startGuest({
			kvm,
			boot: { kernel, initrd: addAgent(base, contents), commandLine: setup.commandLine, protocol: undefined },
			memoryMib: setup.memoryMiB,
			disks,
			debugExitPort: undefined,
			testDevice: false,
			onSerial(bytes) {
				tell({ type: "console", bytes: bytes.slice() });
			},
			onSerialDrained() {},
			devices,
			ports: [
				{
					name: AGENT_PORT,
					onOutput(bytes) {
						const copy = bytes.slice();
						tell({ type: "agent", bytes: copy }, [copy.buffer]);
					},
					onDrained: () => input.pump(),
					onOpen() {},
				},
			],
		});
		kvm = undefined;
		input.guest = guest;
		port.on("message", (message: ToMachine) => {
			if (message.type === "agent") input.push(message.bytes);
			else tell({ type: "searched", found: guest.memoryHolds(message.bytes) });
		});
		mark("powerOn");
		try {
			tell({ type: "exit", exit: await guest.run() });
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
