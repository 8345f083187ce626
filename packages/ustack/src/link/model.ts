import type { FrameReceiver, Link, LinkFeatures, Offload } from "@x/netchannel";
import type { StackCore } from "../ip/core.ts";
import { CallbackTimer, TimerHeap } from "../ip/timers.ts";
import type { Interface, InterfaceOptions } from "./interface.ts";

/** How a modelled wire treats frames, per direction; probabilities 0..1. */
export interface WireOptions {
	/** @default "ethernet" */
	medium?: "ethernet" | "ip";
	/** @default 1500 */
	mtu?: number;
	features?: Partial<LinkFeatures>;
	/** One-way, in milliseconds. @default 0 */
	delayMs?: number;
	/** Bytes per millisecond; 0 for no limit. @default 0 */
	rate?: number;
	/** Bytes that wait for a limited wire before frames are dropped. @default 262_144 */
	queueBytes?: number;
	/** @default 0 */
	loss?: number;
	/** @default 0 */
	duplicate?: number;
	/** A frame is held back by up to `reorderMs`. @default 0 */
	reorder?: number;
	/** @default 5 */
	reorderMs?: number;
	/** One byte of the frame is changed. @default 0 */
	corrupt?: number;
	/** Frames longer than this vanish, as behind a black hole. */
	blackhole?: number;
	/** Sees each frame as sent; false drops it. For tests that lose one particular frame. */
	filter?: (frame: Uint8Array, from: 0 | 1) => boolean;
}

/** A reproducible source of numbers 0..1 (Mulberry32). */
export function seededRandom(seed: number): () => number {
	let state = seed | 0;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	};
}

/** Fills arrays from {@link seededRandom}; for stacks that must run alike twice. */
export function seededBytes(seed: number): (bytes: Uint8Array) => void {
	const random = seededRandom(seed);
	return (bytes) => {
		for (let i = 0; i < bytes.length; i++) bytes[i] = random() * 256;
	};
}

/** The least time between two frames of a wire. */
const STEP_MS = 1e-6;

class ModelLink implements Link {
	readonly medium: "ethernet" | "ip";
	readonly mtu: number;
	readonly features: LinkFeatures;
	onFrame: FrameReceiver | undefined;
	onWritable: (() => void) | undefined;
	onError: ((error: Error) => void) | undefined;
	private readonly carry: (frame: Uint8Array, offload: Offload | undefined) => void;
	private closed = false;

	constructor(options: WireOptions, carry: (frame: Uint8Array, offload: Offload | undefined) => void) {
		this.medium = options.medium ?? "ethernet";
		this.mtu = options.mtu ?? 1500;
		this.features = { checksum: false, tso4: false, tso6: false, uso: false, ...options.features };
		this.carry = carry;
	}

	send(frame: Uint8Array, offload?: Offload): boolean {
		if (!this.closed) this.carry(frame, offload);
		return true;
	}

	close(): void {
		this.closed = true;
		this.onFrame = undefined;
	}
}

/** A world in virtual time: stacks, wires that delay and damage, and a clock that jumps from event to event. */
export class VirtualNetwork {
	now: number;
	private readonly events = new TimerHeap();
	private readonly stacks: StackCore[] = [];
	private readonly random: () => number;
	/** Frames carried, and what became of the rest. */
	readonly stats = { carried: 0, lost: 0, duplicated: 0, reordered: 0, corrupted: 0 };

	constructor(seed = 1, startMs = 1_000) {
		this.random = seededRandom(seed);
		this.now = startMs;
	}

	/** A wire with two ends. `options` may be changed while it runs. */
	wire(options: WireOptions = {}, back: WireOptions = options): [Link, Link] {
		const busyUntil = [0, 0];
		const latest = [0, 0];
		const ends: ModelLink[] = [];
		for (const side of [0, 1] as const) {
			ends.push(
				new ModelLink(options, (frame, offload) => {
					const rules = side === 0 ? options : back;
					if (
						rules.filter?.(frame, side) === false ||
						(rules.loss ?? 0) > this.random() ||
						(rules.blackhole !== undefined && frame.length > rules.blackhole)
					) {
						this.stats.lost++;
						return;
					}
					const copies = (rules.duplicate ?? 0) > this.random() ? 2 : 1;
					if (copies === 2) this.stats.duplicated++;
					for (let i = 0; i < copies; i++) {
						const copy = frame.slice();
						if ((rules.corrupt ?? 0) > this.random()) {
							this.stats.corrupted++;
							copy[Math.floor(this.random() * copy.length)]! ^= 1 + Math.floor(this.random() * 255);
						}
						let at = this.now;
						if ((rules.rate ?? 0) > 0) {
							const start = Math.max(at, busyUntil[side]!);
							if ((start - at) * rules.rate! > (rules.queueBytes ?? 262_144)) {
								this.stats.lost++;
								continue;
							}
							at = start + frame.length / rules.rate!;
							busyUntil[side] = at;
						}
						at += rules.delayMs ?? 0;
						if ((rules.reorder ?? 0) > this.random()) {
							this.stats.reordered++;
							at += this.random() * (rules.reorderMs ?? 5);
						} else {
							// Frames of one moment stay in order: the heap of events alone would not keep them so.
							at = Math.max(at, latest[side]! + STEP_MS);
							latest[side] = at;
						}
						this.events.schedule(
							new CallbackTimer(() => {
								this.stats.carried++;
								ends[1 - side]!.onFrame?.(copy, offload);
							}),
							at,
						);
					}
				}),
			);
		}
		return [ends[0]!, ends[1]!];
	}

	/** Lets a stack live in this world. */
	add(stack: StackCore): void {
		stack.now = Math.max(stack.now, this.now);
		this.stacks.push(stack);
	}

	/** Attaches a link end to a stack of this world. */
	attach(stack: StackCore, link: Link, options: InterfaceOptions = {}): Interface {
		const iface = stack.attach(link, options);
		this.adopt(iface, link);
		return iface;
	}

	/** Lets a link's frames come to an interface that is there already. */
	adopt(iface: Interface, link: Link): void {
		const { stack } = iface;
		link.onFrame = (frame, offload) => stack.input(frame, this.now, offload, iface);
		link.onWritable = () => iface.unblock();
	}

	/** A stack leaves this world; its links' ends stay. */
	remove(stack: StackCore): void {
		this.stacks.splice(this.stacks.indexOf(stack), 1);
	}

	/** Calls `action` at a time. */
	at(time: number, action: () => void): void {
		this.events.schedule(new CallbackTimer(action), time);
	}

	/** Runs everything due now, without moving the clock. */
	settle(): void {
		for (let round = 0; round < 10_000; round++) {
			let busy = false;
			for (const stack of this.stacks) {
				if (stack.nextDeadline() > this.now) continue;
				stack.poll(this.now);
				busy = true;
			}
			if (this.events.next() <= this.now) {
				this.events.run(this.now);
				busy = true;
			}
			if (!busy) return;
		}
		throw new Error("the network does not come to rest: a stack asks to be polled for ever");
	}

	/**
	 * Runs until `done` says so, or `forMs` of virtual time are over.
	 *
	 * @returns whether `done` was reached; true without one
	 */
	run(forMs: number, done?: () => boolean): boolean {
		const end = this.now + forMs;
		for (;;) {
			this.settle();
			if (done?.() === true) return true;
			let next = this.events.next();
			for (const stack of this.stacks) next = Math.min(next, stack.nextDeadline());
			if (next > end) {
				this.now = end;
				return done === undefined;
			}
			this.now = Math.max(this.now, next);
		}
	}
}
