import type { Machine } from "../machine/machine.ts";
import type { Debugger } from "./debugger.ts";
import { describeWalk } from "./page-walk.ts";
import type { SymbolTable } from "./symbols.ts";

/** What a {@link Monitor} speaks about. */
export interface MonitorOptions {
	readonly debugger: Debugger;
	readonly machine: Machine;
	readonly symbols?: SymbolTable;
}

/** Answers what a debugger's protocol has no words for: gdb's `monitor` commands. */
export class Monitor {
	readonly #debugger: Debugger;
	readonly #symbols: SymbolTable | undefined;

	constructor({ debugger: debug, symbols }: MonitorOptions) {
		this.#debugger = debug;
		this.#symbols = symbols;
	}

	/** Runs a command; what it says ends with a line's end. */
	async run(line: string): Promise<string> {
		const [name, ...words] = line.trim().split(/\s+/);
		if (name === "translate")
			return `${describeWalk(BigInt(words[0] ?? 0), this.#debugger.translate(0, BigInt(words[0] ?? 0)))}\n`;
		return `no monitor command ${name}; ${this.#symbols === undefined ? "" : "symbols known"}\n`;
	}
}
