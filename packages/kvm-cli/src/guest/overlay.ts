import { file, writeCpio } from "../image/cpio.ts";

/** Quotes a word for sh; whatever it holds, the guest's shell sees one argument. */
export function shellQuote(word: string): string {
	return `'${word.replaceAll("'", `'\\''`)}'`;
}

function exports(environment: readonly (readonly [name: string, value: string])[]): string {
	return environment.map(([name, value]) => `export ${name}=${shellQuote(value)}\n`).join("");
}

/**
 * Puts what one run adds behind an image's initrd: Linux unpacks archives one after another. The first of them may be
 * compressed or not, and may end anywhere; zeros in between are skipped.
 *
 * @param command - program and arguments to run instead of a shell
 */
export function overlayInitrd(
	base: Uint8Array,
	environment: readonly (readonly [name: string, value: string])[],
	command: readonly string[] | undefined,
): Uint8Array {
	const script = command && `${exports(environment)}exec ${command.map(shellQuote).join(" ")}\n`;
	const overlay = writeCpio([
		file("xkvm/environment", exports(environment)),
		...(script === undefined ? [] : [file("xkvm/command", script)]),
	]);
	const start = Math.ceil(base.length / 4) * 4;
	const all = new Uint8Array(start + overlay.length);
	all.set(base);
	all.set(overlay, start);
	return all;
}
