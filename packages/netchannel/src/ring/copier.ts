import { ENTRY_BYTES } from "./layout.ts";
import {
	above,
	add,
	and,
	atLeast,
	atMost,
	atomicLoad,
	atomicStore,
	block,
	type Code,
	constant,
	drop,
	equal,
	func,
	get,
	getGlobal,
	I32,
	leave,
	leaveIf,
	load,
	memoryCopy,
	moveByte,
	moveVector,
	moveWord,
	notEqual,
	section,
	set,
	setGlobal,
	store,
	subtract,
	tee,
	text,
	until,
} from "./wasm-code.ts";

/**
 * What copies inside a WebAssembly memory. A `TypedArray.set` that touches a SharedArrayBuffer is a relaxed byte loop in
 * V8 (several times slower than memcpy from a few hundred bytes on); `memory.copy` is not. A call from JavaScript costs
 * as much as copying a hundred bytes: batches take one. Addresses are bytes from the memory's start.
 */
export interface Copier {
	/** Copies `length` bytes inside the memory. */
	copy(target: number, source: number, length: number): void;
	/** Writes a record's length and meta words at `target` and its payload behind them. */
	put(target: number, source: number, length: number, meta: number): void;
	/** Stores an index, then loads the word its reader sleeps on: half the price of one `Atomics` call of JavaScript. */
	publish(index: number, value: number, sleeps: number): number;
	/** {@link put}, then {@link publish}. */
	send(
		target: number,
		source: number,
		length: number,
		meta: number,
		index: number,
		value: number,
		sleeps: number,
	): number;
	/**
	 * Looks at an index until it is no longer `seen`, at most `looks` times, and at a word of the `record` that will
	 * follow: its cache line comes together with the index, not after it. Returns the index.
	 */
	await(index: number, seen: number, record: number, looks: number): number;
	/**
	 * Writes the records a table describes, until one does not fit into ring or scratch. Returns how many, and leaves
	 * the producer's next {@link position} and the payloads' {@link total}.
	 */
	putBatch(
		table: number,
		count: number,
		position: number,
		seenTail: number,
		data: number,
		capacity: number,
		scratch: number,
		scratchBytes: number,
		maxLength: number,
	): number;
	/**
	 * Copies waiting records to `target` and describes them in a table, until one does not fit there or is none a
	 * producer wrote. Returns how many, and leaves the consumer's next {@link position} and the payloads' {@link total}.
	 */
	takeBatch(
		table: number,
		count: number,
		position: number,
		seenHead: number,
		data: number,
		capacity: number,
		scratch: number,
		target: number,
		targetEnd: number,
	): number;
	position(): number;
	total(): number;
}

/** Longer payloads are cheaper through `memory.copy`, whose call costs as much as some dozen moves. */
const INLINE_BYTES = 192;
/**
 * On AMD's Zen 3 the `rep movsb` that memmove of glibc before 2.39 uses for some KiB and more takes sixteen times as long
 * when the target starts up to this many bytes further into its page than the source: there we move by ourselves. A ring
 * of 64 KiB records beside its scratch area lost half its speed to the three records of a lap that lie so.
 */
const NEAR_BYTES = 32;
const PAGE_BYTES = 4096;

/** Moves `length` bytes, and both addresses with them; three locals from `free` on are overwritten. */
const move = (target: number, source: number, length: number, free: number): Code => {
	const end = (local: number, align: number): Code => set(local, add(get(source), and(get(length), constant(-align))));
	const moving = (limit: number, step: number, body: Code): Code =>
		until(
			atLeast(get(source), get(limit)),
			body,
			set(target, add(get(target), constant(step))),
			set(source, add(get(source), constant(step))),
		);
	const vector = (offset: number): Code => moveVector(get(target), get(source), offset);
	const word = (offset: number): Code => moveWord(get(target), get(source), offset);
	const [blocks, words, bytes] = [free, free + 1, free + 2];
	return block(
		block(
			block(
				leaveIf(atMost(get(length), constant(INLINE_BYTES))),
				leaveIf(atLeast(and(subtract(get(target), get(source)), constant(PAGE_BYTES - 1)), constant(NEAR_BYTES)), 1),
			),
			end(blocks, 64),
			end(words, 8),
			end(bytes, 1),
			moving(blocks, 64, [0, 16, 32, 48].flatMap(vector)),
			moving(words, 8, word(0)),
			moving(bytes, 1, moveByte(get(target), get(source))),
			leave(1),
		),
		memoryCopy(get(target), get(source), get(length)),
	);
};

const [POSITION, TOTAL] = [0, 1];
const advance = (local: number, ...by: Code[]): Code => set(local, add(get(local), by.flat()));
/** What a record of `length` payload bytes takes: its header, and padding to 8. */
const recordSize = (length: number): Code => and(add(get(length), constant(15)), constant(-8));

const copy = func(3, move(0, 1, 2, 3));

/** Parameters 0 to 3: where a record goes, its payload, length and meta word. */
const writeRecord = (free: number): Code => {
	const [target, source, length, meta] = [0, 1, 2, 3];
	return [
		...store(get(target), get(length)),
		...store(get(target), get(meta), 4),
		...advance(target, constant(8)),
		...move(target, source, length, free),
	];
};

const put = func(3, writeRecord(4));

const publish = ((): Code => {
	const [index, value, sleeps] = [0, 1, 2];
	return func(1, atomicStore(get(index), get(value)), atomicLoad(get(sleeps)));
})();

const send = ((): Code => {
	const [index, value, sleeps] = [4, 5, 6];
	return func(3, writeRecord(7), atomicStore(get(index), get(value)), atomicLoad(get(sleeps)));
})();

const awaitIndex = ((): Code => {
	const [index, seen, record, looks, now, rest] = [0, 1, 2, 3, 4, 5];
	return func(
		2,
		set(now, get(seen)),
		until(
			equal(get(looks), constant(0)),
			leaveIf(notEqual(tee(now, atomicLoad(get(index))), get(seen)), 1),
			drop(atomicLoad(get(record))),
			// WebAssembly has no pause instruction, and whoever looks without one keeps the writer from the line.
			set(rest, constant(8)),
			until(equal(get(rest), constant(0)), set(rest, subtract(get(rest), constant(1)))),
			set(looks, subtract(get(looks), constant(1))),
		),
		get(now),
	);
})();

const putBatch = ((): Code => {
	const [table, count, position, seenTail, data, capacity, scratch, scratchBytes, maxLength] = [
		0, 1, 2, 3, 4, 5, 6, 7, 8,
	];
	const [length, source, at, size, taken, total, free] = [9, 10, 11, 12, 13, 14, 15];
	const used = subtract(get(position), get(seenTail));
	return func(
		9,
		until(
			atLeast(get(taken), get(count)),
			set(length, load(get(table), 4)),
			set(source, load(get(table))),
			leaveIf(above(get(length), get(maxLength)), 1),
			leaveIf(above(get(source), get(scratchBytes)), 1),
			leaveIf(above(get(length), subtract(get(scratchBytes), get(source))), 1),
			set(size, recordSize(length)),
			set(at, and(get(position), subtract(get(capacity), constant(1)))),
			block(
				leaveIf(atMost(add(get(at), get(size)), get(capacity))),
				leaveIf(above(add(add(used, subtract(get(capacity), get(at))), get(size)), get(capacity)), 2),
				store(add(get(data), get(at)), constant(-1)),
				advance(position, subtract(get(capacity), get(at))),
				set(at, constant(0)),
			),
			leaveIf(above(add(used, get(size)), get(capacity)), 1),
			advance(at, get(data)),
			store(get(at), get(length)),
			store(get(at), load(get(table), 8), 4),
			advance(at, constant(8)),
			advance(source, get(scratch)),
			move(at, source, length, free),
			advance(position, get(size)),
			advance(total, get(length)),
			advance(table, constant(ENTRY_BYTES)),
			advance(taken, constant(1)),
		),
		setGlobal(POSITION, get(position)),
		setGlobal(TOTAL, get(total)),
		get(taken),
	);
})();

const takeBatch = ((): Code => {
	const [table, count, position, seenHead, data, capacity, scratch, target, targetEnd] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
	const [length, source, at, size, taken, total, to, free] = [9, 10, 11, 12, 13, 14, 15, 16];
	const waiting = subtract(get(seenHead), get(position));
	return func(
		10,
		until(
			atLeast(get(taken), get(count)),
			leaveIf(equal(get(position), get(seenHead)), 1),
			set(at, and(get(position), subtract(get(capacity), constant(1)))),
			// Read once: what was checked must be what is used, whoever else writes there.
			set(length, load(add(get(data), get(at)))),
			block(
				leaveIf(notEqual(get(length), constant(-1))),
				leaveIf(above(subtract(get(capacity), get(at)), waiting), 2),
				advance(position, subtract(get(capacity), get(at))),
				set(at, constant(0)),
				leaveIf(equal(get(position), get(seenHead)), 2),
				set(length, load(get(data))),
			),
			leaveIf(above(get(length), waiting), 1),
			set(size, recordSize(length)),
			leaveIf(above(get(size), waiting), 1),
			leaveIf(above(add(get(at), get(size)), get(capacity)), 1),
			leaveIf(above(get(length), subtract(get(targetEnd), get(target))), 1),
			set(source, add(get(data), get(at))),
			store(get(table), subtract(get(target), get(scratch))),
			store(get(table), get(length), 4),
			store(get(table), load(get(source), 4), 8),
			set(to, get(target)),
			advance(source, constant(8)),
			move(to, source, length, free),
			set(target, and(add(add(get(target), get(length)), constant(7)), constant(-8))),
			advance(position, get(size)),
			advance(total, get(length)),
			advance(table, constant(ENTRY_BYTES)),
			advance(taken, constant(1)),
		),
		setGlobal(POSITION, get(position)),
		setGlobal(TOTAL, get(total)),
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
	const names = ["copy", "put", "publish", "send", "await", "putBatch", "takeBatch", "position", "total"];
	return new Uint8Array([
		...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
		...section(1, [
			7,
			...type(3),
			...type(4),
			...type(9, I32),
			...type(0, I32),
			...type(3, I32),
			...type(7, I32),
			...type(4, I32),
		]),
		...section(2, [1, ...text("e"), ...text("m"), 0x02, ...[0x03, 0x00, 0x80, 0x80, 0x04]]),
		...section(3, [names.length, ...[0, 1, 4, 5, 6, 2, 2, 3, 3]]),
		...section(6, [2, ...counter, ...counter]),
		...section(7, [names.length, ...names.flatMap((name, index) => [...text(name), 0x00, index])]),
		...section(10, [
			names.length,
			...[...copy, ...put, ...publish, ...send, ...awaitIndex, ...putBatch, ...takeBatch],
			...[...[4, 0, ...getGlobal(POSITION), 0x0b], ...[4, 0, ...getGlobal(TOTAL), 0x0b]],
		]),
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
