import type { Link } from "@x/netchannel";
import type { StackCore } from "../ip/core.ts";
import { detach } from "../ip/removal.ts";
import type { Interface, InterfaceOptions } from "../link/interface.ts";
import type { TcpLayer } from "../tcp/layer.ts";

/** The world's time and turns, for a {@link Driver}; the defaults are the host's. */
export interface Clock {
	/** Milliseconds, never backwards. */
	now(): number;
	/** Runs later in this turn of the event loop. */
	soon(action: () => void): void;
	/** Runs in a turn of its own, so that I/O gets in between. */
	turn(action: () => void): void;
	/** Runs after a time; the result cancels it. */
	after(ms: number, action: () => void): () => void;
}

/** Polls in one turn before the event loop gets its own. */
const POLLS_PER_TURN = 48;

/** The host's clock: performance.now, microtasks, and the quickest macrotask there is. */
export function hostClock(): Clock {
	const immediate = (globalThis as { setImmediate?: (action: () => void) => unknown }).setImmediate;
	let turn: (action: () => void) => void;
	if (immediate !== undefined) turn = (action) => void immediate(action);
	else {
		const queue: (() => void)[] = [];
		const channel = new MessageChannel();
		channel.port1.onmessage = () => queue.shift()?.();
		turn = (action) => {
			queue.push(action);
			channel.port2.postMessage(0);
		};
	}
	return {
		now: () => performance.now(),
		soon: (action) => queueMicrotask(action),
		turn,
		after: (ms, action) => {
			const timer = setTimeout(action, ms);
			return () => clearTimeout(timer);
		},
	};
}

/** Drives a stack in real time: frames in, polls when something is to do, a timer for the next deadline. */
export class Driver {
	readonly stack: StackCore;
	private readonly tcp: TcpLayer | undefined;
	private readonly clock: Clock;
	private scheduled = false;
	private polls = 0;
	private timerAt = Number.POSITIVE_INFINITY;
	private cancelTimer: (() => void) | undefined = undefined;
	private readonly links: Link[] = [];
	private closed = false;
	/** A link failed by itself. */
	onLinkError: ((iface: Interface, error: Error) => void) | undefined;

	constructor(stack: StackCore, tcp: TcpLayer | undefined, clock: Clock = hostClock()) {
		this.stack = stack;
		this.tcp = tcp;
		this.clock = clock;
		stack.now = clock.now();
		stack.onWork = () => this.wake();
	}

	now(): number {
		return this.clock.now();
	}

	/** Attaches a link: its frames come to the stack from now on. */
	attach(link: Link, options: InterfaceOptions = {}): Interface {
		this.stack.now = Math.max(this.stack.now, this.clock.now());
		const iface = this.stack.attach(link, options);
		this.adopt(iface, link);
		return iface;
	}

	/** Takes over the link of an interface its stack has already: frames come to the stack from now on. */
	adopt(iface: Interface, link: Link): void {
		this.links.push(link);
		link.onFrame = (frame, offload) => {
			this.stack.input(frame, this.clock.now(), offload, iface);
			this.wake();
		};
		link.onWritable = () => {
			iface.unblock();
			this.tcp?.unstall();
		};
		link.onError = (error) => {
			// A callback that threw is ours or a user's to mend; the link goes on.
			if ((error as { code?: string }).code !== "ERR_LINK_CALLBACK") detach(this.stack, iface);
			this.onLinkError?.(iface, error);
		};
		this.wake();
	}

	detach(iface: Interface): void {
		detach(this.stack, iface);
		if (iface.link === undefined) return;
		iface.link.onFrame = undefined;
		iface.link.onWritable = undefined;
		const at = this.links.indexOf(iface.link);
		if (at >= 0) this.links.splice(at, 1);
	}

	/** Asks for a poll soon. */
	wake(): void {
		if (this.scheduled || this.closed) return;
		this.scheduled = true;
		if (this.polls < POLLS_PER_TURN) this.clock.soon(this.run);
		else this.clock.turn(this.runTurn);
	}

	private readonly runTurn = (): void => {
		this.polls = 0;
		this.run();
	};

	private readonly run = (): void => {
		this.scheduled = false;
		if (this.closed) return;
		this.polls++;
		const now = this.clock.now();
		try {
			this.stack.poll(now);
		} finally {
			this.scheduleNext(now);
		}
	};

	private scheduleNext(now: number): void {
		const next = this.stack.nextDeadline();
		if (next <= now) {
			this.wake();
			return;
		}
		if (this.polls >= POLLS_PER_TURN && !this.scheduled) this.polls = 0;
		if (next < this.timerAt) this.arm(next, now);
	}

	private arm(at: number, now: number): void {
		this.cancelTimer?.();
		this.timerAt = at;
		if (at === Number.POSITIVE_INFINITY) return;
		this.cancelTimer = this.clock.after(Math.min(Math.max(at - now, 0), 0x7fffffff), () => {
			this.timerAt = Number.POSITIVE_INFINITY;
			this.cancelTimer = undefined;
			this.polls = 0;
			if (!this.scheduled) this.run();
			if (this.timerAt === Number.POSITIVE_INFINITY && !this.closed) {
				const next = this.stack.nextDeadline();
				if (next < Number.POSITIVE_INFINITY && next > this.clock.now()) this.arm(next, this.clock.now());
			}
		});
	}

	/** Stops; links are closed. */
	close(): void {
		if (this.closed) return;
		this.stack.poll(this.clock.now());
		this.closed = true;
		this.cancelTimer?.();
		this.stack.onWork = undefined;
		for (const link of this.links.splice(0)) link.close();
	}
}
