import type { Socket } from "node:net";
import type { MachineExit } from "@x/kvm-core";
import { Debugger, DebuggerTarget, GdbServer, Monitor, recordMachine, type SymbolTable } from "@x/kvm-core/debug";
import type { Driven, GuestDriver } from "../guest/session.ts";
import { GdbListener } from "./gdb-listener.ts";
import type { ListenAddress } from "./listen-address.ts";
import { debugTarget } from "./trace-driver.ts";

/** What {@link gdbDriver} is told. */
export interface GdbDriverOptions {
	readonly listen: ListenAddress;
	/** The guest's first instruction waits for gdb. */
	readonly wait: boolean;
	/** Records the run, so that gdb can go back. */
	readonly reverse: boolean;
	/** Registers gdb is shown; by the kernel when not given. */
	readonly bits: 32 | 64 | undefined;
	/** Called with the guest's kernel before it runs. */
	prepare(driven: Driven): Promise<SymbolTable | undefined>;
	onListening(address: ListenAddress): void;
	/** Takes the lines of a trace that gdb's user turned on. */
	onTrace(line: string): void;
	onDebugger(event: "attached" | "detached"): void;
}

/** Runs a guest with a place for gdb to attach to. */
export function gdbDriver(options: GdbDriverOptions): GuestDriver {
	return async (driven) => {
		const session = new GdbSession(options, driven);
		return await session.run();
	};
}

class GdbSession {
	readonly #options: GdbDriverOptions;
	readonly #driven: Driven;
	readonly #debugger: Debugger;
	#symbols: SymbolTable | undefined;
	#end!: (exit: MachineExit) => void;
	#fail!: (error: unknown) => void;
	readonly #ended: Promise<MachineExit>;
	/** How the guest ended, when it did while gdb looked on. */
	#last: MachineExit | undefined;

	constructor(options: GdbDriverOptions, driven: Driven) {
		this.#options = options;
		this.#driven = driven;
		const target = debugTarget(driven);
		const recorded = options.reverse ? recordMachine(driven.guest.machine, target.run) : undefined;
		const run = recorded?.run ?? target.run;
		target.run = async () => {
			const exit = await run();
			if (exit.reason !== "stopped" && exit.reason !== "debug") this.#last = exit;
			return exit;
		};
		this.#debugger = new Debugger(target, recorded?.history);
		this.#ended = new Promise((resolve, reject) => {
			this.#end = resolve;
			this.#fail = reject;
		});
	}

	async run(): Promise<MachineExit> {
		const { over } = this.#driven;
		this.#symbols = await this.#options.prepare(this.#driven);
		const listener = await GdbListener.open(this.#options.listen, (socket) => {
			this.#attach(socket).catch(this.#fail);
		});
		const stop = (): void => this.#end({ reason: "stopped" });
		over.addEventListener("abort", stop, { once: true });
		try {
			this.#options.onListening(listener.address);
			if (over.aborted) stop();
			else if (!this.#options.wait) this.#runFree();
			return await this.#ended;
		} finally {
			over.removeEventListener("abort", stop);
			listener.close();
		}
	}

	/** Lets the guest run without anybody watching, until gdb attaches. */
	#runFree(): void {
		if (this.#last !== undefined) {
			this.#end(this.#last);
			return;
		}
		this.#debugger.resume().then((stop) => {
			if (stop.reason === "ended") this.#end(stop.exit);
			else this.#stoppedFree?.();
		}, this.#fail);
	}

	#stoppedFree: (() => void) | undefined;

	async #attach(socket: Socket): Promise<void> {
		socket.pause();
		if (this.#debugger.running) {
			const stopped = new Promise<void>((resolve) => {
				this.#stoppedFree = resolve;
			});
			this.#debugger.interrupt();
			await Promise.race([stopped, this.#ended]);
			this.#stoppedFree = undefined;
		}
		this.#options.onDebugger("attached");
		let watched = true;
		const { kernel, guest } = this.#driven;
		const elf = kernel?.format === "bzimage" ? kernel.payload : kernel?.format === "elf" ? kernel.elf : undefined;
		const monitor = new Monitor({
			debugger: this.#debugger,
			machine: guest.machine,
			...(this.#symbols && { symbols: this.#symbols }),
			onTrace: this.#options.onTrace,
		});
		/** The guest goes on by itself, once. */
		const letGo = (): void => {
			if (!watched) return;
			watched = false;
			monitor.close();
			this.#options.onDebugger("detached");
			// A resume that gdb began and left ends first.
			const wait = (): void => {
				if (this.#debugger.running) setImmediate(wait);
				else {
					this.#debugger.detach();
					this.#runFree();
				}
			};
			wait();
		};
		const server = new GdbServer({
			target: new DebuggerTarget({
				debugger: this.#debugger,
				bits: this.#options.bits ?? elf?.bits ?? 64,
				monitor: (command) => monitor.run(command),
				onDetach: letGo,
				onKill: () => this.#end(this.#last ?? { reason: "stopped" }),
			}),
			send: (bytes) => socket.write(bytes),
			onEnd: () => socket.end(),
		});
		socket.on("data", (bytes: Buffer) => server.receive(bytes));
		socket.on("close", () => server.close());
		socket.resume();
	}
}
