import { openUnixDatagram } from "../native/datagram-link.node.ts";
import { openPacket } from "../native/packet.node.ts";
import { openTap, openTun, type TapOptions } from "../native/tap.node.ts";
import { LinkError } from "./errors.ts";
import type { Link } from "./link.ts";
import { openPcapSink, openPcapSource } from "./pcap-file.node.ts";
import { connectQemuStream, listenQemuStream, type StreamAddress } from "./qemu-stream.node.ts";
import { openUdpLink } from "./udp.node.ts";
import {
	booleanParameter,
	type LinkUrl,
	numberParameter,
	parseHostPort,
	parseLinkUrl,
	requireKnownParameters,
} from "./url.ts";
import { connectWebSocket } from "./websocket.node.ts";
import { listenWebSocket } from "./websocket-listen.node.ts";

/** Options of {@link openLink}. */
export interface OpenLinkOptions {
	/** Used where the URL has no `mtu` of its own. @default 1500 */
	mtu?: number;
	/** Ends the opening. */
	signal?: AbortSignal;
}

type Opener = (url: LinkUrl, options: { mtu?: number; signal?: AbortSignal }) => Promise<Link>;

function streamAddress(url: LinkUrl): StreamAddress {
	if (url.target.startsWith("unix:")) {
		const path = url.target.slice(5);
		if (path === "") throw new LinkError("ERR_LINK_OPTION", `${url.href}: the path after unix: is missing`);
		return { path };
	}
	return parseHostPort(url.target, url);
}

const namespaceOf = (url: LinkUrl): { netns?: string } => {
	const netns = url.parameters.get("netns");
	return netns === null ? {} : { netns };
};

const mtuOf = ({ mtu }: { mtu?: number }): { mtu?: number } => (mtu === undefined ? {} : { mtu });

function interfaceOptions(url: LinkUrl, options: { mtu?: number }): TapOptions {
	return {
		name: url.target,
		...namespaceOf(url),
		...mtuOf(options),
		offload: booleanParameter(url, "offload") ?? true,
		multiQueue: booleanParameter(url, "queue") ?? false,
	};
}

async function openDatagram(url: LinkUrl, options: { mtu?: number }, hello = false): Promise<Link> {
	const local = url.parameters.get("local");
	if (local === null) throw new LinkError("ERR_LINK_OPTION", `${url.href}: the parameter local=PATH is missing`);
	return openUnixDatagram({ ...mtuOf(options), local, remote: url.target, hello });
}

const OPENERS: Record<string, { parameters: readonly string[]; open: Opener }> = {
	qemu: {
		parameters: ["reconnect"],
		open: (url, options) =>
			connectQemuStream(streamAddress(url), { ...options, reconnectMs: numberParameter(url, "reconnect") ?? 0 }),
	},
	"qemu-listen": { parameters: [], open: (url, options) => listenQemuStream(streamAddress(url), options) },
	udp: {
		parameters: ["local"],
		open: (url, options) => {
			const local = url.parameters.get("local");
			return openUdpLink({
				...options,
				remote: parseHostPort(url.target, url),
				...(local === null ? {} : { local: parseHostPort(local, url, "0.0.0.0") }),
			});
		},
	},
	ws: { parameters: [], open: (url, options) => connectWebSocket(`ws:${url.target}`, options) },
	wss: { parameters: [], open: (url, options) => connectWebSocket(`wss:${url.target}`, options) },
	"ws-listen": {
		parameters: [],
		open: (url, options) =>
			listenWebSocket({ ...options, ...parseHostPort(url.target.replace(/^\/\//, ""), url, "127.0.0.1") }),
	},
	tap: {
		parameters: ["netns", "offload", "queue"],
		open: (url, options) => openTap(interfaceOptions(url, options)),
	},
	tun: {
		parameters: ["netns", "offload", "queue"],
		open: (url, options) => openTun(interfaceOptions(url, options)),
	},
	packet: {
		parameters: ["netns", "ring", "fanout"],
		open: (url, options) => {
			const fanOutGroup = numberParameter(url, "fanout");
			const ring = url.parameters.get("ring");
			if (ring !== null && ring !== "v2" && ring !== "v3" && ring !== "none") {
				throw new LinkError("ERR_LINK_OPTION", `${url.href}: ring is ${ring}, expected v2, v3 or none`);
			}
			return openPacket({
				...namespaceOf(url),
				...mtuOf(options),
				interface: url.target,
				...(ring === null ? {} : { ring }),
				...(fanOutGroup === undefined ? {} : { fanOutGroup }),
			});
		},
	},
	"qemu-dgram": { parameters: ["local"], open: (url, options) => openDatagram(url, options) },
	"unix-dgram": { parameters: ["local"], open: (url, options) => openDatagram(url, options) },
	vfkit: {
		parameters: ["local"],
		open: (url, options) => openDatagram(url, options, true),
	},
	"vfkit-listen": {
		parameters: [],
		open: (url, options) => openUnixDatagram({ ...mtuOf(options), local: url.target }),
	},
	pcap: {
		parameters: ["write"],
		open: (url, options) =>
			booleanParameter(url, "write") === true ? openPcapSink(url.target, options) : openPcapSource(url.target, options),
	},
};

/**
 * Opens the link a URL names, ready to use: `tap:NAME[?netns=N]`, `tun:NAME`, `packet:IFACE`, `qemu:unix:PATH`
 * (connects), `qemu-listen:unix:PATH`, `udp:HOST:PORT?local=PORT`, `ws://HOST:PORT`, `ws-listen://HOST:PORT`,
 * `pcap:FILE`. Every one takes `mtu=BYTES`.
 *
 * @throws LinkError `ERR_LINK_OPTION` for a URL that names no link, and whatever the link itself throws
 */
export async function openLink(url: string, options: OpenLinkOptions = {}): Promise<Link> {
	const parsed = parseLinkUrl(url);
	const opener = OPENERS[parsed.scheme];
	if (opener === undefined)
		throw new LinkError("ERR_LINK_UNSUPPORTED", `${url}: ${parsed.scheme} links are not available here`);
	requireKnownParameters(parsed, ["mtu", ...opener.parameters]);
	const mtu = numberParameter(parsed, "mtu") ?? options.mtu;
	return opener.open(parsed, {
		...(mtu === undefined ? {} : { mtu }),
		...(options.signal === undefined ? {} : { signal: options.signal }),
	});
}
