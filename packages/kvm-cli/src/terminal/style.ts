import { styleText } from "node:util";
import type { CliIo, Output } from "../io.ts";

/** Colours for one output; plain text where it is no terminal or NO_COLOR is set. */
export interface Style {
	bold(text: string): string;
	dim(text: string): string;
	red(text: string): string;
	green(text: string): string;
}

export function styleFor(output: Output, env: CliIo["env"]): Style {
	const on = !env["NO_COLOR"] && env["TERM"] !== "dumb" && (output.isTTY === true || Boolean(env["FORCE_COLOR"]));
	const paint = (format: Parameters<typeof styleText>[0]) => (text: string) =>
		on ? styleText(format, text, { validateStream: false }) : text;
	return { bold: paint("bold"), dim: paint("dim"), red: paint("red"), green: paint("green") };
}
