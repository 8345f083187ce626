import type { IpAddress } from "../wire/address.ts";

const MAX_ADDRESSES = 8_192;
const MAX_NAMES = 64;
/** Resolvers' caches live a little longer than a TTL of 0 says. */
const SHORTEST_MS = 30_000;

/**
 * What names resolved to, per guest: only the guest that was given an address may use the name's rule for it, and no
 * longer than the answer's TTL and a grace. Bounded; the oldest address goes first.
 */
export class NameBindings {
	/** Milliseconds beyond the TTL: a guest's cache may be late. */
	readonly graceMs: number;
	private readonly addresses = new Map<string, Map<string, number>>();

	constructor(graceMs: number) {
		this.graceMs = graceMs;
	}

	/** Remembers that a guest was told that `name` is at `address`. */
	bind(guest: string, name: string, address: IpAddress, ttlSeconds: number, now: number): void {
		const key = `${guest},${address}`;
		const names = this.addresses.get(key) ?? new Map<string, number>();
		this.addresses.delete(key);
		if (this.addresses.size >= MAX_ADDRESSES) this.addresses.delete(this.addresses.keys().next().value!);
		this.addresses.set(key, names);
		if (names.size >= MAX_NAMES && !names.has(name)) names.delete(names.keys().next().value!);
		const until = now + Math.max(SHORTEST_MS, ttlSeconds * 1000) + this.graceMs;
		names.set(name, Math.max(until, names.get(name) ?? 0));
	}

	/** The names a guest may mean by an address. */
	namesOf(guest: string, address: IpAddress, now: number): string[] {
		const key = `${guest},${address}`;
		const names = this.addresses.get(key);
		if (names === undefined) return [];
		for (const [name, until] of names) if (until <= now) names.delete(name);
		if (names.size === 0) this.addresses.delete(key);
		return [...names.keys()];
	}
}
