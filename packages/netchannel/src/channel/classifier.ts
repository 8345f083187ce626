import { ChannelError } from "./errors.ts";
import { FlowTable } from "./flow-table.ts";
import { FragmentCache } from "./fragments.ts";
import {
	type FlowMatch,
	type FlowPattern,
	PATTERN_WORDS,
	portsWord,
	requirePattern,
	toPatterns,
	writeKeyWords,
} from "./match.ts";
import { hasPorts, isPlainIPv4, PacketKey, parsePacket, setPlainIPv4 } from "./packet.ts";

/** Options of {@link createClassifier}. */
export interface ClassifierOptions {
	/**
	 * Any 32-bit number strangers do not know; with it they cannot choose flows that collide.
	 * @default 0
	 */
	seed?: number;
	/** Milliseconds a fragmented packet's later parts follow its first. @default 30_000 */
	fragmentTimeoutMs?: number;
	/** Fragmented packets remembered at a time. @default 1024 */
	fragmentLimit?: number;
}

/** A rule's counters. */
export interface FlowCounters {
	readonly packets: number;
	readonly bytes: number;
}

interface Rule {
	readonly patterns: readonly FlowPattern[];
	readonly priority: number;
	readonly serial: number;
	/** Set bits of its masks: of two rules of one priority the more specific wins. */
	readonly weight: number;
}

/** All rules of one family that share a mask. */
interface Tuple {
	readonly mask: Int32Array;
	/** The words of an IPv4 mask. */
	readonly m0: number;
	readonly m1: number;
	readonly m2: number;
	readonly m3: number;
	readonly table: FlowTable;
	readonly weight: number;
	/** Whether the mask looks at ports; a packet without any then cannot match. */
	readonly wantsPorts: boolean;
	/** Highest priority of its rules, and how many have which. */
	priority: number;
	readonly priorities: Map<number, number>;
}

function bitsOf(mask: Int32Array): number {
	let count = 0;
	for (let word of mask) for (; word !== 0; word &= word - 1) count++;
	return count;
}

/**
 * Says whose packet it is: by addresses, protocol and ports, each exact or masked, in one probe per distinct mask.
 * Of several rules that match, the highest priority wins, then the one with more mask bits, then the older.
 */
export class Classifier {
	/** The last packet's headers, as {@link classify} read them. */
	readonly key: PacketKey = new PacketKey();
	private readonly seed: number;
	private readonly fragments: FragmentCache;
	private readonly tuples: { 0: Tuple[]; 4: Tuple[]; 6: Tuple[] } = { 0: [], 4: [], 6: [] };
	private readonly tuples4: Tuple[] = this.tuples[4];
	private readonly byMask = new Map<string, Tuple>();
	private readonly rules: (Rule | undefined)[] = [];
	private readonly free: number[] = [];
	private readonly scratch: Int32Array = new Int32Array(10);
	private readonly masked: Int32Array = new Int32Array(10);
	private counters: Float64Array = new Float64Array(32);
	private serial = 0;
	private count = 0;

	constructor(options: ClassifierOptions = {}) {
		this.seed = options.seed ?? 0;
		this.fragments = new FragmentCache(options.fragmentLimit ?? 1024, options.fragmentTimeoutMs ?? 30_000);
	}

	/** Rules now. */
	get size(): number {
		return this.count;
	}

	/**
	 * Adds a rule.
	 *
	 * @param match - in words, or as patterns of the caller's own
	 * @param priority - higher wins
	 * @returns its identifier, a small non-negative integer that is reused after `remove`
	 * @throws ChannelError `EEXIST` when a rule with the same data and mask is there, `EINVAL`
	 */
	add(match: FlowMatch | readonly FlowPattern[], priority = 0): number {
		const patterns = Array.isArray(match) ? match.map(requirePattern) : toPatterns(match as FlowMatch);
		if (patterns.length === 0) throw new ChannelError("EINVAL", "a rule needs a pattern");
		const id = this.free.pop() ?? this.rules.length;
		let done = 0;
		for (const pattern of patterns) {
			if (!this.tupleFor(pattern).table.insert(pattern.data, id)) break;
			done++;
		}
		if (done < patterns.length) {
			for (const pattern of patterns.slice(0, done)) this.tupleFor(pattern).table.delete(pattern.data);
			this.prune(patterns);
			this.free.push(id);
			throw new ChannelError("EEXIST", "a channel for exactly these addresses, protocol and ports exists already");
		}
		const weight = Math.max(...patterns.map((pattern) => bitsOf(pattern.mask)));
		this.rules[id] = { patterns, priority, serial: this.serial++, weight };
		this.count++;
		for (const pattern of patterns) {
			const { priorities } = this.tupleFor(pattern);
			priorities.set(priority, (priorities.get(priority) ?? 0) + 1);
		}
		this.sort(patterns);
		if (2 * id + 1 >= this.counters.length) {
			const grown = new Float64Array(4 * (id + 1));
			grown.set(this.counters);
			this.counters = grown;
		}
		this.counters[2 * id] = this.counters[2 * id + 1] = 0;
		return id;
	}

	/** The rule with exactly these patterns, data and mask, or -1. @throws ChannelError `EINVAL` */
	idOf(match: FlowMatch | readonly FlowPattern[]): number {
		const patterns = Array.isArray(match) ? match.map(requirePattern) : toPatterns(match as FlowMatch);
		const ids = patterns.map(
			({ family, mask, data }) => this.byMask.get(`${family},${mask.join()}`)?.table.find(data) ?? -1,
		);
		const [id = -1] = ids;
		return ids.every((other) => other === id) && this.rules[id]?.patterns.length === patterns.length ? id : -1;
	}

	/** Removes a rule; false when there is none of that identifier. */
	remove(id: number): boolean {
		const rule = this.rules[id];
		if (rule === undefined) return false;
		for (const pattern of rule.patterns) {
			const tuple = this.tupleFor(pattern);
			tuple.table.delete(pattern.data);
			const left = tuple.priorities.get(rule.priority)! - 1;
			if (left === 0) tuple.priorities.delete(rule.priority);
			else tuple.priorities.set(rule.priority, left);
		}
		this.prune(rule.patterns);
		this.sort(rule.patterns);
		this.rules[id] = undefined;
		this.free.push(id);
		this.count--;
		return true;
	}

	/**
	 * Finds a frame's rule and counts it there.
	 *
	 * @param nowMs - any steady clock; only the life of fragments depends on it
	 * @returns the rule's identifier, or -1
	 */
	classify(frame: Uint8Array, medium: "ethernet" | "ip", nowMs = 0): number {
		const plain = medium === "ethernet" && isPlainIPv4(frame);
		const id = plain ? this.classifyPlain(frame) : this.classifyOther(frame, medium, nowMs);
		if (id >= 0) {
			this.counters[2 * id]! += 1;
			this.counters[2 * id + 1]! += frame.length;
		}
		return id;
	}

	private classifyPlain(frame: Uint8Array): number {
		const protocol = frame[23]!;
		const ported = hasPorts(protocol);
		const local = (frame[30]! << 24) | (frame[31]! << 16) | (frame[32]! << 8) | frame[33]!;
		const remote = (frame[26]! << 24) | (frame[27]! << 16) | (frame[28]! << 8) | frame[29]!;
		const ports = ported ? (frame[36]! << 24) | (frame[37]! << 16) | (frame[34]! << 8) | frame[35]! : 0;
		setPlainIPv4(this.key, local, remote, protocol, ports, ported);
		const tuples = this.tuples4;
		if (tuples.length !== 1) return this.lookup4(local, remote, ports, protocol, ported);
		const { table, m0, m1, m2, m3, wantsPorts } = tuples[0]!;
		return wantsPorts && !ported ? -1 : table.find4(local & m0, remote & m1, ports & m2, protocol & m3);
	}

	/** {@link classify} of a frame that is not a plain one. */
	private classifyOther(frame: Uint8Array, medium: "ethernet" | "ip", nowMs: number): number {
		const { key, scratch } = this;
		parsePacket(key, frame, medium);
		if (key.family === 0) {
			scratch[0] = key.etherType;
			return this.lookup(this.tuples[0], scratch, false);
		}
		if (key.fragment) this.fragments.join(key, nowMs);
		writeKeyWords(scratch, key);
		return this.lookup(this.tuples[key.family], scratch, key.hasPorts);
	}

	/** A rule's counters; zeros for one that is not there. */
	countersOf(id: number): FlowCounters {
		return { packets: this.counters[2 * id] ?? 0, bytes: this.counters[2 * id + 1] ?? 0 };
	}

	private lookup4(k0: number, k1: number, k2: number, k3: number, ported: boolean): number {
		const tuples = this.tuples4;
		let best = -1;
		for (let index = 0; index < tuples.length; index++) {
			const tuple = tuples[index]!;
			if (best >= 0 && this.settled(best, tuple)) break;
			if (tuple.wantsPorts && !ported) continue;
			const found = tuple.table.find4(k0 & tuple.m0, k1 & tuple.m1, k2 & tuple.m2, k3 & tuple.m3);
			if (found >= 0 && (best < 0 || this.beats(found, best))) best = found;
		}
		return best;
	}

	private lookup(tuples: readonly Tuple[], words: Int32Array, hasPorts: boolean): number {
		let best = -1;
		for (const tuple of tuples) {
			if (best >= 0 && this.settled(best, tuple)) break;
			if (tuple.wantsPorts && !hasPorts) continue;
			const { mask, table } = tuple;
			for (let word = 0; word < mask.length; word++) this.masked[word] = words[word]! & mask[word]!;
			const found = table.find(this.masked);
			if (found >= 0 && (best < 0 || this.beats(found, best))) best = found;
		}
		return best;
	}

	/** Whether no rule of `tuple`, or of those after it, can beat `best`. */
	private settled(best: number, tuple: Tuple): boolean {
		const rule = this.rules[best]!;
		return rule.priority > tuple.priority;
	}

	private beats(candidate: number, best: number): boolean {
		const a = this.rules[candidate]!;
		const b = this.rules[best]!;
		if (a.priority !== b.priority) return a.priority > b.priority;
		if (a.weight !== b.weight) return a.weight > b.weight;
		return a.serial < b.serial;
	}

	private tupleFor(pattern: FlowPattern): Tuple {
		const name = `${pattern.family},${pattern.mask.join()}`;
		const found = this.byMask.get(name);
		if (found !== undefined) return found;
		const wantsPorts = pattern.family !== 0 && pattern.mask[portsWord(pattern.family)] !== 0;
		const [m0 = 0, m1 = 0, m2 = 0, m3 = 0] = pattern.mask;
		const tuple: Tuple = {
			mask: pattern.mask,
			m0,
			m1,
			m2,
			m3,
			table: new FlowTable(PATTERN_WORDS[pattern.family], this.seed),
			weight: bitsOf(pattern.mask),
			wantsPorts,
			priority: Number.NEGATIVE_INFINITY,
			priorities: new Map(),
		};
		this.byMask.set(name, tuple);
		this.tuples[pattern.family].push(tuple);
		return tuple;
	}

	private prune(patterns: readonly FlowPattern[]): void {
		for (const { family, mask } of patterns) {
			const name = `${family},${mask.join()}`;
			const tuple = this.byMask.get(name);
			if (tuple === undefined || tuple.table.size > 0) continue;
			this.byMask.delete(name);
			this.tuples[family].splice(this.tuples[family].indexOf(tuple), 1);
		}
	}

	private sort(patterns: readonly FlowPattern[]): void {
		for (const { family, mask } of patterns) {
			const tuple = this.byMask.get(`${family},${mask.join()}`);
			if (tuple === undefined) continue;
			const priority = Math.max(...tuple.priorities.keys());
			if (priority === tuple.priority) continue;
			tuple.priority = priority;
			this.tuples[family].sort((a, b) => b.priority - a.priority || b.weight - a.weight);
		}
	}
}

/** Makes an empty {@link Classifier}. */
export function createClassifier(options?: ClassifierOptions): Classifier {
	return new Classifier(options);
}
