import { type Case, CODE, FX, type Outcome } from "../oracle/protocol.ts";
import type { Rng } from "../oracle/rng.ts";
import { operandsOf, parseOpcode, type Row } from "../oracle/rows.ts";
import { float32, float64, integer, putFloat80 } from "../oracle/values.ts";

/**
 * What a real CPU made of one instruction between registers, a line of text each: name, code, flags left open, then
 * the state before: RAX, RCX, FCW, FSW, FTW, MXCSR and the registers that are not zero, and after: the same with the
 * registers that changed. All hexadecimal.
 */

export interface Line {
	readonly name: string;
	readonly undefinedFlags: number;
	readonly one: Case;
	readonly want: Pick<Outcome, "trap" | "rflags" | "rip" | "gpr" | "fx">;
}

const REGISTERS = ["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7", "xmm0", "xmm1"];
const OFFSET = 0x400;

const place = (name: string): [at: number, bytes: number] =>
	name.startsWith("st") ? [FX.st + Number(name[2]) * 16, 10] : [FX.xmm + Number(name[3]) * 16, 16];
const hex = (value: bigint | number): string => value.toString(16);

const NOTHING = new Uint8Array(512);

function stateText(gpr: readonly bigint[], fx: Uint8Array, before: Uint8Array = NOTHING): string {
	const view = new DataView(fx.buffer, fx.byteOffset);
	const words = [gpr[0]!, gpr[1]!, view.getUint16(FX.fcw, true), view.getUint16(FX.fsw, true), fx[FX.ftw]!];
	const registers = REGISTERS.flatMap((name) => {
		const [at, bytes] = place(name);
		const value = fx.subarray(at, at + bytes);
		return value.some((byte, i) => byte !== before[at + i]) ? [`${name}=${Buffer.from(value).toString("hex")}`] : [];
	});
	return [...words.map(hex), hex(view.getUint32(FX.mxcsr, true)), ...registers].join(" ");
}

function parseState(text: string, before: Uint8Array = NOTHING): { gpr: bigint[]; fx: Uint8Array } {
	const words = text.split(" ");
	const fx = before.slice();
	const view = new DataView(fx.buffer);
	const number = (i: number): number => Number.parseInt(words[i]!, 16);
	view.setUint16(FX.fcw, number(2), true);
	view.setUint16(FX.fsw, number(3), true);
	view.setUint8(FX.ftw, number(4));
	view.setUint32(FX.mxcsr, number(5), true);
	for (const word of words.slice(6)) {
		const [name, value] = word.split("=") as [string, string];
		fx.set(Buffer.from(value, "hex"), place(name)[0]);
	}
	const gpr = Array.from({ length: 16 }, (_, i) => (i < 2 ? BigInt(`0x${words[i]}`) : 0n));
	return { gpr, fx };
}

export function toText({ name, undefinedFlags, one }: Omit<Line, "want">, want: Outcome): string {
	const code = Buffer.from(one.code).toString("hex");
	const head = [name, code, hex(undefinedFlags), want.trap, hex(want.rip - BigInt(CODE)), hex(want.rflags)].join(" ");
	return [head, stateText(one.gpr, one.fx), stateText(want.gpr, want.fx, one.fx)].join(" | ");
}

export function fromText(text: string): Line {
	const [head, before, after] = text.split(" | ") as [string, string, string];
	const [name, code, undefinedFlags, trap, rip, rflags] = head.split(" ") as [
		string,
		string,
		string,
		string,
		string,
		string,
	];
	const { gpr, fx } = parseState(before);
	return {
		name,
		undefinedFlags: Number.parseInt(undefinedFlags, 16),
		one: { mode: 64, offset: OFFSET, code: Uint8Array.from(Buffer.from(code, "hex")), gpr, rflags: 0x202n, fx },
		want: {
			trap: Number(trap),
			rip: BigInt(CODE) + BigInt(`0x${rip}`),
			rflags: BigInt(`0x${rflags}`),
			...parseState(after, fx),
		},
	};
}

/** The row's instruction from register 1 to register 0, or undefined when it has no such form. */
export function encodeRegisters(row: Row, immediate: number): Uint8Array | undefined {
	const encoding = parseOpcode(row);
	if (encoding.mod === "memory" || /^maskmov/.test(row.name)) return undefined;
	const code = [...(encoding.mandatory === 0 ? [] : [encoding.mandatory]), ...encoding.bytes];
	const hasModrm = encoding.modrm || encoding.mod === "register" || encoding.rm !== undefined;
	if (hasModrm) {
		// An operand in rm alone, as stores and shifts by immediates have it.
		const rm = encoding.rm ?? 1;
		code.push(0xc0 | ((encoding.reg ?? 0) << 3) | rm);
	}
	if (operandsOf(row).includes("Ib")) code.push(immediate);
	return Uint8Array.from(code);
}

/** A state to run a row in: two operands that make trouble, everything else empty. */
export function randomState(rng: Rng, row: Row, code: Uint8Array): Case {
	const fx = new Uint8Array(512);
	const view = new DataView(fx.buffer);
	const masks = rng.chance(70) ? 0x3f : rng.below(64);
	const precision = rng.pick([0, 2, 3, 3, 3]);
	const rounding = rng.chance(50) ? 0 : rng.below(4);
	view.setUint16(FX.fcw, 0x40 | masks | (precision << 8) | (rounding << 10), true);
	view.setUint16(FX.fsw, rng.below(8) << 8, true);
	view.setUint8(FX.ftw, rng.chance(85) ? 3 : rng.pick([0, 0xff]));
	const special = rng.chance(20) ? rng.pick([0x40, 0x8000, 0x8040]) : 0;
	view.setUint32(FX.mxcsr, (masks << 7) | (rounding << 13) | special, true);
	const integers = row.attributes.includes("mmx") || /^(p|mov|cvt(dq|pi|si))/.test(row.name);
	const doubles = /(pd|sd|pd2..|sd2..)$|^cvtt?[ps]d/.test(row.name);
	for (const i of [0, 1]) {
		if (row.attributes.includes("x87")) putFloat80(rng, view, FX.st + i * 16);
		else {
			view.setBigUint64(FX.st + i * 16, integer(rng), true);
			view.setUint16(FX.st + i * 16 + 8, 0xffff, true);
			for (let k = 0; k < 16; k += 8) {
				const at = FX.xmm + i * 16 + k;
				if (integers) view.setBigUint64(at, rng.chance(50) ? rng.u64() : integer(rng), true);
				else if (doubles) view.setBigUint64(at, float64(rng), true);
				else {
					view.setUint32(at, float32(rng), true);
					view.setUint32(at + 4, float32(rng), true);
				}
			}
		}
	}
	const gpr = Array.from({ length: 16 }, (_, i) => (i < 2 ? integer(rng) : 0n));
	return { mode: 64, offset: OFFSET, code, gpr, rflags: 0x202n, fx };
}
