import { CallbackTimer } from "../ip/timers.ts";
import type { Host } from "../socket/host.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import type { FlowContext, Flow as JudgedFlow } from "./flow.ts";
import type { GatewayLimits } from "./limits.ts";
import type { Outbound, OutboundDatagrams } from "./outbound.ts";

/** RFC 4787 REQ-5: two minutes at the least; short for flows with one answer. */
const IDLE_MS = 180_000;
const ONE_SHOT_MS = 30_000;
const MAX_FLOWS = 2_048;
const MAX_PEERS = 256;
const MAX_WAITING = 16;
const SWEEP_MS = 10_000;
const DENIED_MS = 1_000;

interface Peer {
	allowed: boolean | undefined;
	/** False for a forward, which the rules do not touch. */
	readonly judged: boolean;
	judgedAt: number;
	/** As whom it answers. */
	readonly as: IpAddress;
	readonly asPort: number;
	readonly waiting: Uint8Array[];
}

interface Flow {
	readonly guest: IpAddress;
	readonly guestPort: number;
	/** Opened by the first datagram that may go. */
	socket: OutboundDatagrams | undefined;
	/** By `address,port`. */
	readonly peers: Map<string, Peer>;
	sent: number;
	received: number;
	usedAt: number;
}

interface Published {
	readonly reply: (bytes: Uint8Array) => void;
	usedAt: number;
}

/** UDP between guests and outside sockets: one socket per guest's port, answers only from peers it has spoken to. */
export class UdpNat {
	private readonly host: Host;
	private readonly outbound: Outbound;
	private readonly context: FlowContext;
	/** Flows at once. */
	maxFlows: number;
	private readonly flows = new Map<string, Flow>();
	private readonly published = new Map<string, { socket: ReturnType<Host["udp"]["open"]>; entry: Published }>();
	private readonly sweeper = new CallbackTimer((now) => this.sweep(now));

	constructor(host: Host, outbound: Outbound, context: FlowContext, maxFlows: number = MAX_FLOWS) {
		this.host = host;
		this.outbound = outbound;
		this.context = context;
		this.maxFlows = maxFlows;
	}

	setLimits(limits: GatewayLimits): void {
		this.maxFlows = limits.udpFlows ?? MAX_FLOWS;
	}

	private flowOf(guest: IpAddress, guestPort: number): Flow {
		const key = `${guest},${guestPort}`;
		const known = this.flows.get(key);
		if (known !== undefined) {
			known.usedAt = this.host.driver.now();
			return known;
		}
		while (this.flows.size >= this.maxFlows) this.drop(this.flows.keys().next().value!);
		const flow: Flow = {
			guest,
			guestPort,
			socket: undefined,
			peers: new Map(),
			sent: 0,
			received: 0,
			usedAt: this.host.driver.now(),
		};
		this.flows.set(key, flow);
		this.armSweep();
		return flow;
	}

	/** A flow's socket outside: answers come only from peers the guest has spoken to. */
	private openSocket(flow: Flow): OutboundDatagrams {
		const socket = this.outbound.datagrams(flow.guest.family);
		socket.onMessage = (bytes, address, port) => {
			const from = parseAddress(address);
			const peer = from === undefined ? undefined : flow.peers.get(`${from},${port}`);
			if (peer?.allowed !== true) return;
			if (!this.context.in.takeAll(bytes.length, this.host.driver.now())) return;
			flow.received++;
			flow.usedAt = this.host.driver.now();
			this.host.udp.sendFrom(peer.as, peer.asPort, flow.guest, flow.guestPort, bytes);
			this.host.driver.wake();
		};
		socket.onError = () => this.drop(`${flow.guest},${flow.guestPort}`);
		return socket;
	}

	private drop(key: string): void {
		const flow = this.flows.get(key);
		if (flow === undefined) return;
		this.flows.delete(key);
		flow.socket?.close();
	}

	private armSweep(): void {
		if (this.sweeper.timerIndex < 0) this.host.stack.timers.schedule(this.sweeper, this.host.driver.now() + SWEEP_MS);
	}

	private sweep(now: number): void {
		for (const [key, flow] of this.flows) {
			const limit = flow.sent <= 1 && flow.received <= 1 ? ONE_SHOT_MS : IDLE_MS;
			if (now - flow.usedAt > limit) this.drop(key);
		}
		for (const [key, { socket, entry }] of this.published) {
			if (now - entry.usedAt <= IDLE_MS) continue;
			socket.close();
			this.published.delete(key);
		}
		if (this.flows.size + this.published.size > 0) this.armSweep();
	}

	/** A guest's datagram for somebody outside; false when it is denied. `judged` gives the flow to judge, once per peer. */
	outgoing(
		source: IpAddress,
		sourcePort: number,
		address: IpAddress,
		port: number,
		data: Uint8Array,
		judged: () => JudgedFlow,
	): boolean {
		const flow = this.flowOf(source, sourcePort);
		const text = address.toString();
		const key = `${text},${port}`;
		const now = this.host.driver.now();
		let peer = flow.peers.get(key);
		if (peer?.allowed === false) {
			if (now - peer.judgedAt <= DENIED_MS) return false;
			// A denial is thought over after a while: names may have been bound since.
			peer = undefined;
		}
		if (peer === undefined) {
			if (flow.peers.size >= MAX_PEERS) flow.peers.delete(flow.peers.keys().next().value!);
			const fresh: Peer = { allowed: undefined, judged: true, judgedAt: now, as: address, asPort: port, waiting: [] };
			flow.peers.set(key, fresh);
			const verdict = this.context.judge(judged());
			if (verdict instanceof Promise) {
				fresh.waiting.push(data);
				void verdict.then((late) => {
					fresh.allowed = late.allowed;
					fresh.judgedAt = this.host.driver.now();
					const waiting = fresh.waiting.splice(0);
					if (late.allowed) for (const bytes of waiting) this.send(flow, bytes, text, port);
				});
				return true;
			}
			fresh.allowed = verdict.allowed;
			peer = fresh;
		}
		if (peer.allowed === undefined) {
			if (peer.waiting.length < MAX_WAITING) peer.waiting.push(data);
			return true;
		}
		if (peer.allowed) this.send(flow, data, text, port);
		return peer.allowed;
	}

	private send(flow: Flow, data: Uint8Array, address: string, port: number): void {
		if (!this.context.out.takeAll(data.length, this.host.driver.now())) return;
		flow.sent++;
		flow.socket ??= this.openSocket(flow);
		flow.socket.send(data, address, port);
	}

	/** The rules have changed: every peer is judged anew. */
	forgetVerdicts(): void {
		for (const flow of this.flows.values())
			for (const [key, peer] of flow.peers) if (peer.judged) flow.peers.delete(key);
	}

	/** A guest's datagram to a port of the gateway that leads outside. */
	forward(
		guest: IpAddress,
		guestPort: number,
		as: IpAddress,
		asPort: number,
		data: Uint8Array,
		to: { address: string; port: number },
	): void {
		const flow = this.flowOf(guest, guestPort);
		const address = parseAddress(to.address)?.toString() ?? to.address;
		flow.peers.set(`${address},${to.port}`, { allowed: true, judged: false, judgedAt: 0, as, asPort, waiting: [] });
		this.send(flow, data, to.address, to.port);
	}

	/** A datagram from outside for a published port: sent from a socket of its own, so that the answer finds back. */
	incoming(
		guest: IpAddress,
		guestPort: number,
		remote: { address: string; port: number },
		data: Uint8Array,
		reply: (bytes: Uint8Array) => void,
		from: IpAddress | undefined,
	): void {
		const key = `${guest},${guestPort},${remote.address},${remote.port}`;
		let known = this.published.get(key);
		if (known === undefined) {
			if (this.published.size >= this.maxFlows) {
				const oldest = this.published.entries().next().value!;
				oldest[1].socket.close();
				this.published.delete(oldest[0]);
			}
			const entry: Published = { reply, usedAt: 0 };
			const socket = this.host.udp.open({
				...(from === undefined ? {} : { address: from }),
				onMessage: (bytes, source) => {
					if (source.port !== guestPort || !source.address.equals(guest)) return;
					entry.usedAt = this.host.driver.now();
					entry.reply(bytes.slice());
				},
			});
			known = { socket, entry };
			this.published.set(key, known);
			this.armSweep();
		}
		known.entry.usedAt = this.host.driver.now();
		try {
			known.socket.send(data, guest, guestPort);
		} catch {
			// No route to the guest (any more): a datagram may be lost.
		}
	}

	close(): void {
		this.host.stack.timers.cancel(this.sweeper);
		for (const key of [...this.flows.keys()]) this.drop(key);
		for (const { socket } of this.published.values()) socket.close();
		this.published.clear();
	}
}
