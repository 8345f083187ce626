import { CliError, EXIT } from "../exit.ts";

/** Where to wait for gdb. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** Where gdb looks for QEMU, too. */
export const DEFAULT_PORT = 1234;

/**
 * Reads `HOST:PORT`, `:PORT`, `PORT` or `unix:PATH`. Without a host, only programs of this machine reach the port.
 *
 * @throws CliError BAD_OPTION
 */
export function parseListenAddress(text: string): ListenAddress {
	if (text.startsWith("unix:") && text.length > 5) return { path: text.slice(5) };
	const [, bracketed, plain, digits] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? [];
	const port = Number(digits);
	if (digits === undefined || port > 65_535) {
		throw new CliError(EXIT.usage, "BAD_OPTION", `--listen ${text}: expected HOST:PORT, PORT or unix:PATH`);
	}
	return { host: bracketed ?? (plain || "127.0.0.1"), port };
}

/** What gdb's `target remote` takes. */
export function remoteAddress(address: ListenAddress): string {
	if ("path" in address) return address.path;
	const { host, port } = address;
	if (host === "0.0.0.0" || host === "::" || host === "127.0.0.1") return `localhost:${port}`;
	return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
