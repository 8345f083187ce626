import { writeCpio } from "../image/cpio.ts";
import { file } from "../image/tree.ts";

/**
 * What every image's kernel is told. Self-tests of its ciphers take it longer than all the rest of its start; the software
 * engine never speculates, so there is nothing to mitigate.
 */
export const IMAGE_COMMAND_LINE: readonly string[] = [
	"console=ttyS0",
	"quiet",
	"panic=-1",
	"cryptomgr.notests",
	"mitigations=off",
	"XKVM_PORTS=1",
];

/** Quotes a word for sh; whatever it holds, the guest's shell sees one argument. */
export function shellQuote(word: string): string {
	return `'${word.replaceAll("'", `'\\''`)}'`;
}

function exports(environment: readonly (readonly [name: string, value: string])[]): string {
	return environment.map(([name, value]) => `export ${name}=${shellQuote(value)}\n`).join("");
}

/** Busybox's shell prefers its own applets to programs of the same name; a program that a package brought is meant, though. */
function execution(command: readonly string[]): string {
	const [program, ...rest] = command.map(shellQuote) as [string, ...string[]];
	const words = ["", ...rest].join(" ");
	const search = `for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin; do
	[ -f "$folder/"${program} ] && [ -x "$folder/"${program} ] && exec "$folder/"${program}${words}
done
`;
	return `${command[0]!.includes("/") ? "" : search}exec ${program}${words}\n`;
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
	const script = command && `${exports(environment)}${execution(command)}`;
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
