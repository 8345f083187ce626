import { afterAll, beforeAll, expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";
import { type EngineCpu, openEngineCpu } from "./guest.ts";
import { type Case, DATA, FX } from "./protocol.ts";

/** Faults that random cases meet too seldom to rely on, each instruction with an operand at DATA + `at`, in RBX. */

const ALIGNMENT_CHECK = 0x4_0000n;
const DONE = 3;
const SS = 12;
const GP = 13;
const PF = 14;
const AC = 17;

let engine: EngineCpu;
beforeAll(() => {
	engine = openEngineCpu(openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }));
});
afterAll(() => engine.close());

function trapOf(code: readonly number[], at: number, aligned: boolean, mode: Case["mode"] = 64): number {
	return trapAt(code, BigInt(DATA + at), aligned, mode);
}

function trapAt(code: readonly number[], address: bigint, aligned: boolean, mode: Case["mode"] = 64): number {
	const fx = new Uint8Array(512);
	const view = new DataView(fx.buffer);
	view.setUint16(FX.fcw, 0x37f, true);
	view.setUint32(FX.mxcsr, 0x1f80, true);
	const gpr = Array.from({ length: 16 }, () => 0n);
	gpr[3] = address;
	gpr[5] = address;
	gpr[4] = BigInt(DATA + 0x800) + (address & 15n);
	const one: Case = {
		mode,
		offset: 0x400,
		code: Uint8Array.from([...code, 0xcc]),
		gpr,
		rflags: 0x202n | (aligned ? ALIGNMENT_CHECK : 0n),
		fx,
	};
	const [outcome] = engine.run(new Uint8Array(0x2000), [one]);
	if (outcome!.trap === AC) expect(outcome!.error).toBe(0);
	return outcome!.trap;
}

test.each<[string, number, number[]]>([
	["mov ax, [rbx]", 2, [0x66, 0x8b, 0x03]],
	["mov [rbx], eax", 4, [0x89, 0x03]],
	["add [rbx], rax", 8, [0x48, 0x01, 0x03]],
	["lock cmpxchg8b [rbx]", 8, [0xf0, 0x0f, 0xc7, 0x0b]],
	["fld tbyte [rbx]", 8, [0xdb, 0x2b]],
	["fstp tbyte [rbx]", 8, [0xdd, 0xd8, 0xdb, 0x3b]],
	["fnstenv [rbx]", 4, [0xd9, 0x33]],
	["fnsave [rbx]", 4, [0xdd, 0x33]],
	["movups xmm0, [rbx]", 16, [0x0f, 0x10, 0x03]],
	["movsd xmm0, [rbx]", 8, [0xf2, 0x0f, 0x10, 0x03]],
	["pop rax", 8, [0x58]],
	["push rax", 8, [0x50]],
	["push ax", 2, [0x66, 0x50]],
])("with alignment checked %s wants multiples of %i", (_, unit, code) => {
	for (let at = 0; at < 16; at++) {
		expect(trapOf(code, 32 + at, true), `offset ${at}`).toBe(at % unit === 0 ? DONE : AC);
		expect(trapOf(code, 32 + at, false), `offset ${at}, not checked`).toBe(DONE);
	}
});

test("an access that is misaligned and not mapped is told to be misaligned", () => {
	expect(trapOf([0x8b, 0x03], 0x2000, true)).toBe(PF);
	expect(trapOf([0x8b, 0x03], 0x2001, true)).toBe(AC);
	expect(trapOf([0x8b, 0x03], 0x2001, false)).toBe(PF);
});

test.each<[string, number, number[]]>([
	["mov eax, [rbx]", GP, [0x8b, 0x03]],
	["mov [rbp], eax", SS, [0x89, 0x45, 0]],
	["fld tbyte [rbp]", SS, [0xdb, 0x6d, 0]],
	["leave", SS, [0xc9]],
])("%s that leaves the canonical addresses is told so before it is told to be misaligned", (_, vector, code) => {
	expect(trapAt(code, 0x7fff_ffff_ffffn, true)).toBe(vector);
	expect(trapAt(code, 0x7fff_ffff_ffffn, false)).toBe(vector);
});

test("of a save area's first four bytes, its alignment and its end it is told in this order", () => {
	const fxsave = [0x0f, 0xae, 0x45, 0];
	const end = 0x8000_0000_0000n;
	expect(trapAt(fxsave, end - 1n, true)).toBe(SS);
	expect(trapAt(fxsave, end - 5n, true)).toBe(AC);
	expect(trapAt(fxsave, end - 5n, false)).toBe(GP);
	expect(trapAt(fxsave, end - 4n, true)).toBe(GP);
	expect(trapAt(fxsave, end - 16n, true)).toBe(SS);
	// fnstenv [rbp]
	const environment = [0xd9, 0x75, 0];
	expect(trapAt(environment, end - 1n, true)).toBe(SS);
	expect(trapAt(environment, end - 5n, true)).toBe(AC);
	expect(trapAt(environment, end - 5n, false)).toBe(PF);
});

test("bytes are never misaligned, and SSE's aligned operands are #GP as ever", () => {
	expect(trapOf([0x8a, 0x03], 33, true)).toBe(DONE);
	expect(trapOf([0x0f, 0x28, 0x03], 40, true)).toBe(GP);
	expect(trapOf([0x0f, 0x28, 0x03], 40, false)).toBe(GP);
});

test("POPF switches the check on, and repeated moves obey it", () => {
	// pushfq; or dword [rsp], 40000h; popfq; mov eax, [rbx]
	const enable = [0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d];
	expect(trapOf([...enable, 0x8b, 0x03], 8, false)).toBe(DONE);
	expect(trapOf([...enable, 0x48, 0x83, 0xc3, 0x01, 0x8b, 0x03], 8, false)).toBe(AC);
	// mov rsi, rbx; mov rdi, rbx; mov ecx, 9; rep movsd
	const moves = [0x48, 0x89, 0xde, 0x48, 0x89, 0xdf, 0xb9, 9, 0, 0, 0, 0xf3, 0xa5];
	expect(trapOf(moves, 32, true)).toBe(DONE);
	expect(trapOf(moves, 34, true)).toBe(AC);
});

test.each([16, 32, 64] as const)("an instruction of 15 bytes is one, of 16 is #GP(0), in %i-bit code", (mode) => {
	const prefixed = (length: number): number[] => [...Array.from({ length: length - 1 }, () => 0x3e), 0x90];
	expect(trapOf(prefixed(15), 0, false, mode)).toBe(DONE);
	expect(trapOf(prefixed(16), 0, false, mode)).toBe(GP);
});
