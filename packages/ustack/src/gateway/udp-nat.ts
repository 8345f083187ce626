import { CallbackTimer } from "../ip/timers.ts";
import type { Host } from "../socket/host.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import type { Outbound, OutboundDatagrams } from "./outbound.ts";
import type { EgressRequest } from "./policy.ts";

/** RFC 4787 REQ-5: two minutes at the least; short for flows with one answer. */
const IDLE_MS = 180_000;
const ONE_SHOT_MS = 30_000;
const MAX_FLOWS = 2_048;
const MAX_PEERS = 256;
const MAX_WAITING = 16;
const SWEEP_MS = 10_000;
const DENIED_MS = 1_000;

interface Flow {
	readonly guest: IpAddress;
	readonly guestPort: number;
	readonly socket: OutboundDatagrams;
	/** Peers by `address,port`: judged, and as whom they answer. */
	readonly peers: Map<
		string,
		{ allowed: boolean | undefined; judgedAt: number; as: IpAddress; asPort: number; waiting: Uint8Array[] }
	>;
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
	private readonly judge: (request: EgressRequest) => Promise<boolean>;
	private readonly flows = new Map<string, Flow>();
	private readonly published = new Map<string, { socket: ReturnType<Host["udp"]["open"]>; entry: Published }>();
	private readonly sweeper = new CallbackTimer((now) => this.sweep(now));

	constructor(host: Host, outbound: Outbound, judge: (request: EgressRequest) => Promise<boolean>) {
		this.host = host;
		this.outbound = outbound;
		this.judge = judge;
	}

	private flowOf(guest: IpAddress, guestPort: number): Flow {
		const key = `${guest},${guestPort}`;
		const known = this.flows.get(key);
		if (known !== undefined) {
			known.usedAt = this.host.driver.now();
			return known;
		}
		if (this.flows.size >= MAX_FLOWS) this.drop(this.flows.keys().next().value!);
		const socket = this.outbound.datagrams(guest.family);
		const flow: Flow = {
			guest,
			guestPort,
			socket,
			peers: new Map(),
			sent: 0,
			received: 0,
			usedAt: this.host.driver.now(),
		};
		socket.onMessage = (bytes, address, port) => {
			const from = parseAddress(address);
			const peer = from === undefined ? undefined : flow.peers.get(`${from},${port}`);
			if (peer?.allowed !== true) return;
			flow.received++;
			flow.usedAt = this.host.driver.now();
			this.host.udp.sendFrom(peer.as, peer.asPort, guest, guestPort, bytes);
			this.host.driver.wake();
		};
		socket.onError = () => this.drop(key);
		this.flows.set(key, flow);
		this.armSweep();
		return flow;
	}

	private drop(key: string): void {
		const flow = this.flows.get(key);
		if (flow === undefined) return;
		this.flows.delete(key);
		flow.socket.close();
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

	/** A guest's datagram for somebody outside. */
	outgoing(request: EgressRequest, guestPort: number, data: Uint8Array): void {
		const flow = this.flowOf(request.source, guestPort);
		const text = request.address.toString();
		const key = `${text},${request.port}`;
		let peer = flow.peers.get(key);
		// A denial is thought over after a while: names may have been bound since.
		if (peer?.allowed === false && this.host.driver.now() - peer.judgedAt > DENIED_MS) peer = undefined;
		if (peer === undefined) {
			if (flow.peers.size >= MAX_PEERS) flow.peers.delete(flow.peers.keys().next().value!);
			peer = { allowed: undefined, judgedAt: 0, as: request.address, asPort: request.port, waiting: [data] };
			flow.peers.set(key, peer);
			const fresh = peer;
			void this.judge(request).then((allowed) => {
				fresh.allowed = allowed;
				const waiting = fresh.waiting.splice(0);
				fresh.judgedAt = this.host.driver.now();
				if (!allowed) return;
				for (const bytes of waiting) this.send(flow, bytes, text, request.port);
			});
			return;
		}
		if (peer.allowed === undefined) {
			if (peer.waiting.length < MAX_WAITING) peer.waiting.push(data);
			return;
		}
		if (peer.allowed) this.send(flow, data, text, request.port);
	}

	private send(flow: Flow, data: Uint8Array, address: string, port: number): void {
		flow.sent++;
		flow.socket.send(data, address, port);
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
		flow.peers.set(`${address},${to.port}`, { allowed: true, judgedAt: 0, as, asPort, waiting: [] });
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
			if (this.published.size >= MAX_FLOWS) {
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
