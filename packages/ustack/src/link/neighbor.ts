import type { Timer } from "../ip/timers.ts";
import type { IpAddress } from "../wire/address.ts";
import type { Interface } from "./interface.ts";

/** RFC 4861 section 7.3.2's states, used for ARP as well (RFC 1122 2.3.2.1). */
export type NeighborState = "incomplete" | "reachable" | "stale" | "delay" | "probe" | "failed";

const REACHABLE_MS = 30_000;
const DELAY_MS = 5_000;
const RETRANS_MS = 1_000;
const MAX_PROBES = 3;
const FAILED_MS = 3_000;
/** Bytes of frames waiting for one neighbour, and for all of an interface's. */
const MAX_QUEUE_BYTES = 212_992;
const MAX_TABLE_BYTES = 4 << 20;
const MAX_ENTRIES = 1024;

/** A next hop's link-layer address and how sure of it we are. */
export class Neighbor implements Timer {
	timerIndex = -1;
	timerAt = 0;
	readonly address: IpAddress;
	readonly mac: Uint8Array = new Uint8Array(6);
	state: NeighborState = "incomplete";
	/** A router, by its own word (RFC 4861 IsRouter). */
	isRouter = false;
	probes = 0;
	confirmedAt = 0;
	usedAt = 0;
	/** Frames waiting for the address, their destination MAC still open. */
	readonly queue: Uint8Array[] = [];
	queuedBytes = 0;
	readonly table: NeighborTable;

	constructor(table: NeighborTable, address: IpAddress) {
		this.table = table;
		this.address = address;
	}

	/** The upper layer saw its packets arrive (RFC 4861 7.3.1). */
	confirm(now: number): void {
		if (this.state === "incomplete" || this.state === "failed") return;
		this.confirmedAt = now;
		this.state = "reachable";
	}

	fire(now: number): void {
		this.table.expire(this, now);
	}
}

/** The neighbours of one interface; bounded, the least recently used goes first. */
export class NeighborTable {
	private readonly entries = new Map<string, Neighbor>();
	private readonly iface: Interface;
	private queuedBytes = 0;

	constructor(iface: Interface) {
		this.iface = iface;
	}

	find(address: IpAddress): Neighbor | undefined {
		return this.entries.get(address.toString());
	}

	obtain(address: IpAddress): Neighbor {
		const key = address.toString();
		const known = this.entries.get(key);
		if (known !== undefined) return known;
		if (this.entries.size >= MAX_ENTRIES) this.evict();
		const entry = new Neighbor(this, address);
		entry.usedAt = this.iface.stack.now;
		this.entries.set(key, entry);
		return entry;
	}

	private evict(): void {
		let oldest: [string, Neighbor] | undefined;
		for (const pair of this.entries) {
			if (oldest === undefined || pair[1].usedAt < oldest[1].usedAt) oldest = pair;
		}
		if (oldest === undefined) return;
		this.iface.stack.timers.cancel(oldest[1]);
		this.unqueue(oldest[1]);
		this.entries.delete(oldest[0]);
		this.iface.stack.routesChanged();
	}

	/**
	 * Makes sure `entry` may be sent to.
	 *
	 * @returns true when its MAC can be used now; false when the frame must wait in its queue
	 */
	ready(entry: Neighbor, now: number): boolean {
		entry.usedAt = now;
		if (entry.state === "reachable") {
			if (now - entry.confirmedAt < REACHABLE_MS) return true;
			entry.state = "stale";
		}
		switch (entry.state) {
			case "stale":
				entry.state = "delay";
				this.iface.stack.timers.schedule(entry, now + DELAY_MS);
				return true;
			case "delay":
			case "probe":
				return true;
			case "failed":
				return false;
			default:
				if (entry.timerIndex < 0) this.solicit(entry, now);
				return false;
		}
	}

	/** Its packets go unanswered: confirm the address before long (RFC 1122 2.3.2.1). */
	suspect(entry: Neighbor): void {
		if (entry.state === "reachable") entry.state = "stale";
	}

	/** Keeps a copy of the frame until the address is known; false when the neighbour has failed. */
	enqueue(entry: Neighbor, frame: Uint8Array): boolean {
		if (entry.state === "failed") return false;
		entry.queue.push(frame.slice());
		entry.queuedBytes += frame.length;
		this.queuedBytes += frame.length;
		while (entry.queue.length > 0 && (entry.queuedBytes > MAX_QUEUE_BYTES || this.queuedBytes > MAX_TABLE_BYTES)) {
			const dropped = entry.queue.shift()!;
			entry.queuedBytes -= dropped.length;
			this.queuedBytes -= dropped.length;
		}
		return true;
	}

	/** An answer or an announcement from the neighbour itself. */
	learn(address: IpAddress, mac: Uint8Array, at: number, now: number, solicited: boolean, create: boolean): void {
		const entry = create ? this.obtain(address) : this.find(address);
		if (entry === undefined) return;
		let changed = false;
		for (let i = 0; i < 6; i++) changed ||= entry.mac[i] !== mac[at + i];
		if (!changed && !solicited && entry.state !== "incomplete" && entry.state !== "failed") return;
		entry.mac.set(mac.subarray(at, at + 6));
		entry.state = solicited ? "reachable" : "stale";
		entry.confirmedAt = now;
		entry.probes = 0;
		this.iface.stack.timers.cancel(entry);
		const waiting = this.unqueue(entry);
		for (const frame of waiting) {
			frame.set(entry.mac, 0);
			this.iface.sendFrame(frame, undefined);
		}
	}

	expire(entry: Neighbor, now: number): void {
		switch (entry.state) {
			case "incomplete":
			case "probe":
				if (entry.probes >= MAX_PROBES) {
					this.fail(entry, now);
					return;
				}
				this.solicit(entry, now);
				return;
			case "delay":
				if (now - entry.confirmedAt < DELAY_MS) {
					entry.state = "reachable";
					return;
				}
				entry.state = "probe";
				entry.probes = 0;
				this.solicit(entry, now);
				return;
			case "failed":
				entry.state = "incomplete";
				entry.probes = 0;
				return;
			default:
				return;
		}
	}

	private unqueue(entry: Neighbor): Uint8Array[] {
		this.queuedBytes -= entry.queuedBytes;
		entry.queuedBytes = 0;
		return entry.queue.splice(0);
	}

	private solicit(entry: Neighbor, now: number): void {
		entry.probes++;
		this.iface.stack.timers.schedule(entry, now + RETRANS_MS);
		this.iface.stack.ethernet?.solicit(this.iface, entry, entry.state === "probe");
	}

	private fail(entry: Neighbor, now: number): void {
		entry.state = "failed";
		const waiting = this.unqueue(entry);
		this.iface.stack.timers.schedule(entry, now + FAILED_MS);
		this.iface.stack.ethernet?.failed(this.iface, entry, waiting);
	}

	list(): readonly Neighbor[] {
		return [...this.entries.values()];
	}
}
