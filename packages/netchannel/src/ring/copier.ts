/**
 * The few instructions that copy inside a WebAssembly memory. A `TypedArray.set` that touches a SharedArrayBuffer is a
 * relaxed byte loop in V8 (several times slower than memcpy from a few hundred bytes on); `memory.copy` is not.
 */
export interface Copier {
	/** Copies `length` bytes inside the memory. */
	copy(target: number, source: number, length: number): void;
	/** Writes a record's length and meta words at `target` and its payload behind them. */
	put(target: number, source: number, length: number, meta: number): void;
}

const I32 = 0x7f;
const EMPTY = 0x40;
const [BLOCK, LOOP, BR, BR_IF, END] = [0x02, 0x03, 0x0c, 0x0d, 0x0b];
const [GET, SET] = [0x20, 0x21];
// Loads and stores with their alignment, 2^0 for what may lie anywhere; the offset follows.
const [I32_LOAD8, I64_LOAD, I32_STORE, I32_STORE8, I64_STORE] = [
	[0x2d, 0],
	[0x29, 0],
	[0x36, 2],
	[0x3a, 0],
	[0x37, 0],
] as const;
const I32_CONST = 0x41;
const [I32_GT_U, I32_GE_U, I32_ADD, I32_AND] = [0x4b, 0x4f, 0x6a, 0x71];
const MEMORY_COPY = [0xfc, 0x0a, 0x00, 0x00];

/** LEB128 of a size below 2^14. */
const size = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >> 7]);
const section = (id: number, body: number[]): number[] => [id, ...size(body.length), ...body];
const text = (value: string): number[] => [value.length, ...[...value].map((letter) => letter.charCodeAt(0))];
const func = (locals: number[], code: number[]): number[] => {
	const body = [...locals, ...code, END];
	return [...size(body.length), ...body];
};

/** Locals of both functions: target, source, length, then where the 32-byte blocks, the words and the bytes end. */
const [TARGET, SOURCE, LENGTH] = [0, 1, 2];

/** Repeats `body`, which moves `step` bytes, until the source is at `limit`. */
const loop = (limit: number, step: number, body: number[]): number[] => [
	BLOCK,
	EMPTY,
	LOOP,
	EMPTY,
	...[GET, SOURCE, GET, limit, I32_GE_U, BR_IF, 1],
	...body,
	...[GET, TARGET, I32_CONST, step, I32_ADD, SET, TARGET],
	...[GET, SOURCE, I32_CONST, step, I32_ADD, SET, SOURCE, BR, 0],
	END,
	END,
];
const moveWord = (offset: number): number[] => [
	...[GET, TARGET, GET, SOURCE, ...I64_LOAD, offset],
	...I64_STORE,
	offset,
];

/** `source + (length & -align)` into `local`. */
const end = (local: number, align: number): number[] => [
	...[GET, SOURCE, GET, LENGTH, I32_CONST, -align & 0x7f, I32_AND, I32_ADD, SET, local],
];

/** Longer payloads are cheaper through `memory.copy`, whose call costs as much as some dozen moves. */
const INLINE_BYTES = 192;

/** Moves what `TARGET`, `SOURCE` and `LENGTH` say; three locals from `blocks` on are free. */
const move = (blocks: number): number[] => {
	const [words, bytes] = [blocks + 1, blocks + 2];
	return [
		BLOCK,
		EMPTY,
		BLOCK,
		EMPTY,
		...[GET, LENGTH, I32_CONST, (INLINE_BYTES & 0x7f) | 0x80, INLINE_BYTES >> 7, I32_GT_U, BR_IF, 0],
		...end(blocks, 32),
		...end(words, 8),
		...[GET, SOURCE, GET, LENGTH, I32_ADD, SET, bytes],
		...loop(blocks, 32, [0, 8, 16, 24].flatMap(moveWord)),
		...loop(words, 8, moveWord(0)),
		...loop(bytes, 1, [GET, TARGET, GET, SOURCE, ...I32_LOAD8, 0, ...I32_STORE8, 0]),
		...[BR, 1],
		END,
		...[GET, TARGET, GET, SOURCE, GET, LENGTH, ...MEMORY_COPY],
		END,
	];
};

function moduleBytes(shared: boolean): Uint8Array<ArrayBuffer> {
	const limits = shared ? [0x03, 0x00, 0x80, 0x80, 0x04] : [0x01, 0x00, 0x80, 0x80, 0x04];
	const copy = func([1, 3, I32], move(3));
	// (target, source, length, meta)
	const put = func(
		[1, 3, I32],
		[
			...[GET, TARGET, GET, LENGTH, ...I32_STORE, 0],
			...[GET, TARGET, GET, 3, ...I32_STORE, 4],
			...[GET, TARGET, I32_CONST, 8, I32_ADD, SET, TARGET],
			...move(4),
		],
	);
	return new Uint8Array([
		...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
		...section(1, [2, 0x60, 3, I32, I32, I32, 0, 0x60, 4, I32, I32, I32, I32, 0]),
		...section(2, [1, ...text("e"), ...text("m"), 0x02, ...limits]),
		...section(3, [2, 0, 1]),
		...section(7, [2, ...text("copy"), 0x00, 0, ...text("put"), 0x00, 1]),
		...section(10, [2, ...copy, ...put]),
	]);
}

const compiled = new Map<boolean, WebAssembly.Module>();

/** A {@link Copier} for `memory`; the module is compiled once per thread. */
export function createCopier(memory: WebAssembly.Memory, shared: boolean): Copier {
	let module = compiled.get(shared);
	if (module === undefined) compiled.set(shared, (module = new WebAssembly.Module(moduleBytes(shared))));
	return new WebAssembly.Instance(module, { e: { m: memory } }).exports as unknown as Copier;
}
