import { LinkError } from "../link/errors.ts";
import type { Link, Offload } from "../link/link.ts";
import { forward, type PortStats } from "./forward.ts";

/** Options of {@link createSwitch}. */
export interface SwitchOptions {
	/** Milliseconds of any steady clock. */
	now(): number;
	/** Milliseconds after which a station that sends nothing is forgotten (802.1Q recommends 300 s). @default 300_000 */
	agingMs?: number;
	/** Stations remembered at a time. @default 4096 */
	stations?: number;
}

/** A plug of a switch or hub. */
export interface SwitchPort {
	readonly link: Link;
	readonly stats: Readonly<PortStats>;
	/** Unplugs the link, which stays open. */
	remove(): void;
}

/** A switch or hub: links plugged in exchange frames. */
export interface LinkSwitch {
	/**
	 * Plugs a link in; its `onFrame` and `onError` are the switch's from now on. A link that fails unplugs itself.
	 *
	 * @throws LinkError `ERR_LINK_OPTION` when it is no Ethernet link
	 */
	add(link: Link): SwitchPort;
	readonly ports: readonly SwitchPort[];
	/** Called when a plugged link failed, or its callback threw. */
	onError: ((error: Error, port: SwitchPort) => void) | undefined;
	/** Unplugs and closes every link. */
	close(): void;
}

/** A learning switch; knows which station is where. */
export interface LearningSwitch extends LinkSwitch {
	/** The stations it knows: their address and port. */
	stations(): { address: string; port: SwitchPort }[];
}

class Port implements SwitchPort {
	readonly link: Link;
	readonly stats: PortStats = { received: 0, sent: 0, dropped: 0 };
	private readonly owner: Hub;

	constructor(owner: Hub, link: Link) {
		this.owner = owner;
		this.link = link;
	}

	remove(): void {
		this.owner.unplug(this);
	}
}

class Hub implements LinkSwitch {
	onError: ((error: Error, port: SwitchPort) => void) | undefined = undefined;
	readonly ports: Port[] = [];

	add(link: Link): SwitchPort {
		if (link.medium !== "ethernet")
			throw new LinkError("ERR_LINK_OPTION", "only Ethernet links can be plugged in: this one carries bare IP");
		const port = new Port(this, link);
		this.ports.push(port);
		link.onFrame = (frame, offload) => {
			port.stats.received++;
			this.input(port, frame, offload);
		};
		link.onError = (error) => {
			if (!(error instanceof LinkError && error.code === "ERR_LINK_CALLBACK")) this.unplug(port);
			this.onError?.(error, port);
		};
		return port;
	}

	unplug(port: Port): void {
		const at = this.ports.indexOf(port);
		if (at < 0) return;
		this.ports.splice(at, 1);
		port.link.onFrame = port.link.onError = undefined;
	}

	close(): void {
		for (const port of [...this.ports]) {
			this.unplug(port);
			port.link.close();
		}
	}

	protected input(from: Port, frame: Uint8Array, offload: Offload | undefined): void {
		this.flood(from, frame, offload);
	}

	protected flood(from: Port, frame: Uint8Array, offload: Offload | undefined): void {
		for (const port of this.ports) if (port !== from) forward(port.link, frame, offload, port.stats);
	}
}

/** Six bytes as a number: 48 bits fit a double, and numbers are cheap keys. */
const addressAt = (frame: Uint8Array, at: number): number =>
	((frame[at]! << 16) | (frame[at + 1]! << 8) | frame[at + 2]!) * 0x1000000 +
	((frame[at + 3]! << 16) | (frame[at + 4]! << 8) | frame[at + 5]!);

const formatMac = (address: number): string =>
	address
		.toString(16)
		.padStart(12, "0")
		.replace(/..(?!$)/g, "$&:");

/** 01-80-C2-00-00-00 to 0F: between neighbours only, never forwarded (802.1Q, table 8-1). */
const LINK_LOCAL = 0x0180c2000000;

interface Station {
	port: Port;
	seen: number;
}

class Learning extends Hub implements LearningSwitch {
	private readonly known = new Map<number, Station>();
	private readonly now: () => number;
	private readonly agingMs: number;
	private readonly limit: number;

	constructor(options: SwitchOptions) {
		super();
		this.now = options.now;
		this.agingMs = options.agingMs ?? 300_000;
		this.limit = options.stations ?? 4096;
	}

	stations(): { address: string; port: SwitchPort }[] {
		const now = this.now();
		return [...this.known]
			.filter(([, { seen }]) => now - seen <= this.agingMs)
			.map(([address, { port }]) => ({ address: formatMac(address), port }));
	}

	override unplug(port: Port): void {
		for (const [address, station] of this.known) if (station.port === port) this.known.delete(address);
		super.unplug(port);
	}

	protected override input(from: Port, frame: Uint8Array, offload: Offload | undefined): void {
		const now = this.now();
		if ((frame[6]! & 1) === 0) this.learn(addressAt(frame, 6), from, now);
		const destination = addressAt(frame, 0);
		if (destination >= LINK_LOCAL && destination <= LINK_LOCAL + 15) return;
		const station = (frame[0]! & 1) === 0 ? this.known.get(destination) : undefined;
		if (station === undefined || now - station.seen > this.agingMs) this.flood(from, frame, offload);
		else if (station.port !== from) forward(station.port.link, frame, offload, station.port.stats);
	}

	private learn(address: number, port: Port, now: number): void {
		const station = this.known.get(address);
		if (station !== undefined) {
			station.port = port;
			station.seen = now;
			return;
		}
		// A flood of made-up addresses forgets the oldest, and never takes more memory.
		if (this.known.size >= this.limit) this.known.delete(this.known.keys().next().value!);
		this.known.set(address, { port, seen: now });
	}
}

/** Makes a switch that learns who is where and floods only what it must. */
export function createSwitch(options: SwitchOptions): LearningSwitch {
	return new Learning(options);
}

/** Makes a hub: every frame goes out of every other port. */
export function createHub(): LinkSwitch {
	return new Hub();
}
