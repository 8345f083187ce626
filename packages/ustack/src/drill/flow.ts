import { ACK, SYN } from "../wire/tcp.ts";
import type { ScriptOption, ScriptSegment } from "./script.ts";
import { flagBits, type LiveSegment } from "./wire.ts";

/** The live initial sequence number of the scripted side. */
export const REMOTE_ISN = 0x20000000;

/**
 * One connection as a script sees it: its ports, and how the script's numbers stand for live ones. SYN segments name
 * initial sequence numbers, all others count from them; timestamps of the tested host are names as well.
 */
export class Flow {
	readonly localPort: number;
	readonly remotePort: number;
	localIsn = 0;
	private localName = 0;
	private remoteName = 0;
	private named = false;
	private seenSyn = false;
	private readonly stamps = new Map<number, number>();
	private firstStamp: readonly [number, number] | undefined;

	constructor(localPort: number, remotePort: number) {
		this.localPort = localPort;
		this.remotePort = remotePort;
	}

	owns(live: LiveSegment): boolean {
		return live.sourcePort === this.localPort && live.destinationPort === this.remotePort;
	}

	/** A SYN has left: the script's name for its sequence number. */
	sentSyn(live: LiveSegment, segment: ScriptSegment): void {
		if (this.seenSyn) return;
		this.seenSyn = true;
		this.localIsn = live.seq;
		this.localName = segment.seq;
	}

	/** A SYN is scripted to come in. */
	receivesSyn(segment: ScriptSegment): void {
		if (this.named) return;
		this.named = true;
		this.remoteName = segment.seq;
	}

	inboundSeq(segment: ScriptSegment): number {
		const syn = (flagBits(segment.flags) & SYN) !== 0;
		return (REMOTE_ISN + segment.seq - (syn ? this.remoteName : 0)) | 0;
	}

	inboundAck(segment: ScriptSegment): number {
		const flags = flagBits(segment.flags);
		if (segment.ack === undefined) return (flags & ACK) !== 0 ? this.localIsn : 0;
		return (this.localIsn + segment.ack - ((flags & SYN) !== 0 ? this.localName : 0)) | 0;
	}

	/** What a live segment's sequence number should be. */
	outboundSeq(segment: ScriptSegment, syn: boolean): number {
		return (this.localIsn + segment.seq - (syn ? this.localName : 0)) | 0;
	}

	outboundAck(ack: number, syn: boolean): number {
		return (REMOTE_ISN + ack - (syn ? this.remoteName : 0)) | 0;
	}

	/** The base acknowledgements are printed from: none before anything came in. */
	get ackBase(): number {
		return this.named ? REMOTE_ISN : 0;
	}

	learnStamp(script: number, live: number): void {
		this.stamps.set(script, live);
		this.firstStamp ??= [script, live];
	}

	/** A scripted timestamp in live terms, where the script's clock is the first stamp's. */
	stampAt(script: number): number | undefined {
		return this.firstStamp === undefined ? undefined : (this.firstStamp[1] + script - this.firstStamp[0]) | 0;
	}

	/** Options of an incoming segment with the script's names replaced; echoes outside the map go by `scaled` clocks. */
	inbound(option: ScriptOption, scaled: boolean): ScriptOption {
		if (option.kind === "sack") return { ...option, values: option.values.map((value) => (value + this.localIsn) | 0) };
		if (option.kind === "TS") {
			const echo = option.values[1]!;
			const live = this.stamps.get(echo) ?? (scaled ? this.stampAt(echo) : undefined) ?? echo;
			return { ...option, values: [option.values[0]!, live] };
		}
		return option;
	}
}
