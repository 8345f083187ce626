import { socketError } from "../errors.ts";
import type { Packet } from "../ip/packet.ts";
import { ANY4 } from "../wire/address.ts";
import { abort, finished } from "./closing.ts";
import type { TcpCore } from "./core.ts";
import { Listener, type ListenOptions } from "./listener.ts";
import { freePort } from "./ports.ts";
import { SYN_RECEIVED } from "./state.ts";

/** A layer's passive sockets by port. */
export class ListenerTable {
	private readonly layer: TcpCore;
	private readonly ports = new Map<number, Listener[]>();

	constructor(layer: TcpCore) {
		this.layer = layer;
	}

	/** See {@link TcpCore.listen}. */
	open(options: ListenOptions): Listener {
		const { layer } = this;
		const { address } = options;
		if (address !== undefined && !address.isUnspecified && !layer.stack.isLocal(address))
			throw socketError("EADDRNOTAVAIL", "listen", address.toString(), options.port);
		const port =
			options.port || freePort(layer, (candidate) => !this.has(candidate) && !layer.table.portInUse(candidate));
		const listener = new Listener(layer, port ?? 0, options);
		const others = this.ports.get(listener.port) ?? [];
		if (port === undefined || others.some((other) => overlap(other, listener)))
			throw socketError("EADDRINUSE", "listen", (address ?? ANY4).toString(), listener.port);
		this.ports.set(port, [...others, listener]);
		return listener;
	}

	/** Takes a listener out; what it has not given to anybody is reset. */
	close(listener: Listener): void {
		if (listener.closed) return;
		listener.closed = true;
		const others = this.ports.get(listener.port)!.filter((other) => other !== listener);
		if (others.length === 0) this.ports.delete(listener.port);
		else this.ports.set(listener.port, others);
		for (const c of listener.queue.splice(0)) abort(c);
		for (const c of [...this.layer.table.all()])
			if (c.listener === listener && c.state === SYN_RECEIVED && !c.earlyOpen) finished(c, "silent");
	}

	has(port: number): boolean {
		return this.ports.has(port);
	}

	/** Who listens for a packet: the most exact address wins. */
	find(packet: Packet, port: number): Listener | undefined {
		const candidates = this.ports.get(port);
		if (candidates === undefined) return undefined;
		const destination = packet.destination();
		let best: Listener | undefined;
		let bestFit = -1;
		for (const candidate of candidates) {
			const fit = candidate.fits(destination);
			if (fit > bestFit) {
				best = candidate;
				bestFit = fit;
			}
		}
		return best;
	}

	/** Every listener. */
	*all(): Generator<Listener> {
		for (const listeners of this.ports.values()) yield* listeners;
	}
}

/** The one family a listener takes connections of, 0 for both. */
function familyOf({ address, ipv6Only }: Listener): number {
	return address === undefined || (address.isUnspecified && address.family === 6 && !ipv6Only) ? 0 : address.family;
}

function overlap(x: Listener, y: Listener): boolean {
	if (familyOf(x) * familyOf(y) > 0 && familyOf(x) !== familyOf(y)) return false;
	const a = x.address;
	const b = y.address;
	if (a === undefined || b === undefined) return true;
	return a.isUnspecified || b.isUnspecified || a.equals(b);
}
