import type { Fpu, Regs, Segment, Sregs } from "../kvm/types.ts";

/** A vCPU's registers as gdb names them, read at once. */
export interface RegisterState {
	/** RIP is the linear address of the next instruction. */
	regs: Regs;
	sregs: Sregs;
	fpu: Fpu;
	kernelGsBase: bigint;
}

/** Which part of the state a register is in: what has to be written back. */
export type RegisterPart = "regs" | "sregs" | "fpu" | "msr";

/** One register of a target description. */
export interface GdbRegister {
	readonly name: string;
	readonly bytes: number;
	readonly type: string;
	readonly feature: string;
	readonly part: RegisterPart;
	/** Little-endian. */
	get(state: RegisterState): Uint8Array;
	/** Returns false where the register cannot be written. */
	set(state: RegisterState, value: Uint8Array): boolean;
}

const CORE = "org.gnu.gdb.i386.core";
const SSE = "org.gnu.gdb.i386.sse";
const SEGMENTS = "org.gnu.gdb.i386.segments";
/** Not one of gdb's: it shows these without giving them a meaning. */
const SYSTEM = "org.ring0.kvm-core.system";

type SegmentName = "cs" | "ss" | "ds" | "es" | "fs" | "gs";
const SEGMENT_NAMES: readonly SegmentName[] = ["cs", "ss", "ds", "es", "fs", "gs"];
/** gdb's order of the first eight differs from the processor's in both descriptions, in each in its own way. */
const GENERAL_64 = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const;
const GENERAL_32 = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const;
const EXTENDED = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;

function little(value: bigint, bytes: number): Uint8Array {
	const out = new Uint8Array(bytes);
	for (let i = 0; i < bytes; i++) out[i] = Number((value >> BigInt(8 * i)) & 0xffn);
	return out;
}

function fromLittle(bytes: Uint8Array): bigint {
	let value = 0n;
	for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
	return value;
}

interface Access {
	readonly part: RegisterPart;
	get(state: RegisterState): bigint;
	set(state: RegisterState, value: bigint): boolean;
}

function register(name: string, bytes: number, type: string, feature: string, access: Access): GdbRegister {
	return {
		name,
		bytes,
		type,
		feature,
		part: access.part,
		get: (state) => little(access.get(state), bytes),
		set: (state, value) => access.set(state, fromLittle(value)),
	};
}

function general(name: keyof Regs): Access {
	return {
		part: "regs",
		get: ({ regs }) => regs[name],
		set({ regs }, value) {
			regs[name] = value;
			return true;
		},
	};
}

function selector(name: SegmentName): Access {
	return {
		part: "sregs",
		get: ({ sregs }) => BigInt(sregs[name].selector),
		// A selector without its descriptor is no segment register; gdb writes back what it read.
		set: ({ sregs }, value) => sregs[name].selector === Number(value & 0xffffn),
	};
}

function base(name: "fs" | "gs"): Access {
	return {
		part: "sregs",
		get: ({ sregs }) => sregs[name].base,
		set({ sregs }, value) {
			(sregs[name] as Segment).base = value;
			return true;
		},
	};
}

function control(name: "cr0" | "cr2" | "cr3" | "cr4" | "cr8" | "efer"): Access {
	return {
		part: "sregs",
		get: ({ sregs }) => sregs[name],
		set({ sregs }, value) {
			sregs[name] = value;
			return true;
		},
	};
}

function fpuWord(get: (fpu: Fpu) => number | bigint, set?: (fpu: Fpu, value: number) => void): Access {
	return {
		part: "fpu",
		get: ({ fpu }) => BigInt(get(fpu)),
		set({ fpu }, value) {
			if (set === undefined) return BigInt(get(fpu)) === value;
			set(fpu, Number(value & 0xffff_ffffn));
			return true;
		},
	};
}

/** The 16-bit tag word: a register's contents decide between valid, zero and special. */
function tagWord(fpu: Fpu): number {
	const top = (fpu.fsw >> 11) & 7;
	let tags = 0;
	for (let i = 0; i < 8; i++) {
		const physical = (top + i) & 7;
		let tag = 3;
		if ((fpu.ftwx & (1 << physical)) !== 0) {
			const bytes = fpu.fpr[i]!;
			const exponent = (bytes[8]! | (bytes[9]! << 8)) & 0x7fff;
			const zero = bytes.subarray(0, 8).every((byte) => byte === 0);
			if (exponent === 0x7fff || (exponent !== 0 && (bytes[7]! & 0x80) === 0)) tag = 2;
			else if (exponent === 0) tag = zero ? 1 : 2;
			else tag = 0;
		}
		tags |= tag << (2 * physical);
	}
	return tags;
}

function setTagWord(fpu: Fpu, tags: number): void {
	fpu.ftwx = 0;
	for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) fpu.ftwx |= 1 << i;
}

function bytesOf(
	name: string,
	bytes: number,
	type: string,
	feature: string,
	of: (fpu: Fpu) => Uint8Array,
): GdbRegister {
	return {
		name,
		bytes,
		type,
		feature,
		part: "fpu",
		get: ({ fpu }) => of(fpu).slice(0, bytes),
		set({ fpu }, value) {
			of(fpu).set(value.subarray(0, bytes));
			return true;
		},
	};
}

function floatingPoint(): GdbRegister[] {
	const word = (name: string, access: Access): GdbRegister => register(name, 4, "int", CORE, access);
	return [
		...Array.from({ length: 8 }, (_, i) => bytesOf(`st${i}`, 10, "i387_ext", CORE, (fpu) => fpu.fpr[i]!)),
		word(
			"fctrl",
			fpuWord(
				({ fcw }) => fcw,
				(fpu, value) => (fpu.fcw = value & 0xffff),
			),
		),
		word(
			"fstat",
			fpuWord(
				({ fsw }) => fsw,
				(fpu, value) => (fpu.fsw = value & 0xffff),
			),
		),
		word("ftag", fpuWord(tagWord, setTagWord)),
		word(
			"fiseg",
			fpuWord(({ lastIp }) => (lastIp >> 32n) & 0xffff_ffffn),
		),
		word(
			"fioff",
			fpuWord(({ lastIp }) => lastIp & 0xffff_ffffn),
		),
		word(
			"foseg",
			fpuWord(({ lastDp }) => (lastDp >> 32n) & 0xffff_ffffn),
		),
		word(
			"fooff",
			fpuWord(({ lastDp }) => lastDp & 0xffff_ffffn),
		),
		word(
			"fop",
			fpuWord(
				({ lastOpcode }) => lastOpcode,
				(fpu, value) => (fpu.lastOpcode = value & 0x7ff),
			),
		),
	];
}

function vectors(count: number): GdbRegister[] {
	return [
		...Array.from({ length: count }, (_, i) => bytesOf(`xmm${i}`, 16, "vec128", SSE, (fpu) => fpu.xmm[i]!)),
		register(
			"mxcsr",
			4,
			"i386_mxcsr",
			SSE,
			fpuWord(
				({ mxcsr }) => mxcsr,
				(fpu, value) => (fpu.mxcsr = value),
			),
		),
	];
}

function system(bytes: number): GdbRegister[] {
	return (["cr0", "cr2", "cr3", "cr4", "cr8", "efer"] as const).map((name) =>
		register(name, bytes, bytes === 8 ? "uint64" : "uint32", SYSTEM, control(name)),
	);
}

const segments = SEGMENT_NAMES.map((name) => register(name, 4, "int32", CORE, selector(name)));
const eflags = register("eflags", 4, "i386_eflags", CORE, general("rflags"));

/** Registers by gdb's numbers, for a 64-bit description. */
export const REGISTERS_64: readonly GdbRegister[] = [
	...GENERAL_64.map((name) =>
		register(name, 8, name === "rbp" || name === "rsp" ? "data_ptr" : "int64", CORE, general(name)),
	),
	...EXTENDED.map((name) => register(name, 8, "int64", CORE, general(name))),
	register("rip", 8, "code_ptr", CORE, general("rip")),
	eflags,
	...segments,
	...floatingPoint(),
	...vectors(16),
	register("fs_base", 8, "int", SEGMENTS, base("fs")),
	register("gs_base", 8, "int", SEGMENTS, base("gs")),
	register("k_gs_base", 8, "int", SYSTEM, {
		part: "msr",
		get: ({ kernelGsBase }) => kernelGsBase,
		set(state, value) {
			state.kernelGsBase = value;
			return true;
		},
	}),
	...system(8),
];

/** The same for a 32-bit description. */
export const REGISTERS_32: readonly GdbRegister[] = [
	...GENERAL_32.map((name) =>
		register(`e${name.slice(1)}`, 4, /[bs]p$/.test(name) ? "data_ptr" : "int32", CORE, general(name)),
	),
	register("eip", 4, "code_ptr", CORE, general("rip")),
	eflags,
	...segments,
	...floatingPoint(),
	...vectors(8),
	...system(4),
];

const FLAGS: readonly (readonly [name: string, bit: number])[] = [
	["CF", 0],
	["", 1],
	["PF", 2],
	["AF", 4],
	["ZF", 6],
	["SF", 7],
	["TF", 8],
	["IF", 9],
	["DF", 10],
	["OF", 11],
	["NT", 14],
	["RF", 16],
	["VM", 17],
	["AC", 18],
	["VIF", 19],
	["VIP", 20],
	["ID", 21],
];
const MXCSR: readonly string[] = "IE DE ZE OE UE PE DAZ IM DM ZM OM UM PM".split(" ");

const TYPES: Readonly<Record<string, string>> = {
	[CORE]: `<flags id="i386_eflags" size="4">${FLAGS.map(
		([name, bit]) => `<field name="${name}" start="${bit}" end="${bit}"/>`,
	).join("")}</flags>`,
	[SSE]: `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/><vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/><vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/><union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union><flags id="i386_mxcsr" size="4">${MXCSR.map(
		(name, bit) => `<field name="${name}" start="${bit}" end="${bit}"/>`,
	).join("")}<field name="FZ" start="15" end="15"/></flags>`,
};

/** target.xml: the architecture and every register, in order. */
export function targetDescription(bits: 32 | 64): string {
	const registers = bits === 64 ? REGISTERS_64 : REGISTERS_32;
	const features = [...new Set(registers.map(({ feature }) => feature))].sort(
		(a, b) => registers.findIndex(({ feature }) => feature === a) - registers.findIndex(({ feature }) => feature === b),
	);
	const body = features.map((feature) => {
		const lines = registers
			.map((one, number) => ({ ...one, number }))
			.filter((one) => one.feature === feature)
			.map(
				({ name, bytes, type, number }) =>
					`<reg name="${name}" bitsize="${bytes * 8}" type="${type}" regnum="${number}"/>`,
			);
		return `<feature name="${feature}">${TYPES[feature] ?? ""}${lines.join("")}</feature>`;
	});
	const architecture = bits === 64 ? "i386:x86-64" : "i386";
	return `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0"><architecture>${architecture}</architecture>${body.join("")}</target>`;
}
