import { ENTRY_BYTES, LAP, RECORD_HEADER, Stat, Word } from "./layout.ts";
import {
	above,
	add,
	addFloat,
	and,
	atLeast,
	atMost,
	atomicLoad,
	atomicStore,
	below,
	belowFloat,
	block,
	type Code,
	constant,
	divide,
	equal,
	func,
	get,
	getGlobal,
	I32,
	leave,
	leaveIf,
	load,
	loadFloat,
	memoryCopy,
	move1,
	move2,
	move4,
	move8,
	move16,
	notEqual,
	or,
	repeatWhile,
	section,
	set,
	setGlobal,
	store,
	storeFloat,
	subtract,
	tee,
	text,
	toFloat,
	until,
	when,
	xor,
} from "./wasm-code.ts";

/**
 * What copies inside a WebAssembly memory. A `TypedArray.set` that touches a SharedArrayBuffer is a relaxed byte loop in
 * V8 (several times slower than memcpy from a few hundred bytes on); `memory.copy` is not. A call from JavaScript costs
 * as much as copying a hundred bytes: batches take one. Addresses are bytes from the memory's start.
 */
export interface Copier {
	/** Copies `length` bytes inside the memory. */
	copy(target: number, source: number, length: number): void;
	/** Writes a payload and its meta word behind the word at `record`, which it leaves to the caller. */
	put(record: number, source: number, length: number, meta: number): void;
	/**
	 * Hands what was written to the consumer: counts it, writes the `end` at `next`, unless that is 0, replaces the word
	 * at `first` by `word` (or by what a batch {@link HELD}), then loads the doorbell.
	 */
	publish(
		ring: number,
		first: number,
		word: number,
		next: number,
		end: number,
		head: number,
		packets: number,
		bytes: number,
		depth: number,
		doorbell: number,
	): number;
	/**
	 * {@link put}, then {@link publish}, of one record in a ring that is not full; then writes a word at `ahead`, unless
	 * that is 0, where the next one will end: its cache line is ours by then.
	 */
	send(
		ring: number,
		record: number,
		word: number,
		source: number,
		length: number,
		meta: number,
		next: number,
		end: number,
		head: number,
		depth: number,
		doorbell: number,
		ahead: number,
	): number;
	/** Counts what the consumer took, gives it back to the producer, then loads the word that one sleeps on. */
	release(ring: number, tail: number, packets: number, bytes: number): number;
	/** A word, loaded atomically after some {@link RESTS}: half the price of an `Atomics.load` of JavaScript. */
	load(address: number, rests: number, one: 1): number;
	/**
	 * Takes some {@link RESTS}, then looks at most `looks` times for a word at `record` that is no end.
	 * Returns how many bytes the records have that follow each other there, `most` of them and no more than `room`: 0 when
	 * there is something else than a record, less when there is nothing.
	 */
	look(record: number, lap: number, room: number, most: number, looks: number, rests: number, one: 1): number;
	/**
	 * Writes the records a table describes from `record` on, none longer than `longest`, until one does not fit into
	 * `room` or is not in scratch. Returns how many, and leaves how many {@link bytes} they took. The very first word,
	 * which is the publication, is kept back with `hold`, for {@link publish} to write.
	 */
	putBatch(
		table: number,
		count: number,
		record: number,
		room: number,
		lap: number,
		scratch: number,
		scratchBytes: number,
		longest: number,
		hold: number,
	): number;
	/**
	 * Copies waiting records from `record` on to `target` and describes them in a table, until one does not fit there or is
	 * none a producer wrote into `room`. Returns how many, and leaves how many {@link bytes} they took.
	 */
	takeBatch(
		table: number,
		count: number,
		record: number,
		room: number,
		lap: number,
		scratch: number,
		target: number,
		targetEnd: number,
	): number;
	bytes(): number;
}

/** Rests between two looks; one takes some dozen cycles. */
const RESTS = 2;
/** The first word of what is to be published, when a batch kept it. */
export const HELD = -1;
/**
 * Longer payloads go through `memory.copy`, whose call costs as much as some dozen moves, and in pieces of as many bytes:
 * from 2112 on, memmove of glibc turns to `rep movsb`, which on AMD's Zen 3 takes many times as long at times, when the
 * lines are still in the other processor's cache or the target starts some bytes further into its page than the source.
 */
const PIECE_BYTES = 2048;

const advance = (local: number, ...by: Code[]): Code => set(local, add(get(local), by.flat()));
const retreat = (local: number, ...by: Code[]): Code => set(local, subtract(get(local), by.flat()));

/**
 * Moves `length` bytes, and both addresses with them; two locals from `free` on are overwritten. As memcpy does it: the
 * last bytes are moved again with those before them, not one by one.
 */
const moveInline = (target: number, source: number, length: number, free: number): Code => {
	const [to, from] = [free, free + 1];
	const last = (bytes: number): Code => [
		...set(to, subtract(add(get(target), get(length)), constant(bytes))),
		...set(from, subtract(add(get(source), get(length)), constant(bytes))),
	];
	const vectors = (at: number, of: number, ...offsets: number[]): Code =>
		offsets.flatMap((offset) => move16(get(at), get(of), offset));
	return block(
		when(
			above(get(length), constant(64)),
			last(64),
			repeatWhile(
				below(get(source), get(from)),
				vectors(target, source, 0, 16, 32, 48),
				advance(target, constant(64)),
				advance(source, constant(64)),
			),
			vectors(to, from, 0, 16, 32, 48),
			leave(1),
		),
		when(
			above(get(length), constant(32)),
			last(32),
			vectors(target, source, 0, 16),
			vectors(to, from, 0, 16),
			leave(1),
		),
		when(atLeast(get(length), constant(16)), last(16), vectors(target, source, 0), vectors(to, from, 0), leave(1)),
		...(
			[
				[8, move8],
				[4, move4],
				[2, move2],
				[1, move1],
			] as const
		).map(([bytes, move]) =>
			when(
				atLeast(get(length), constant(bytes)),
				last(bytes),
				move(get(target), get(source)),
				move(get(to), get(from)),
				leave(1),
			),
		),
	);
};

/** The same for payloads of any length; three locals are overwritten. */
const moveAny = (target: number, source: number, length: number, free: number): Code => {
	const left = free + 2;
	return block(
		when(
			above(get(length), constant(PIECE_BYTES)),
			set(left, get(length)),
			until(
				atMost(get(left), constant(PIECE_BYTES)),
				memoryCopy(get(target), get(source), constant(PIECE_BYTES)),
				advance(target, constant(PIECE_BYTES)),
				advance(source, constant(PIECE_BYTES)),
				retreat(left, constant(PIECE_BYTES)),
			),
			memoryCopy(get(target), get(source), get(left)),
			leave(1),
		),
		moveInline(target, source, length, free),
	);
};

const [BYTES, FIRST, TOTAL] = [0, 1, 2];
/** What a record of `length` payload bytes takes: its header, and padding to 8. */
const recordSize = (length: number): Code => and(add(get(length), constant(15)), constant(-8));

const copy = func(3, moveAny(0, 1, 2, 3));

const writeRecord = (record: number, source: number, length: number, meta: number, free: number): Code => [
	...store(get(record), get(meta), 4),
	...set(free, add(get(record), constant(RECORD_HEADER))),
	...moveAny(free, source, length, free + 1),
];

const put = func(4, writeRecord(0, 1, 2, 3, 4));

/** Adds to one of the statistics of the ring at `ring`; it has one writer. */
const count = (ring: number, stat: number, by: Code): Code =>
	storeFloat(get(ring), addFloat(loadFloat(get(ring), stat * 8), toFloat(by)), stat * 8);

/** Counts what is about to be published: whoever sees it sees the counts that belong to it. */
const countSent = (ring: number, head: number, packets: Code, bytes: Code, depth: number): Code => [
	...count(ring, Stat.sent, packets),
	...count(ring, Stat.sentBytes, bytes),
	...when(
		belowFloat(loadFloat(get(ring), Stat.maxDepth * 8), toFloat(get(depth))),
		storeFloat(get(ring), toFloat(get(depth)), Stat.maxDepth * 8),
	),
	...store(get(ring), get(head), Word.head * 4),
];

/** Writes the end behind the last record, if there is room for one. */
const writeEnd = (next: number, end: number): Code =>
	when(notEqual(get(next), constant(0)), store(get(next), get(end)));

const publish = ((): Code => {
	const [ring, first, word, next, end, head, packets, bytes, depth, doorbell] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
	return func(
		1,
		countSent(ring, head, get(packets), add(get(bytes), getGlobal(TOTAL)), depth),
		setGlobal(TOTAL, constant(0)),
		writeEnd(next, end),
		when(equal(get(word), constant(HELD)), set(word, getGlobal(FIRST))),
		atomicStore(get(first), get(word)),
		atomicLoad(get(doorbell)),
	);
})();

const send = ((): Code => {
	const [ring, record, word, source, length, meta, next, end, head, depth, doorbell, ahead] = [
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
	];
	const free = 12;
	return func(
		4,
		countSent(ring, head, constant(1), get(length), depth),
		store(get(next), get(end)),
		writeRecord(record, source, length, meta, free),
		atomicStore(get(record), get(word)),
		atomicLoad(get(doorbell)),
		when(notEqual(get(ahead), constant(0)), store(get(ahead), constant(0))),
	);
})();

const release = ((): Code => {
	const [ring, tail, packets, bytes] = [0, 1, 2, 3];
	return func(
		1,
		count(ring, Stat.received, subtract(get(packets), load(get(ring), Word.received * 4))),
		count(ring, Stat.receivedBytes, add(get(bytes), getGlobal(TOTAL))),
		setGlobal(TOTAL, constant(0)),
		store(get(ring), get(packets), Word.received * 4),
		atomicStore(add(get(ring), constant(Word.tail * 4)), get(tail)),
		atomicLoad(add(get(ring), constant(Word.producerSleeps * 4))),
	);
})();

/**
 * WebAssembly has no pause instruction, and whoever looks without one keeps the writer from the line, and from half of the
 * core when both threads share one. A division waits for the one before, and leaves the core to the other meanwhile; the
 * divisor comes from outside, or the compiler would see that it is one.
 */
const rest = (rests: number, one: number): Code =>
	until(equal(get(rests), constant(0)), set(rests, subtract(divide(get(rests), get(one)), constant(1))));

const lookAhead = ((): Code => {
	const [record, lap, room, most, looks, rests, one, length, size, before] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
	const word = tee(length, xor(atomicLoad(get(record)), get(lap)));
	return func(
		3,
		set(before, get(room)),
		block(
			until(
				equal(get(looks), constant(0)),
				rest(rests, one),
				leaveIf(equal(and(word, constant(LAP)), constant(0)), 2),
				set(rests, constant(RESTS)),
				retreat(looks, constant(1)),
			),
			set(room, add(get(before), constant(1))),
			set(length, constant(LAP)),
		),
		until(
			// An end, a jump, or a length that is none.
			atLeast(get(length), constant(LAP)),
			leaveIf(above(tee(size, recordSize(length)), get(room)), 1),
			advance(record, get(size)),
			retreat(room, get(size)),
			retreat(most, constant(1)),
			// Behind the last record of a ring may be the end of the memory.
			leaveIf(equal(get(room), constant(0)), 1),
			leaveIf(equal(get(most), constant(0)), 1),
			set(length, xor(atomicLoad(get(record)), get(lap))),
		),
		subtract(get(before), get(room)),
	);
})();

const loadWord = func(0, rest(1, 2), atomicLoad(get(0)));

const putBatch = ((): Code => {
	const [table, count, record, room, lap, scratch, scratchBytes, longest, hold] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
	const [length, source, to, size, taken, total, before, free] = [9, 10, 11, 12, 13, 14, 15, 16];
	return func(
		10,
		set(before, get(room)),
		until(
			atLeast(get(taken), get(count)),
			set(length, load(get(table), 4)),
			set(source, load(get(table))),
			// No longer than the scratch area, so that the subtraction below is none from less.
			leaveIf(above(get(length), get(longest)), 1),
			leaveIf(above(get(source), subtract(get(scratchBytes), get(length))), 1),
			leaveIf(above(tee(size, recordSize(length)), get(room)), 1),
			block(
				block(leaveIf(get(hold)), store(get(record), or(get(length), get(lap))), leave(1)),
				setGlobal(FIRST, or(get(length), get(lap))),
				set(hold, constant(0)),
			),
			store(get(record), load(get(table), 8), 4),
			set(to, add(get(record), constant(RECORD_HEADER))),
			advance(source, get(scratch)),
			moveAny(to, source, length, free),
			advance(total, get(length)),
			advance(record, get(size)),
			retreat(room, get(size)),
			advance(table, constant(ENTRY_BYTES)),
			advance(taken, constant(1)),
		),
		setGlobal(BYTES, subtract(get(before), get(room))),
		setGlobal(TOTAL, add(getGlobal(TOTAL), get(total))),
		get(taken),
	);
})();

const takeBatch = ((): Code => {
	const [table, count, record, room, lap, scratch, target, targetEnd] = [0, 1, 2, 3, 4, 5, 6, 7];
	const [word, length, size, taken, total, before, to, from, free] = [8, 9, 10, 11, 12, 13, 14, 15, 16];
	return func(
		11,
		set(before, get(room)),
		set(size, constant(RECORD_HEADER)),
		until(
			atLeast(get(taken), get(count)),
			// Behind the last record of a ring may be the end of the memory.
			leaveIf(equal(get(room), constant(0)), 1),
			// Read once: what was checked must be what is used, whoever else writes there. Mostly it is what it was before,
			// and a processor that guesses so need not wait for this line to ask for the next.
			set(word, xor(atomicLoad(get(record)), get(lap))),
			when(
				notEqual(get(word), get(length)),
				leaveIf(atLeast(tee(length, get(word)), constant(LAP)), 2),
				set(size, recordSize(length)),
			),
			leaveIf(above(get(size), get(room)), 1),
			leaveIf(above(get(length), subtract(get(targetEnd), get(target))), 1),
			store(get(table), subtract(get(target), get(scratch))),
			store(get(table), get(length), 4),
			store(get(table), load(get(record), 4), 8),
			set(to, get(target)),
			set(from, add(get(record), constant(RECORD_HEADER))),
			moveAny(to, from, length, free),
			set(target, and(add(add(get(target), get(length)), constant(7)), constant(-8))),
			advance(total, get(length)),
			advance(record, get(size)),
			retreat(room, get(size)),
			advance(table, constant(ENTRY_BYTES)),
			advance(taken, constant(1)),
		),
		setGlobal(BYTES, subtract(get(before), get(room))),
		setGlobal(TOTAL, add(getGlobal(TOTAL), get(total))),
		get(taken),
	);
})();

/** Memory, types, functions, globals, exports, code. */
function moduleBytes(): Uint8Array<ArrayBuffer> {
	const type = (parameters: number, ...results: number[]): Code => [
		...[0x60, parameters, ...new Array<number>(parameters).fill(I32)],
		...[results.length, ...results],
	];
	const counter: Code = [I32, 1, ...constant(0), 0x0b];
	const types = [
		type(3),
		type(4),
		type(9, I32),
		type(10, I32),
		type(12, I32),
		type(4, I32),
		type(0, I32),
		type(3, I32),
		type(7, I32),
		type(8, I32),
	];
	const functions: [name: string, type: number, code: Code][] = [
		["copy", 0, copy],
		["put", 1, put],
		["putBatch", 2, putBatch],
		["takeBatch", 9, takeBatch],
		["publish", 3, publish],
		["send", 4, send],
		["release", 5, release],
		["load", 7, loadWord],
		["look", 8, lookAhead],
		["bytes", 6, [4, 0, ...getGlobal(BYTES), 0x0b]],
	];
	return new Uint8Array([
		...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
		...section(1, [types.length, ...types.flat()]),
		...section(2, [1, ...text("e"), ...text("m"), 0x02, ...[0x03, 0x00, 0x80, 0x80, 0x04]]),
		...section(3, [functions.length, ...functions.map(([, index]) => index)]),
		...section(6, [3, ...counter, ...counter, ...counter]),
		...section(7, [functions.length, ...functions.flatMap(([name], index) => [...text(name), 0x00, index])]),
		...section(10, [functions.length, ...functions.flatMap(([, , code]) => code)]),
	]);
}

let compiled: WebAssembly.Module | undefined;

/**
 * A {@link Copier} for a shared `memory`, or undefined where the engine lacks vectors, without which this is no gain;
 * the module is compiled once per thread.
 */
export function createCopier(memory: WebAssembly.Memory): Copier | undefined {
	if (compiled === undefined) {
		const bytes = moduleBytes();
		if (!WebAssembly.validate(bytes)) return undefined;
		compiled = new WebAssembly.Module(bytes);
	}
	return new WebAssembly.Instance(compiled, { e: { m: memory } }).exports as unknown as Copier;
}
