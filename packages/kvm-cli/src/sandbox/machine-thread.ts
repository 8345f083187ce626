import { Worker } from "node:worker_threads";
import type { MachineExit } from "@x/kvm-core";
import type { FromMachine, MachineFailure, MachineSetup, StartMoment, ToMachine } from "./machine-messages.ts";
import { workerFile } from "./worker-file.ts";

/** What a machine's thread tells its owner. */
export interface MachineListener {
	onMoment(moment: StartMoment, at: number): void;
	/** Before anything comes from the agent. */
	onResumed(): void;
	onModules(modules: ReadonlyMap<string, readonly string[]>): void;
	onAgent(bytes: Uint8Array): void;
	onConsole(bytes: Uint8Array): void;
	/** Comes once, last. */
	onEnd(end: { readonly exit: MachineExit } | { readonly failure: MachineFailure }): void;
}

/** A machine in a thread of its own. */
export interface MachineThread {
	toAgent(bytes: Uint8Array): void;
	/** Keeps the guest as it is for other starts to go on from, where that can be done. */
	keep(): Promise<void>;
	/** Whether the guest's memory holds these bytes anywhere; false once it has ended. */
	search(bytes: Uint8Array): Promise<boolean>;
	/** Ends it without asking the guest; resolves when the thread is gone. */
	terminate(): Promise<void>;
}

export function startMachineThread(
	setup: MachineSetup,
	listener: MachineListener,
	transfer: readonly unknown[] = [],
): MachineThread {
	const worker = new Worker(workerFile("machine-worker"), {
		workerData: setup,
		transferList: transfer as never,
		// Options of the process are not the thread's: a loader of TypeScript would slow it down or break it.
		execArgv: [],
		stdin: false,
		// koffi opens and closes /dev/kvm's descriptors behind Node's back.
		trackUnmanagedFds: false,
	});
	let ended = false;
	let kept = (): void => {};
	const searches: ((found: boolean) => void)[] = [];
	const end = (how: Parameters<MachineListener["onEnd"]>[0]): void => {
		if (ended) return;
		ended = true;
		for (const answer of searches.splice(0)) answer(false);
		kept();
		listener.onEnd(how);
	};
	worker.on("message", (message: FromMachine) => {
		if (ended) return;
		if (message.type === "agent") listener.onAgent(message.bytes);
		else if (message.type === "console") listener.onConsole(message.bytes);
		else if (message.type === "moment") listener.onMoment(message.moment, message.at);
		else if (message.type === "modules") listener.onModules(message.modules);
		else if (message.type === "resumed") listener.onResumed();
		else if (message.type === "kept") kept();
		else if (message.type === "searched") searches.shift()?.(message.found);
		else if (message.type === "exit") end({ exit: message.exit });
		else end({ failure: message.error });
	});
	const fail = (name: string, message: string): void =>
		end({ failure: { name, code: "ERR_MACHINE_THREAD", message, exitCode: undefined } });
	worker.on("error", (error) => fail(error.name, error.message));
	worker.on("exit", (code) => fail("Error", `the machine's thread ended with ${code}`));
	return {
		toAgent(bytes) {
			const message: ToMachine = { type: "agent", bytes };
			worker.postMessage(message);
		},
		keep() {
			if (ended) return Promise.resolve();
			return new Promise((resolve) => {
				kept = resolve;
				worker.postMessage({ type: "keep" } satisfies ToMachine);
			});
		},
		search(bytes) {
			if (ended) return Promise.resolve(false);
			return new Promise((resolve) => {
				searches.push(resolve);
				const message: ToMachine = { type: "search", bytes };
				worker.postMessage(message);
			});
		},
		async terminate() {
			ended = true;
			for (const answer of searches.splice(0)) answer(false);
			kept();
			await worker.terminate();
		},
	};
}
