import type { CliIo } from "../io.ts";

const REDRAW_MS = 100;

/** A line on stderr that counts seconds while something goes on; without a terminal it is written once. */
export interface ElapsedLine {
	text(text: string): void;
	end(): void;
}

export function elapsedLine(io: CliIo, text: string): ElapsedLine {
	const { stderr } = io;
	if (stderr.isTTY !== true || io.env["TERM"] === "dumb") {
		stderr.write(`${text}\n`);
		return { text: (next) => stderr.write(`${next}\n`), end() {} };
	}
	const start = performance.now();
	let current = text;
	let ended = false;
	const draw = (): void => {
		stderr.write(`\r\x1b[K${current} … ${((performance.now() - start) / 1000).toFixed(1)} s`);
	};
	const timer = setInterval(draw, REDRAW_MS);
	draw();
	return {
		text(next) {
			current = next;
			draw();
		},
		end() {
			if (ended) return;
			ended = true;
			clearInterval(timer);
			stderr.write("\r\x1b[K");
		},
	};
}
