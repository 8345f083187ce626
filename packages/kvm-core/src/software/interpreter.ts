import { unzlibSync } from "fflate";
import { generate } from "./emit/generate.ts";
import { type HandlerPlan, planHandlers } from "./emit/plan.ts";
import { table } from "./insn/table.ts";
import { pregenerated } from "./pregenerated.ts";

/** Base address of the first vCPU, whose interpreter the published package brings along. */
export const FIRST_VCPU = 65_536;
/** The modules take a memory of any size. */
const MEMORY = { initial: 1, maximum: 65_536 };

/** What a vCPU executes by: the handlers' numbers, and their code for its base address. */
export interface Interpreter {
	readonly plan: HandlerPlan;
	readonly module: WebAssembly.Module;
}

let plan: HandlerPlan | undefined;
const modules = new Map<number, WebAssembly.Module>();

/** The handlers' numbers and the prepared rows. Made once. */
export function handlerPlan(): HandlerPlan {
	plan ??= planHandlers(table);
	return plan;
}

/** The module's bytes for a vCPU at `base`; what the package's build stores for the first one. */
export function interpreterBytes(base: number): Uint8Array<ArrayBuffer> {
	return generate(handlerPlan(), base, MEMORY);
}

/** The interpreter for a vCPU whose area lies at `base`. Made once, kept for every VM of this thread. */
export function interpreter(base: number): Interpreter {
	let module = modules.get(base);
	if (module === undefined) {
		const stored = base === FIRST_VCPU ? pregenerated : undefined;
		const bytes = stored === undefined ? interpreterBytes(base) : unpack(stored);
		module = new WebAssembly.Module(bytes);
		modules.set(base, module);
	}
	return { plan: handlerPlan(), module };
}

function unpack(stored: string): Uint8Array<ArrayBuffer> {
	const packed = Uint8Array.from(atob(stored), (character) => character.charCodeAt(0));
	return unzlibSync(packed) as Uint8Array<ArrayBuffer>;
}
