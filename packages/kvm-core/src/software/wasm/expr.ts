/**
 * WebAssembly expressions as values: each holds the bytes that leave its result on the stack. They are built bottom-up
 * and have no effect until a {@link Func} takes them in; an expression used twice is evaluated twice, so name it with
 * `Func.let` first.
 */

/** The value types this encoder knows. */
export type ValType = "i32" | "i64" | "f32" | "f64" | "v128";

/** Bytes that leave one value of `type` on the stack. */
export interface Expr {
	readonly type: ValType;
	readonly code: readonly number[];
}

/** Unsigned LEB128. */
export function uleb(value: number): number[] {
	const out: number[] = [];
	let rest = value >>> 0;
	do {
		const byte = rest & 0x7f;
		rest >>>= 7;
		out.push(rest === 0 ? byte : byte | 0x80);
	} while (rest !== 0);
	return out;
}

/** Signed LEB128 of any integer. */
export function sleb(value: bigint): number[] {
	const out: number[] = [];
	let rest = value;
	for (;;) {
		const byte = Number(rest & 0x7fn);
		rest >>= 7n;
		const done = (rest === 0n && (byte & 0x40) === 0) || (rest === -1n && (byte & 0x40) !== 0);
		out.push(done ? byte : byte | 0x80);
		if (done) return out;
	}
}

function make(type: ValType, ...parts: readonly (readonly number[] | number)[]): Expr {
	const code: number[] = [];
	for (const part of parts) {
		if (typeof part === "number") code.push(part);
		else for (const byte of part) code.push(byte);
	}
	return { type, code };
}

/** An expression from raw bytes, for what has no function here. */
export function raw(type: ValType, code: readonly number[]): Expr {
	return { type, code };
}

/** i32 constant; takes signed and unsigned readings alike. */
export function c32(value: number): Expr {
	return make("i32", 0x41, sleb(BigInt(value | 0)));
}

/** i64 constant; takes signed and unsigned readings alike. */
export function c64(value: bigint | number): Expr {
	return make("i64", 0x42, sleb(BigInt.asIntN(64, BigInt(value))));
}

/** f64 constant. */
export function cf64(value: number): Expr {
	return make("f64", 0x44, [...new Uint8Array(new Float64Array([value]).buffer)]);
}

/** f32 constant. */
export function cf32(value: number): Expr {
	return make("f32", 0x43, [...new Uint8Array(new Float32Array([value]).buffer)]);
}

/** v128 constant of 16 bytes. */
export function c128(bytes: readonly number[]): Expr {
	return make("v128", 0xfd, uleb(0x0c), bytes);
}

function pick(type: ValType, i32: number, i64: number): number {
	if (type === "i32") return i32;
	if (type === "i64") return i64;
	throw new TypeError(`an integer operation was asked of ${type}`);
}

function binary(a: Expr, b: Expr, i32: number, i64: number, type: ValType = a.type): Expr {
	if (a.type !== b.type) throw new TypeError(`operands differ: ${a.type} and ${b.type}`);
	return make(type, a.code, b.code, pick(a.type, i32, i64));
}

export const add = (a: Expr, b: Expr): Expr => binary(a, b, 0x6a, 0x7c);
export const sub = (a: Expr, b: Expr): Expr => binary(a, b, 0x6b, 0x7d);
export const mul = (a: Expr, b: Expr): Expr => binary(a, b, 0x6c, 0x7e);
export const divS = (a: Expr, b: Expr): Expr => binary(a, b, 0x6d, 0x7f);
export const divU = (a: Expr, b: Expr): Expr => binary(a, b, 0x6e, 0x80);
export const remS = (a: Expr, b: Expr): Expr => binary(a, b, 0x6f, 0x81);
export const remU = (a: Expr, b: Expr): Expr => binary(a, b, 0x70, 0x82);
export const and = (a: Expr, b: Expr): Expr => binary(a, b, 0x71, 0x83);
export const or = (a: Expr, b: Expr): Expr => binary(a, b, 0x72, 0x84);
export const xor = (a: Expr, b: Expr): Expr => binary(a, b, 0x73, 0x85);
export const shl = (a: Expr, b: Expr): Expr => binary(a, b, 0x74, 0x86);
export const shrS = (a: Expr, b: Expr): Expr => binary(a, b, 0x75, 0x87);
export const shrU = (a: Expr, b: Expr): Expr => binary(a, b, 0x76, 0x88);
export const rotl = (a: Expr, b: Expr): Expr => binary(a, b, 0x77, 0x89);
export const rotr = (a: Expr, b: Expr): Expr => binary(a, b, 0x78, 0x8a);

export const eq = (a: Expr, b: Expr): Expr => binary(a, b, 0x46, 0x51, "i32");
export const ne = (a: Expr, b: Expr): Expr => binary(a, b, 0x47, 0x52, "i32");
export const ltS = (a: Expr, b: Expr): Expr => binary(a, b, 0x48, 0x53, "i32");
export const ltU = (a: Expr, b: Expr): Expr => binary(a, b, 0x49, 0x54, "i32");
export const gtS = (a: Expr, b: Expr): Expr => binary(a, b, 0x4a, 0x55, "i32");
export const gtU = (a: Expr, b: Expr): Expr => binary(a, b, 0x4b, 0x56, "i32");
export const leS = (a: Expr, b: Expr): Expr => binary(a, b, 0x4c, 0x57, "i32");
export const leU = (a: Expr, b: Expr): Expr => binary(a, b, 0x4d, 0x58, "i32");
export const geS = (a: Expr, b: Expr): Expr => binary(a, b, 0x4e, 0x59, "i32");
export const geU = (a: Expr, b: Expr): Expr => binary(a, b, 0x4f, 0x5a, "i32");

export const eqz = (a: Expr): Expr => make("i32", a.code, pick(a.type, 0x45, 0x50));
export const clz = (a: Expr): Expr => make(a.type, a.code, pick(a.type, 0x67, 0x79));
export const ctz = (a: Expr): Expr => make(a.type, a.code, pick(a.type, 0x68, 0x7a));
export const popcnt = (a: Expr): Expr => make(a.type, a.code, pick(a.type, 0x69, 0x7b));
/** i64 to i32, low half. */
export const wrap = (a: Expr): Expr => make("i32", a.code, 0xa7);
/** i32 to i64, sign-extended. */
export const extS = (a: Expr): Expr => make("i64", a.code, 0xac);
/** i32 to i64, zero-extended. */
export const extU = (a: Expr): Expr => make("i64", a.code, 0xad);
export const sext8 = (a: Expr): Expr => make(a.type, a.code, pick(a.type, 0xc0, 0xc2));
export const sext16 = (a: Expr): Expr => make(a.type, a.code, pick(a.type, 0xc1, 0xc3));
/** Sign-extends the low 32 bits of an i64. */
export const sext32 = (a: Expr): Expr => make("i64", a.code, 0xc4);

/** `condition ? a : b`, both evaluated. */
export function select(condition: Expr, a: Expr, b: Expr): Expr {
	if (a.type !== b.type) throw new TypeError(`operands differ: ${a.type} and ${b.type}`);
	const code = a.type === "v128" ? [0x1c, 0x01, 0x7b] : [0x1b];
	return make(a.type, a.code, b.code, condition.code, code);
}

/** One-operand instruction by opcode bytes (float and vector instructions). */
export function op1(type: ValType, opcode: readonly number[], a: Expr): Expr {
	return make(type, a.code, opcode);
}

/** Two-operand instruction by opcode bytes. */
export function op2(type: ValType, opcode: readonly number[], a: Expr, b: Expr): Expr {
	return make(type, a.code, b.code, opcode);
}

/** Vector instruction (0xfd prefix) of any number of operands, with optional immediate bytes. */
export function simd(
	type: ValType,
	opcode: number,
	operands: readonly Expr[],
	immediate: readonly number[] = [],
): Expr {
	return make(type, ...operands.map((operand) => operand.code), 0xfd, uleb(opcode), immediate);
}

/** Bytes a memory access touches. */
export type AccessSize = 1 | 2 | 4 | 8;

function memarg(offset: number): number[] {
	return [0x00, ...uleb(offset)];
}

/** Zero-extending load of `size` bytes as i32 (1, 2, 4). */
export function load32(size: 1 | 2 | 4, address: Expr, offset = 0): Expr {
	return make("i32", address.code, size === 1 ? 0x2d : size === 2 ? 0x2f : 0x28, memarg(offset));
}

/** Sign-extending load of `size` bytes as i32. */
export function load32S(size: 1 | 2, address: Expr, offset = 0): Expr {
	return make("i32", address.code, size === 1 ? 0x2c : 0x2e, memarg(offset));
}

/** Zero-extending load of `size` bytes as i64. */
export function load64(size: AccessSize, address: Expr, offset = 0): Expr {
	const opcode = size === 1 ? 0x31 : size === 2 ? 0x33 : size === 4 ? 0x35 : 0x29;
	return make("i64", address.code, opcode, memarg(offset));
}

/** Sign-extending load of `size` bytes as i64. */
export function load64S(size: 1 | 2 | 4, address: Expr, offset = 0): Expr {
	return make("i64", address.code, size === 1 ? 0x30 : size === 2 ? 0x32 : 0x34, memarg(offset));
}

export const loadF32 = (address: Expr, offset = 0): Expr => make("f32", address.code, 0x2a, memarg(offset));
export const loadF64 = (address: Expr, offset = 0): Expr => make("f64", address.code, 0x2b, memarg(offset));
export const loadV128 = (address: Expr, offset = 0): Expr => make("v128", address.code, 0xfd, 0x00, memarg(offset));

/** Bytes of a store of the low `size` bytes of an integer, or of a whole float or vector. */
export function storeCode(size: AccessSize | 16, address: Expr, value: Expr, offset = 0): number[] {
	let opcode: number[];
	if (value.type === "i32") opcode = [size === 1 ? 0x3a : size === 2 ? 0x3b : 0x36];
	else if (value.type === "i64") opcode = [size === 1 ? 0x3c : size === 2 ? 0x3d : size === 4 ? 0x3e : 0x37];
	else if (value.type === "f32") opcode = [0x38];
	else if (value.type === "f64") opcode = [0x39];
	else opcode = [0xfd, 0x0b];
	if (value.type === "i32" && size > 4) throw new TypeError("an i32 has no 8 bytes to store");
	return [...address.code, ...value.code, ...opcode, ...memarg(offset)];
}
