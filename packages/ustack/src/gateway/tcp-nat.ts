import type { Packet } from "../ip/packet.ts";
import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import { Listener } from "../tcp/listener.ts";
import type { IpAddress } from "../wire/address.ts";
import { ConnectionCheck } from "./connection-check.ts";
import { endpoint, type Flow, type FlowContext, requestOf } from "./flow.ts";
import type { Interceptor } from "./interceptor.ts";
import type { GatewayLimits } from "./limits.ts";
import { RateLimit } from "./limits.ts";
import type { Outbound, OutboundStream } from "./outbound.ts";
import type { EgressPolicy, Verdict } from "./policy.ts";
import { relay } from "./relay.ts";

interface PendingFlow {
	state: "deciding" | "ready" | "refused" | "silent";
	frame: Uint8Array;
	stream: OutboundStream | undefined;
	flow: Flow;
	check: Verdict["check"];
	target: { address: string; port: number };
}

/** What {@link TcpNat} works with. */
export interface TcpNatOptions {
	readonly outbound: Outbound;
	readonly context: FlowContext;
	readonly policy: () => EgressPolicy;
	readonly interceptor: Interceptor | undefined;
	readonly limits: GatewayLimits;
}

const MAX_FLOWS = 16_384;
const MAX_PENDING = 1_024;

const VOUCHED = {
	needsCsum: false,
	dataValid: true,
	csumStart: 0,
	csumOffset: 0,
	gsoType: "none",
	gsoSize: 0,
	hdrLen: 0,
	ecn: false,
} as const;

/**
 * TCP between guests and the outside. A guest's SYN waits until the outside has answered the gateway's own connection, so
 * that what is refused or unreachable there is so for the guest.
 */
export class TcpNat {
	private readonly host: Host;
	private readonly options: TcpNatOptions;
	private readonly pending = new Map<string, PendingFlow>();
	private readonly listener: Listener;
	private readonly opening: RateLimit;
	private readonly streams = new Set<OutboundStream>();
	private maxFlows: number;
	private flows = 0;

	constructor(host: Host, options: TcpNatOptions) {
		this.host = host;
		this.options = options;
		this.listener = new Listener(host.tcp, 0, {
			port: 0,
			onConnection: (c) => this.established(c),
			backlog: MAX_PENDING,
		});
		this.maxFlows = options.limits.connections ?? MAX_FLOWS;
		this.opening = new RateLimit(host.stack, options.limits.connectionsPerSecond, 1);
	}

	setLimits(limits: GatewayLimits): void {
		this.maxFlows = limits.connections ?? MAX_FLOWS;
		this.opening.set(limits.connectionsPerSecond, 1);
	}

	/** Connections there are. */
	get size(): number {
		return this.flows;
	}

	/**
	 * A guest's SYN: the listener that takes it, true to leave it unanswered for now, false to refuse it.
	 *
	 * @param reverse - where it leads without being judged
	 */
	syn(
		packet: Packet,
		localPort: number,
		remotePort: number,
		reverse: { address: string; port: number } | undefined,
	): Listener | boolean {
		const key = `${packet.source()},${remotePort},${packet.destination()},${localPort}`;
		const known = this.pending.get(key);
		if (known !== undefined) {
			if (known.state === "ready") return this.listener;
			if (known.state === "deciding") return true;
			this.pending.delete(key);
			return known.state === "silent";
		}
		const { context } = this.options;
		const flow = context.flowOf(packet, "tcp", remotePort, localPort);
		if (
			this.pending.size >= MAX_PENDING ||
			this.flows >= this.maxFlows ||
			this.opening.take(1, this.host.stack.now) === 0
		) {
			context.audit(flow, { action: "deny", reason: "limit" });
			return true;
		}
		const verdict = reverse === undefined ? context.judge(flow) : { allowed: true, reason: "exposed" };
		if (!(verdict instanceof Promise) && !verdict.allowed) return false;
		const entry: PendingFlow = {
			state: "deciding",
			frame: packet.bytes.slice(),
			stream: undefined,
			flow,
			check: undefined,
			target: reverse ?? { address: flow.address.toString(), port: flow.port },
		};
		this.pending.set(key, entry);
		if (verdict instanceof Promise) {
			void verdict.then((late) => {
				if (late.allowed) this.open(key, entry, late);
				else this.again(key, entry, "refused");
			});
		} else this.open(key, entry, verdict);
		return true;
	}

	/** The SYN is looked at once more, now that its fate is known. */
	private again(key: string, entry: PendingFlow, state: PendingFlow["state"]): void {
		if (this.pending.get(key) !== entry) return;
		entry.state = state;
		const iface = this.host.stack.interfaces[1];
		if (iface !== undefined) {
			this.host.stack.input(entry.frame, this.host.driver.now(), VOUCHED, iface);
			this.host.driver.wake();
		}
		if (state !== "ready") this.pending.delete(key);
	}

	private open(key: string, entry: PendingFlow, verdict: Verdict): void {
		if (this.pending.get(key) !== entry) return;
		entry.check = verdict.check;
		const stream = this.connect(entry.target);
		entry.stream = stream;
		stream.onConnect = () => {
			stream.pause();
			this.again(key, entry, "ready");
		};
		stream.onClose = (code) => {
			this.streams.delete(stream);
			if (entry.state !== "deciding") {
				this.pending.delete(key);
				return;
			}
			this.options.context.audit(entry.flow, { action: "close", reason: code ?? "closed" });
			this.again(key, entry, code === "ETIMEDOUT" ? "silent" : "refused");
		};
	}

	private connect(target: { address: string; port: number }): OutboundStream {
		const stream = this.options.outbound.connect(target.address, target.port);
		this.streams.add(stream);
		return stream;
	}

	private established(c: TcpConnection): undefined {
		const key = `${c.remoteAddress},${c.remotePort},${c.localAddress},${c.localPort}`;
		const entry = this.pending.get(key);
		this.pending.delete(key);
		const stream = entry?.stream;
		if (entry === undefined || stream === undefined) {
			c.abort();
			return undefined;
		}
		this.flows++;
		// The layer takes the handlers this returns; the relay's are set after it has.
		queueMicrotask(() => this.join(entry, c, stream));
		return undefined;
	}

	private join(entry: PendingFlow, c: TcpConnection, stream: OutboundStream): void {
		const { flow, target } = entry;
		const { context, interceptor, policy } = this.options;
		const listens = interceptor?.listens(requestOf(flow)) ?? false;
		const check =
			entry.check === undefined && !listens
				? undefined
				: new ConnectionCheck({
						port: flow.port,
						check: entry.check,
						policy,
						wants: (first) => listens && interceptor!.wants(requestOf(flow), first),
					});
		const over = () => {
			this.flows--;
			this.streams.delete(stream);
		};
		relay(c, stream, {
			out: context.out,
			in: context.in,
			now: () => this.host.driver.now(),
			check,
			onDeny: () => context.audit(flow, { action: "deny", reason: check!.reason }),
			onTake: () => {
				stream.pause();
				interceptor!.take({
					request: requestOf(flow),
					first: check!.first!,
					host: this.host,
					connection: c,
					stream,
					reconnect: () => this.connect(target),
					decideName: (name) => policy().decideName(name, flow.port, entry.check ?? "not-denied"),
					audit: (event) => context.audit(flow, event),
					done: over,
				});
			},
			onDone: (stats) => {
				over();
				context.audit(flow, {
					action: "close",
					reason: c.error?.code ?? "done",
					bytesOut: stats.toOutside,
					bytesIn: stats.toGuest,
				});
			},
		});
		stream.resume();
	}

	/** A connection from outside for a published port. */
	published(
		stream: OutboundStream,
		remote: { address: string; port: number },
		guest: IpAddress | undefined,
		port: number,
		audit: (event: { reason: string; bytesOut: number; bytesIn: number; destination: string; source: string }) => void,
	): void {
		stream.pause();
		if (guest === undefined || this.flows >= this.maxFlows) {
			stream.destroy();
			return;
		}
		const { context } = this.options;
		let c: TcpConnection;
		const over = () => {
			this.flows--;
			this.streams.delete(stream);
		};
		try {
			c = this.host.tcp.connect(guest, port, {
				onConnect: () => {
					relay(c, stream, {
						out: context.out,
						in: context.in,
						now: () => this.host.driver.now(),
						onDone: (stats) => {
							over();
							audit({
								source: remote.address.includes(":")
									? `[${remote.address}]:${remote.port}`
									: `${remote.address}:${remote.port}`,
								destination: endpoint(guest, port),
								reason: c.error?.code ?? "published",
								bytesOut: stats.toOutside,
								bytesIn: stats.toGuest,
							});
						},
					});
					stream.resume();
				},
				onClose: () => {
					over();
					stream.destroy();
				},
			});
		} catch {
			stream.destroy();
			return;
		}
		this.flows++;
		this.streams.add(stream);
		stream.onClose = () => {
			over();
			c.abort();
		};
	}

	/** Drops every connection, here and outside. */
	close(): void {
		for (const { stream } of this.pending.values()) stream?.destroy();
		this.pending.clear();
		for (const stream of this.streams) stream.destroy();
		this.streams.clear();
		this.opening.close();
	}
}
