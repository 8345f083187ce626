import type { GdbResume } from "./target.ts";

/**
 * Reads the actions of a `vCont` packet: for each thread the leftmost that names it counts; a thread that none names
 * stands still. Signals are those of processes and mean nothing to a processor.
 *
 * @returns undefined when it is malformed, or steps more than one thread
 */
export function parseVCont(text: string, threads: readonly number[]): GdbResume | undefined {
	const run: number[] = [];
	let step: number | undefined;
	let range: GdbResume["range"];
	const left = new Set(threads);
	for (const action of text.split(";")) {
		const parsed =
			/^(?:([csCS])(?:[0-9a-fA-F]{2})?|r([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,16}))(?::(-1|[0-9a-fA-F]{1,8}))?$/.exec(
				action,
			);
		if (parsed === null) return undefined;
		const [, letter, start, end, thread] = parsed;
		const all = thread === undefined || thread === "-1";
		const number = all ? -1 : Number.parseInt(thread, 16);
		// Thread 0 is any thread.
		const named = all ? [...left] : number === 0 ? [...left].slice(0, 1) : [number].filter((one) => left.has(one));
		if (!all && number !== 0 && !threads.includes(number)) return undefined;
		for (const one of named) {
			left.delete(one);
			if (letter === "c" || letter === "C") run.push(one);
			else if (step !== undefined) return undefined;
			else {
				step = one;
				if (letter === undefined) range = { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) };
			}
		}
	}
	if (step === undefined && run.length === 0) return undefined;
	return { run, ...(step === undefined ? {} : { step }), ...(range === undefined ? {} : { range }) };
}
