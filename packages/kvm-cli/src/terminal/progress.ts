import type { CliIo } from "../io.ts";
import { styleFor } from "./style.ts";

const BAR_WIDTH = 24;

/** Narration on stderr: a line per step, and on a terminal a bar that is redrawn in place. */
export interface Progress {
	/** Begins a step; what the step before was doing is over. */
	step(text: string): void;
	/** How far the step is, 0 to 1. */
	fraction(value: number): void;
	/** A remark that stays. */
	note(text: string): void;
	/** Leaves the terminal as it should be. */
	end(): void;
}

export function progressOn(io: CliIo): Progress {
	const { stderr } = io;
	const style = styleFor(stderr, io.env);
	const live = stderr.isTTY === true && io.env["TERM"] !== "dumb";
	let current = "";
	let drawn = -1;
	const clear = (): void => {
		if (live && current !== "") stderr.write("\r\x1b[K");
	};
	const draw = (value: number): void => {
		const filled = Math.round(value * BAR_WIDTH);
		const bar = `${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}`;
		stderr.write(`\r\x1b[K${bar} ${String(Math.round(value * 100)).padStart(3)}% ${current}`);
	};
	return {
		step(text) {
			clear();
			current = text;
			drawn = -1;
			if (live) draw(0);
			else stderr.write(`${text}\n`);
		},
		fraction(value) {
			const bounded = Math.min(1, Math.max(0, value));
			const percent = Math.round(bounded * 100);
			if (!live || current === "" || percent === drawn) return;
			drawn = percent;
			draw(bounded);
		},
		note(text) {
			clear();
			stderr.write(`${style.dim(text)}\n`);
			if (live && current !== "") draw(Math.max(0, drawn) / 100);
		},
		end() {
			clear();
			current = "";
		},
	};
}
