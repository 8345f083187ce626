import type { Generated } from "./generate.ts";
import type { Case, Outcome } from "./protocol.ts";
import { FX } from "./protocol.ts";
import { Rng } from "./rng.ts";
import { dataPages } from "./values.ts";

/** A case that once came out wrong, with what a real CPU made of it. Zero registers are left out. */
export interface Vector {
	/** The instructions' names, for the reader. */
	name: string;
	mode: Case["mode"];
	offset: number;
	code: string;
	gpr: Record<string, string>;
	rflags: string;
	fx: FxText;
	/** Of the contents of the data pages. */
	dataSeed: number;
	undefinedFlags: number;
	/** General registers that are not compared. */
	ignored?: readonly number[];
	want: {
		trap: number;
		error: number;
		cr2: string;
		rip: string;
		rflags: string;
		/** Those that changed. */
		gpr: Record<string, string>;
		selectors: number[];
		dirtyOffset: number;
		dirty: string;
		fx: FxText;
	};
}

/** An FXSAVE area: control words, and the registers that are not zero. */
interface FxText {
	control: [fcw: number, fsw: number, ftw: number, mxcsr: number];
	registers: Record<string, string>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const unhex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

function fxText(fx: Uint8Array): FxText {
	const view = new DataView(fx.buffer, fx.byteOffset);
	const registers: Record<string, string> = {};
	for (let i = 0; i < 24; i++) {
		const at = FX.st + i * 16;
		const bytes = fx.subarray(at, at + (i < 8 ? 10 : 16));
		if (bytes.some((byte) => byte !== 0)) registers[i < 8 ? `st${i}` : `xmm${i - 8}`] = hex(bytes);
	}
	return {
		control: [
			view.getUint16(FX.fcw, true),
			view.getUint16(FX.fsw, true),
			view.getUint8(FX.ftw),
			view.getUint32(FX.mxcsr, true),
		],
		registers,
	};
}

function fxBytes(text: FxText): Uint8Array {
	const fx = new Uint8Array(512);
	const view = new DataView(fx.buffer);
	view.setUint16(FX.fcw, text.control[0], true);
	view.setUint16(FX.fsw, text.control[1], true);
	view.setUint8(FX.ftw, text.control[2]);
	view.setUint32(FX.mxcsr, text.control[3], true);
	for (const [name, value] of Object.entries(text.registers)) {
		const at = name.startsWith("st") ? FX.st + Number(name.slice(2)) * 16 : FX.xmm + Number(name.slice(3)) * 16;
		fx.set(unhex(value), at);
	}
	return fx;
}

export function toVector({ one, name, undefinedFlags, ignored }: Generated, dataSeed: number, want: Outcome): Vector {
	const changed = (values: readonly bigint[], from: readonly bigint[]): Record<string, string> =>
		Object.fromEntries(values.flatMap((value, i) => (value === from[i] ? [] : [[i, value.toString(16)]])));
	return {
		name,
		mode: one.mode,
		offset: one.offset,
		code: hex(one.code),
		gpr: changed(
			one.gpr,
			one.gpr.map(() => 0n),
		),
		rflags: one.rflags.toString(16),
		fx: fxText(one.fx),
		dataSeed,
		undefinedFlags,
		...(ignored.length === 0 ? {} : { ignored }),
		want: {
			trap: want.trap,
			error: want.error,
			cr2: want.trap === 14 ? want.cr2.toString(16) : "0",
			rip: want.rip.toString(16),
			rflags: want.rflags.toString(16),
			gpr: changed(want.gpr, one.gpr),
			selectors: want.selectors,
			dirtyOffset: want.dirtyOffset,
			dirty: hex(want.dirty),
			fx: fxText(want.fx),
		},
	};
}

export function fromVector(vector: Vector): { one: Case; data: Uint8Array; want: Outcome } {
	const number = (text: string): bigint => BigInt(`0x${text}`);
	const registers = (text: Record<string, string>, from: readonly bigint[]): bigint[] =>
		from.map((value, i) => (text[i] === undefined ? value : number(text[i])));
	const gpr = registers(
		vector.gpr,
		Array.from({ length: 16 }, () => 0n),
	);
	const { want } = vector;
	return {
		one: {
			mode: vector.mode,
			offset: vector.offset,
			code: unhex(vector.code),
			gpr,
			rflags: number(vector.rflags),
			fx: fxBytes(vector.fx),
		},
		data: dataPages(new Rng(vector.dataSeed)),
		want: {
			trap: want.trap,
			error: want.error,
			cr2: number(want.cr2),
			rip: number(want.rip),
			rflags: number(want.rflags),
			gpr: registers(want.gpr, gpr),
			selectors: want.selectors,
			dirtyOffset: want.dirtyOffset,
			dirty: unhex(want.dirty),
			fx: fxBytes(want.fx),
		},
	};
}
