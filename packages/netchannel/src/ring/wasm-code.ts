/*
 * The few WebAssembly opcodes the ring's copier is written in: a compiler for sixty instructions would be the only
 * build step of this package. Locals and constants are written as LEB128.
 */

/** Instructions as bytes. */
export type Code = readonly number[];

export const I32 = 0x7f;

/** LEB128 of a size below 2^14. */
const size = (value: number): Code => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >> 7]);

/** Signed LEB128 of a word. */
const signed = (value: number): Code => {
	const low = value & 0x7f;
	const rest = value >> 7;
	return rest === ((low & 0x40) === 0 ? 0 : -1) ? [low] : [low | 0x80, ...signed(rest)];
};

export const section = (id: number, body: Code): Code => [id, ...size(body.length), ...body];
export const text = (value: string): Code => [value.length, ...[...value].map((letter) => letter.charCodeAt(0))];

/** A function body with `locals` words beside its parameters. */
export const func = (locals: number, ...code: Code[]): Code => {
	const body = [...(locals === 0 ? [0] : [1, locals, I32]), ...code.flat(), 0x0b];
	return [...size(body.length), ...body];
};

export const get = (local: number): Code => [0x20, local];
export const set = (local: number, ...value: Code[]): Code => [...value.flat(), 0x21, local];
export const tee = (local: number, ...value: Code[]): Code => [...value.flat(), 0x22, local];
export const setGlobal = (index: number, ...value: Code[]): Code => [...value.flat(), 0x24, index];
export const getGlobal = (index: number): Code => [0x23, index];
export const constant = (value: number): Code => [0x41, ...signed(value)];

const binary =
	(opcode: number) =>
	(a: Code, b: Code): Code => [...a, ...b, opcode];
export const equal: (a: Code, b: Code) => Code = binary(0x46);
export const below: (a: Code, b: Code) => Code = binary(0x49);
export const above: (a: Code, b: Code) => Code = binary(0x4b);
export const atMost: (a: Code, b: Code) => Code = binary(0x4d);
export const atLeast: (a: Code, b: Code) => Code = binary(0x4f);
export const notEqual: (a: Code, b: Code) => Code = binary(0x47);
export const add: (a: Code, b: Code) => Code = binary(0x6a);
export const subtract: (a: Code, b: Code) => Code = binary(0x6b);
export const divide: (a: Code, b: Code) => Code = binary(0x6e);
export const and: (a: Code, b: Code) => Code = binary(0x71);
export const or: (a: Code, b: Code) => Code = binary(0x72);
export const xor: (a: Code, b: Code) => Code = binary(0x73);

export const addFloat: (a: Code, b: Code) => Code = binary(0xa0);
export const belowFloat: (a: Code, b: Code) => Code = binary(0x63);
/** The float of an unsigned word. */
export const toFloat = (value: Code): Code => [...value, 0xb8];

/** An atomic access is sequentially consistent: no later one comes before it. */
export const atomicLoad = (address: Code): Code => [...address, 0xfe, 0x10, 2, 0];
export const atomicStore = (address: Code, value: Code): Code => [...address, ...value, 0xfe, 0x17, 2, 0];

/** Accesses carry their alignment, 2^0 for what may lie anywhere, and an offset. */
export const load = (address: Code, offset = 0): Code => [...address, 0x28, 2, ...size(offset)];
export const store = (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0x36, 2, ...size(offset)];
export const loadFloat = (address: Code, offset: number): Code => [...address, 0x2b, 3, ...size(offset)];
export const storeFloat = (address: Code, value: Code, offset: number): Code => [
	...address,
	...value,
	...[0x39, 3, ...size(offset)],
];

const moving =
	(read: Code, write: Code) =>
	(to: Code, from: Code, offset = 0): Code => [...to, ...from, ...read, 0, offset, ...write, 0, offset];
export const move1: (to: Code, from: Code, offset?: number) => Code = moving([0x2d], [0x3a]);
export const move2: (to: Code, from: Code, offset?: number) => Code = moving([0x2f], [0x3b]);
export const move4: (to: Code, from: Code, offset?: number) => Code = moving([0x28], [0x36]);
export const move8: (to: Code, from: Code, offset?: number) => Code = moving([0x29], [0x37]);
export const move16: (to: Code, from: Code, offset?: number) => Code = moving([0xfd, 0x00], [0xfd, 0x0b]);
export const memoryCopy = (to: Code, from: Code, length: Code): Code => [
	...to,
	...from,
	...length,
	...[0xfc, 0x0a, 0, 0],
];

export const block = (...code: Code[]): Code => [0x02, 0x40, ...code.flat(), 0x0b];
const loop = (...code: Code[]): Code => [0x03, 0x40, ...code.flat(), 0x0b];
/** Leaves `depth` blocks further out than the innermost when `condition` holds. */
export const leaveIf = (condition: Code, depth = 0): Code => [...condition, 0x0d, depth];
export const leave = (depth = 0): Code => [0x0c, depth];
/** Runs `code` when `condition` holds; one block further in. */
export const when = (condition: Code, ...code: Code[]): Code => [...condition, 0x04, 0x40, ...code.flat(), 0x0b];

/** Repeats `code`, at least once, while `condition` holds. */
export const repeatWhile = (condition: Code, ...code: Code[]): Code => loop(...code, leaveIf(condition));

/** Repeats `code` until `condition` holds; inside, `leave` at depth 1 ends it. */
export const until = (condition: Code, ...code: Code[]): Code => block(loop(leaveIf(condition, 1), ...code, leave(0)));
