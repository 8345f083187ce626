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

	private bucket(local: number, remote: number, localPort: number, remotePort: number): TcpConnection | undefined {
		return this.buckets.get(this.hash(local, remote, localPort, remotePort));
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

	/** The connection an incoming packet belongs to. */
	find(packet: Packet, localPort: number, remotePort: number): TcpConnection | undefined {
		const { sa, sb, sc, sd, da, db, dc, dd } = packet;
		for (let c = this.bucket(dd ^ db, sd ^ sb, localPort, remotePort); c !== undefined; c = c.chain) {
			if (c.localPort !== localPort || c.remotePort !== remotePort) continue;
			const { source, destination } = c.path;
			if (
				source.d === dd &&
				destination.d === sd &&
				source.c === dc &&
				destination.c === sc &&
				source.b === db &&
				destination.b === sb &&
				source.a === da &&
				destination.a === sa
			) {
				return c;
			}
		}
		return undefined;
	}

	/** The connection between two ends. */
	get(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number): TcpConnection | undefined {
		let c = this.bucket(local.d ^ local.b, remote.d ^ remote.b, localPort, remotePort);
		while (
			c !== undefined &&
			!(
				c.localPort === localPort &&
				c.remotePort === remotePort &&
				c.path.source.equals(local) &&
				c.path.destination.equals(remote)
			)
		)
			c = c.chain;
		return c;
	}

	portInUse(port: number): boolean {
		return this.ports.has(port);
	}

	*all(): Generator<TcpConnection> {
		for (const head of this.buckets.values())
			for (let c: TcpConnection | undefined = head; c !== undefined; c = c.chain) yield c;
	}
}
