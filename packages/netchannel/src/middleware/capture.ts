import type { FilterProgram } from "../filter/program.ts";
import type { Link, Offload } from "../link/link.ts";
import { PcapngWriter } from "../pcap/pcapng.ts";
import { LINKTYPE_ETHERNET, LINKTYPE_RAW_IP } from "../pcap/types.ts";
import { WrappedLink } from "./wrap.ts";

/** Options of {@link createCapture}. */
export interface CaptureOptions {
	/** Takes the file's bytes, in order; true when packets should be dropped (and counted) until {@link Capture.resume}. */
	write(bytes: Uint8Array): unknown;
	/** Nanoseconds since 1970. */
	now(): bigint;
	/** Bytes kept of each packet. @default 262144 */
	snapLength?: number;
}

/** Options of {@link Capture.tee}. */
export interface TeeOptions {
	/** The interface's name in the file. */
	name?: string;
	/** Records only what it matches; everything passes all the same. */
	filter?: FilterProgram;
}

const lostBy = (link: Link): number => link.stats?.().rxDropped ?? 0;

/** A pcapng file being written from any number of links, each an interface of it. */
export class Capture {
	private readonly options: CaptureOptions;
	private readonly writer = new PcapngWriter();
	private readonly interfaces: { received: bigint; dropped: bigint; link: Link; lostBefore: number }[] = [];
	private full = false;
	private closed = false;

	constructor(options: CaptureOptions) {
		this.options = options;
		options.write(this.writer.header());
	}

	/** Wraps a link so that what goes through it, both ways, is recorded as one interface of the file. */
	tee(link: Link, options: TeeOptions = {}): Link {
		const { id, bytes } = this.writer.addInterface({
			linkType: link.medium === "ethernet" ? LINKTYPE_ETHERNET : LINKTYPE_RAW_IP,
			...(options.name === undefined ? {} : { name: options.name }),
			...(this.options.snapLength === undefined ? {} : { snapLength: this.options.snapLength }),
		});
		this.interfaces.push({ received: 0n, dropped: 0n, link, lostBefore: lostBy(link) });
		this.options.write(bytes);
		return new TeeLink(link, (frame, direction) => {
			if (options.filter === undefined || options.filter.matches(frame)) this.record(id, frame, direction);
		});
	}

	/** There is room again after `write` returned true. */
	resume(): void {
		this.full = false;
	}

	/**
	 * Writes every interface's statistics: what it saw, and what was lost here or, as far as the link counts that, before
	 * it came here. Nothing is recorded afterwards. The links stay open.
	 */
	close(): void {
		if (this.closed) return;
		this.closed = true;
		const now = this.options.now();
		for (const [id, { received, dropped, link, lostBefore }] of this.interfaces.entries()) {
			const lost = BigInt(Math.max(0, lostBy(link) - lostBefore));
			const counts = { received: received + lost, dropped: dropped + lost };
			this.options.write(this.writer.statistics(id, now, counts));
		}
	}

	private record(id: number, frame: Uint8Array, direction: "in" | "out"): void {
		if (this.closed) return;
		const counts = this.interfaces[id]!;
		counts.received++;
		if (this.full) {
			counts.dropped++;
			return;
		}
		const bytes = this.writer.packet(id, this.options.now(), frame, direction);
		this.full = this.options.write(bytes) === true;
	}
}

class TeeLink extends WrappedLink {
	private readonly record: (frame: Uint8Array, direction: "in" | "out") => void;

	constructor(link: Link, record: (frame: Uint8Array, direction: "in" | "out") => void) {
		super(link);
		this.record = record;
	}

	override send(frame: Uint8Array, offload?: Offload): boolean {
		const taken = super.send(frame, offload);
		if (taken) this.record(frame, "out");
		return taken;
	}

	protected override input(frame: Uint8Array, offload?: Offload): void {
		this.record(frame, "in");
		super.input(frame, offload);
	}
}

/** Begins a pcapng file; {@link Capture.tee} records links in it. */
export function createCapture(options: CaptureOptions): Capture {
	return new Capture(options);
}
