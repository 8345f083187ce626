import type { PacketKey } from "./packet.ts";

/**
 * Remembers the ports of fragmented packets, which only the first fragment carries, for the fragments after it. Bounded
 * in number and time; what came before its first fragment has no ports.
 */
export class FragmentCache {
	private readonly limit: number;
	private readonly timeoutMs: number;
	private readonly ports = new Map<string, { ports: number; until: number }>();

	constructor(limit: number, timeoutMs: number) {
		this.limit = limit;
		this.timeoutMs = timeoutMs;
	}

	/** Stores a first fragment's ports, or fills a later fragment's in. */
	join(key: PacketKey, nowMs: number): void {
		const addresses = key.family === 4 ? key.address.subarray(0, 2) : key.address;
		// RFC 791 joins by protocol too; RFC 8200 (4.5) by addresses and identification only.
		const name = `${addresses.join()},${key.family === 4 ? key.protocol : ""},${key.identification}`;
		if (!key.laterFragment) {
			if (!key.hasPorts) return;
			this.ports.delete(name);
			this.ports.set(name, { ports: key.ports, until: nowMs + this.timeoutMs });
			if (this.ports.size > this.limit) this.ports.delete(this.ports.keys().next().value!);
			return;
		}
		const first = this.ports.get(name);
		if (first === undefined || first.until < nowMs) return;
		key.ports = first.ports;
		key.hasPorts = true;
	}
}
