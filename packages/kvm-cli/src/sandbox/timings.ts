import type { StartMoment } from "./machine-messages.ts";

/** Moments of a sandbox's life, in the order they come. */
export const MOMENTS = [
	["image", "finding the image"],
	["thread", "starting the machine's thread"],
	["engine", "opening the engine"],
	["files", "reading kernel and initrd, or a kept start"],
	["powerOn", "placing it in memory"],
	["agent", "kernel: from power-on to the agent"],
	["unique", "new random numbers and time for a kept start"],
	["ready", "mounting file systems, loading modules"],
	["kept", "keeping the started guest for the next time"],
	["network", "network, shared folders"],
	["spawn", "preparing the command"],
	["exit", "the command"],
	["closed", "closing"],
] as const satisfies readonly (readonly [StartMoment | string, string])[];

/** The names in {@link MOMENTS}. */
export type Moment = (typeof MOMENTS)[number][0];

/** Where the time of a start goes. */
export class StartTimings {
	readonly #start = performance.timeOrigin + performance.now();
	readonly #at = new Map<Moment, number>();

	/** Notes the first time something happened. */
	mark(moment: Moment, at: number = performance.timeOrigin + performance.now()): void {
		if (!this.#at.has(moment)) this.#at.set(moment, at);
	}

	/** Milliseconds of each step, in order. */
	steps(): { readonly moment: Moment; readonly what: string; readonly ms: number }[] {
		let last = this.#start;
		return MOMENTS.flatMap(([moment, what]) => {
			const at = this.#at.get(moment);
			if (at === undefined) return [];
			const ms = Math.max(0, at - last);
			last = Math.max(last, at);
			return [{ moment, what, ms }];
		});
	}

	/** Milliseconds from the start to a moment, if it has come. */
	until(moment: Moment): number | undefined {
		const at = this.#at.get(moment);
		return at === undefined ? undefined : at - this.#start;
	}
}
