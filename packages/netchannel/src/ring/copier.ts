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
const [I32_LOAD8, I64_LOAD, I32_STORE, I32_STORE8, I64_STORE, I32_CONST] = [0x2d, 0x29, 0x36, 0x3a, 0x37, 0x41];
const [I32_GT_U, I32_GE_U, I32_ADD, I32_SUB, I32_AND] = [0x4b, 0x4f, 0x6a, 0x6b, 0x71];
const MEMORY_COPY = [0xfc, 0x0a, 0x00, 0x00];

/** LEB128 of a size below 2^14. */
const size = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >> 7]);
const section = (id: number, body: number[]): number[] => [id, ...size(body.length), ...body];
const text = (value: string): number[] => [value.length, ...[...value].map((letter) => letter.charCodeAt(0))];
const func = (locals: number[], code: number[]): number[] => {
	const body = [...locals, ...code, END];
	return [...size(body.length), ...body];
};

/** One word or byte at a time from `source` to `target` until `counter` reaches `limit`. */
const loop = (counter: number, limit: number, step: number, load: number[], store: number[]): number[] => [
	BLOCK,
	EMPTY,
	LOOP,
	EMPTY,
	...[GET, counter, GET, limit, I32_GE_U, BR_IF, 1],
	...[GET, 0, GET, counter, I32_ADD],
	...[GET, 1, GET, counter, I32_ADD, ...load],
	...store,
	...[GET, counter, I32_CONST, step, I32_ADD, SET, counter, BR, 0],
	END,
	END,
];

/** Longer payloads are cheaper through `memory.copy`, whose call costs as much as a dozen moves. */
const INLINE_BYTES = 56;

function moduleBytes(shared: boolean): Uint8Array<ArrayBuffer> {
	const limits = shared ? [0x03, 0x00, 0x80, 0x80, 0x04] : [0x01, 0x00, 0x80, 0x80, 0x04];
	const copy = func([0], [GET, 0, GET, 1, GET, 2, ...MEMORY_COPY]);
	// (target, source, length, meta) with locals 4 = byte counter, 5 = length rounded down to words.
	const put = func(
		[1, 2, I32],
		[
			...[GET, 0, GET, 2, I32_STORE, 2, 0],
			...[GET, 0, GET, 3, I32_STORE, 2, 4],
			...[GET, 0, I32_CONST, 8, I32_ADD, SET, 0],
			BLOCK,
			EMPTY,
			BLOCK,
			EMPTY,
			...[GET, 2, I32_CONST, INLINE_BYTES, I32_GT_U, BR_IF, 0],
			...[GET, 2, GET, 2, I32_CONST, 7, I32_AND, I32_SUB, SET, 5],
			...loop(4, 5, 8, [I64_LOAD, 0, 0], [I64_STORE, 0, 0]),
			...loop(4, 2, 1, [I32_LOAD8, 0, 0], [I32_STORE8, 0, 0]),
			...[BR, 1],
			END,
			...[GET, 0, GET, 1, GET, 2, ...MEMORY_COPY],
			END,
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
