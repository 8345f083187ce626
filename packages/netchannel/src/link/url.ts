import { LinkError } from "./errors.ts";

/** A link's URL taken apart; see {@link parseLinkUrl}. */
export interface LinkUrl {
	/** `tap`, `tun`, `packet`, `qemu`, `qemu-listen`, `qemu-dgram`, `unix-dgram`, `vfkit`, `vfkit-listen`, `udp`, `ws`, `wss`, `ws-listen`, `pcap`. */
	readonly scheme: string;
	/** What follows the scheme, up to `?`. */
	readonly target: string;
	readonly parameters: URLSearchParams;
	/** As given. */
	readonly href: string;
}

/** What each scheme is followed by, for messages and help. */
export const LINK_SCHEMES: Readonly<Record<string, string>> = {
	tap: "tap:NAME[?netns=N&mtu=BYTES&offload=0&queue=1]",
	tun: "tun:NAME[?netns=N&mtu=BYTES]",
	packet: "packet:IFACE[?netns=N&ring=v2|v3|none&fanout=GROUP]",
	qemu: "qemu:unix:PATH or qemu:HOST:PORT [?reconnect=MS]",
	"qemu-listen": "qemu-listen:unix:PATH or qemu-listen:HOST:PORT",
	"qemu-dgram": "qemu-dgram:PATH?local=PATH",
	"unix-dgram": "unix-dgram:PATH?local=PATH",
	vfkit: "vfkit:PATH?local=PATH",
	"vfkit-listen": "vfkit-listen:PATH",
	udp: "udp:HOST:PORT?local=[HOST:]PORT",
	ws: "ws://HOST:PORT/PATH",
	wss: "wss://HOST/PATH",
	"ws-listen": "ws-listen://HOST:PORT",
	pcap: "pcap:FILE[?write=1]",
};

/**
 * Takes a LINK argument apart: `SCHEME:TARGET[?KEY=VALUE&…]`.
 *
 * @throws LinkError `ERR_LINK_OPTION` that lists the schemes
 */
export function parseLinkUrl(href: string): LinkUrl {
	const match = /^([a-z][a-z-]*):([^?]*)(?:\?(.*))?$/s.exec(href);
	const scheme = match?.[1] ?? "";
	const target = match?.[2] ?? "";
	if (match === null || !(scheme in LINK_SCHEMES) || target === "") {
		const wanted = scheme in LINK_SCHEMES ? [LINK_SCHEMES[scheme]!] : Object.values(LINK_SCHEMES);
		throw new LinkError("ERR_LINK_OPTION", `${JSON.stringify(href)} is no link: expected ${wanted.join(", ")}`);
	}
	return { scheme, target, parameters: new URLSearchParams(match[3] ?? ""), href };
}

/** A whole-number parameter, or undefined when it is not given. */
export function numberParameter(url: LinkUrl, key: string): number | undefined {
	const value = url.parameters.get(key);
	if (value === null) return undefined;
	if (!/^\d{1,9}$/.test(value)) {
		throw new LinkError("ERR_LINK_OPTION", `${url.href}: ${key} is ${JSON.stringify(value)}, expected a whole number`);
	}
	return Number(value);
}

/** A yes-or-no parameter: 1, true, yes, on and their opposites. */
export function booleanParameter(url: LinkUrl, key: string): boolean | undefined {
	const value = url.parameters.get(key);
	if (value === null) return undefined;
	if (/^(1|true|yes|on|)$/.test(value)) return true;
	if (/^(0|false|no|off)$/.test(value)) return false;
	throw new LinkError("ERR_LINK_OPTION", `${url.href}: ${key} is ${JSON.stringify(value)}, expected 1 or 0`);
}

/** `HOST:PORT`, `[V6]:PORT`, or, with a default host, `PORT`. */
export function parseHostPort(text: string, url: LinkUrl, defaultHost?: string): { host: string; port: number } {
	const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
	const host = match?.[1] ?? match?.[2] ?? defaultHost;
	const port = Number(match?.[3]);
	if (match === null || host === undefined || port > 65535) {
		throw new LinkError("ERR_LINK_OPTION", `${url.href}: ${JSON.stringify(text)} is no address, expected HOST:PORT`);
	}
	return { host: host === "" ? (defaultHost ?? "0.0.0.0") : host, port };
}

/** Refuses parameters nobody reads: a misspelt one must not be a silent default. */
export function requireKnownParameters(url: LinkUrl, known: readonly string[]): void {
	for (const key of url.parameters.keys()) {
		if (!known.includes(key)) {
			throw new LinkError(
				"ERR_LINK_OPTION",
				`${url.href}: unknown parameter ${key}, expected ${known.join(", ") || "none"}`,
			);
		}
	}
}
