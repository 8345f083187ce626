import type { Packet } from "../ip/packet.ts";
import type { IpAddress } from "../wire/address.ts";
import type { TcpConnection } from "./connection.ts";

/** Connections by their four-tuple: chained buckets under a keyed hash. */
export class ConnectionTable {
	private readonly buckets = new Map<number, TcpConnection>();
	private readonly seed: number;
	/** Users of each local port. */
	private readonly ports = new Map<number, number>();
	size = 0;

	constructor(seed: number) {
		this.seed = seed;
	}

	private hash(local: number, remote: number, localPort: number, remotePort: number): number {
		let h = Math.imul(local ^ this.seed, 0x9e3779b1) ^ Math.imul((remotePort << 16) | localPort, 0x85ebca6b);
		h = Math.imul(h ^ (h >>> 15) ^ remote, 0xc2b2ae35);
		return (h ^ (h >>> 13)) | 0;
	}

	private key(c: TcpConnection): number {
		const { source, destination } = c.path;
		return this.hash(source.d ^ source.b, destination.d ^ destination.b, c.localPort, c.remotePort);
	}

	add(c: TcpConnection): void {
		const key = this.key(c);
		c.chain = this.buckets.get(key);
		this.buckets.set(key, c);
		this.ports.set(c.localPort, (this.ports.get(c.localPort) ?? 0) + 1);
		this.size++;
	}

	remove(c: TcpConnection): boolean {
		const key = this.key(c);
		let previous: TcpConnection | undefined;
		for (let entry = this.buckets.get(key); entry !== undefined; previous = entry, entry = entry.chain) {
			if (entry !== c) continue;
			if (previous !== undefined) previous.chain = c.chain;
			else if (c.chain !== undefined) this.buckets.set(key, c.chain);
			else this.buckets.delete(key);
			c.chain = undefined;
			const users = this.ports.get(c.localPort)! - 1;
			if (users === 0) this.ports.delete(c.localPort);
			else this.ports.set(c.localPort, users);
			this.size--;
			return true;
		}
		return false;
	}

	/** The connection an incoming packet belongs to; `quoted` packets are our own, the other way round. */
	find(packet: Packet, localPort: number, remotePort: number, quoted: boolean): TcpConnection | undefined {
		const { sa, sb, sc, sd, da, db, dc, dd } = packet;
		const local = quoted ? sd ^ sb : dd ^ db;
		const remote = quoted ? dd ^ db : sd ^ sb;
		for (let c = this.buckets.get(this.hash(local, remote, localPort, remotePort)); c !== undefined; c = c.chain) {
			if (c.localPort !== localPort || c.remotePort !== remotePort) continue;
			const { source, destination } = c.path;
			const near = quoted ? destination : source;
			const far = quoted ? source : destination;
			if (
				near.d === dd &&
				far.d === sd &&
				near.c === dc &&
				far.c === sc &&
				near.b === db &&
				far.b === sb &&
				near.a === da &&
				far.a === sa
			) {
				return c;
			}
		}
		return undefined;
	}

	has(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number): boolean {
		for (
			let c = this.buckets.get(this.hash(local.d ^ local.b, remote.d ^ remote.b, localPort, remotePort));
			c !== undefined;
			c = c.chain
		) {
			if (
				c.localPort === localPort &&
				c.remotePort === remotePort &&
				c.path.source.equals(local) &&
				c.path.destination.equals(remote)
			)
				return true;
		}
		return false;
	}

	portInUse(port: number): boolean {
		return this.ports.has(port);
	}

	*all(): Generator<TcpConnection> {
		for (const head of this.buckets.values())
			for (let c: TcpConnection | undefined = head; c !== undefined; c = c.chain) yield c;
	}
}
