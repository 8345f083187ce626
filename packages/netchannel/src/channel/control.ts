import type { Link } from "../link/link.ts";
import { parseAddress } from "./address.ts";
import type { ChannelType } from "./channel.ts";
import { CHANNEL_ERRNO, ChannelError } from "./errors.ts";
import { type FlowPattern, PATTERN_WORDS, portsWord } from "./match.ts";
import type { NatTarget } from "./nat.ts";
import { type ChannelInfo, createNetchannels, type Netchannels } from "./netchannels.ts";

/**
 * The addresses of a channel as the original has them, from the receiving point of view: `daddr` and `dport` are local.
 * Zero ports and protocol with a zero mask are wildcards.
 */
export interface Unetdata {
	saddr?: string;
	daddr?: string;
	sport?: number;
	dport?: number;
	proto?: number;
}

/** A mask over {@link Unetdata}: addresses as text of set bits, the rest as numbers. */
export type Unetmask = Unetdata;

/** What `create` describes. */
export interface Unetchannel {
	data: Unetdata;
	/** Bits that must match. @default all bits of what `data` gives */
	mask?: Unetmask;
	prio?: number;
	type?: ChannelType;
	/** Bytes that may wait, as a power of two from 8 to 30; more is 30. @default 20 */
	memory_limit_order?: number;
	/** @default 1024 */
	packet_limit?: number;
	/** For `nat`. */
	target?: NatTarget;
}

/** The argument of {@link netchannelControl}. */
export type NetchannelControl = {
	/** The table of channels. @default one of this module's own */
	channels?: Netchannels;
} & (
	| { cmd: "create"; unc: Unetchannel; link?: Link; timeout?: number }
	| { cmd: "bind"; unc: Unetchannel }
	| { cmd: "send"; fd: number; buf: Uint8Array }
	| { cmd: "recv"; fd: number; buf: Uint8Array /** Milliseconds, 0 not to wait. */; timeout?: number }
	| { cmd: "remove"; fd: number }
	| { cmd: "dump" }
);

/** What {@link netchannelControl} returns. */
export interface NetchannelResult {
	/** A channel's number for create and bind, bytes for send and recv, else 0; negative errno on failure. */
	readonly ret: number;
	/** Why, on failure. */
	readonly error?: Error;
	/** For dump. */
	readonly channels?: readonly ChannelInfo[];
}

let own: Netchannels | undefined;

function toPattern({ data, mask }: Unetchannel): FlowPattern[] {
	const source = data.saddr === undefined ? undefined : parseAddress(data.saddr);
	const destination = data.daddr === undefined ? undefined : parseAddress(data.daddr);
	if (source !== undefined && destination !== undefined && source.family !== destination.family) {
		throw new ChannelError("EINVAL", `saddr ${data.saddr} and daddr ${data.daddr} are of different families`);
	}
	const said = source?.family ?? destination?.family;
	const families: (4 | 6)[] = said === undefined ? [4, 6] : [said];
	return families.map((family) => {
		const words = new Int32Array(PATTERN_WORDS[family]);
		const bits = new Int32Array(PATTERN_WORDS[family]);
		const each = family === 4 ? 1 : 4;
		const place = (at: number, address: typeof source, maskText: string | undefined): void => {
			if (address === undefined) return;
			words.set(address.words, at);
			if (maskText === undefined) bits.fill(-1, at, at + each);
			else {
				const parsed = parseAddress(maskText);
				if (parsed.family !== family)
					throw new ChannelError("EINVAL", `the mask ${maskText} is not of the address's family`);
				bits.set(parsed.words, at);
			}
		};
		place(0, destination, mask?.daddr);
		place(each, source, mask?.saddr);
		const ports = portsWord(family);
		const all = (value: number | undefined, given: number | undefined, full: number): number =>
			given ?? (value === undefined ? 0 : full);
		words[ports] = ((data.dport ?? 0) << 16) | ((data.sport ?? 0) & 0xffff);
		bits[ports] = (all(data.dport, mask?.dport, 0xffff) << 16) | all(data.sport, mask?.sport, 0xffff);
		words[ports + 1] = data.proto ?? 0;
		bits[ports + 1] = all(data.proto, mask?.proto, 0xff);
		return { family, data: words, mask: bits };
	});
}

function run(ctl: NetchannelControl, channels: Netchannels): NetchannelResult {
	switch (ctl.cmd) {
		case "create": {
			const { unc } = ctl;
			const channel = channels.createChannel({
				...matchOf(unc.data),
				patterns: toPattern(unc),
				priority: unc.prio ?? 0,
				type: unc.type ?? "copy",
				byteLimit: 2 ** Math.min(30, Math.max(8, unc.memory_limit_order ?? 20)),
				packetLimit: unc.packet_limit ?? 1024,
				idleTimeoutMs: ctl.timeout ?? 0,
				...(ctl.link === undefined ? {} : { link: ctl.link }),
				...(unc.target === undefined ? {} : { target: unc.target }),
			});
			return { ret: channel.fd };
		}
		case "bind": {
			const found = channels.find(toPattern(ctl.unc));
			if (found === undefined)
				throw new ChannelError("ENOENT", "no channel has exactly these addresses, protocol and ports");
			return { ret: found.fd };
		}
		case "send":
			if (!require(channels, ctl.fd).send(ctl.buf)) throw new ChannelError("EAGAIN", "the link has no room now");
			return { ret: ctl.buf.length };
		case "recv": {
			const channel = require(channels, ctl.fd);
			const { timeout = 0 } = ctl;
			const packet = timeout === 0 ? channel.recv() : channel.recvBlocking(timeout);
			if (packet === undefined) {
				throw timeout === 0
					? new ChannelError("EAGAIN", "no packet waits")
					: new ChannelError("ETIMEDOUT", `no packet came within ${timeout} ms`);
			}
			const kept = Math.min(packet.bytes.length, ctl.buf.length);
			ctl.buf.set(packet.bytes.subarray(0, kept));
			return { ret: kept };
		}
		case "remove":
			require(channels, ctl.fd).close();
			return { ret: 0 };
		case "dump":
			return { ret: 0, channels: channels.dump() };
		default:
			throw new ChannelError(
				"EINVAL",
				`cmd is ${(ctl as { cmd: unknown }).cmd}: expected create, send, recv, bind, remove or dump`,
			);
	}
}

function matchOf(data: Unetdata): object {
	const { daddr, saddr, proto, dport, sport } = data;
	const all = { local: daddr, remote: saddr, protocol: proto, localPort: dport, remotePort: sport };
	return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function require(channels: Netchannels, fd: number): NonNullable<ReturnType<Netchannels["channel"]>> {
	const channel = channels.channel(fd);
	if (channel === undefined) throw new ChannelError("EBADF", `no channel has the number ${fd}`);
	return channel;
}

/**
 * The original interface: one call for everything, a number for every channel, a negative errno for every failure.
 *
 * `create` makes a channel (`-EEXIST` when there is one), `bind` finds one by its addresses, `send` and `recv` move one
 * packet (`-EAGAIN`, `-ETIMEDOUT`), `remove` ends it and `dump` lists all with their counters. It never throws.
 */
export function netchannelControl(ctl: NetchannelControl): NetchannelResult {
	try {
		return run(ctl, ctl.channels ?? (own ??= createNetchannels()));
	} catch (error) {
		const errno = error instanceof ChannelError ? error.errno : errnoOf(error);
		return { ret: -errno, error: error as Error };
	}
}

function errnoOf(error: unknown): number {
	const { code, errno } = error as { code?: string; errno?: number };
	if (typeof errno === "number") return Math.abs(errno);
	if (code === "ERR_FRAME_TOO_LONG") return CHANNEL_ERRNO.EMSGSIZE;
	if (code === "ERR_LINK_CLOSED") return CHANNEL_ERRNO.ENODEV;
	if (code === "ERR_RING_CANNOT_BLOCK") return CHANNEL_ERRNO.ENOTSUP;
	return CHANNEL_ERRNO.EINVAL;
}
