import type { Case, Mode } from "./protocol.ts";
import { CODE, CODE_BYTES, CODE_MAX, DATA, DATA_BYTES, FS_BASE, GS_BASE, REGION } from "./protocol.ts";
import type { Rng } from "./rng.ts";
import {
	APPROXIMATE,
	ELEMENTARY,
	type Encoding,
	exclusion,
	MACHINES_OWN,
	operandsOf,
	POINTERS,
	parseOpcode,
	type Row,
} from "./rows.ts";
import { fxArea, integer, SAVE_AREAS } from "./values.ts";

/** A case and what its comparison must know. */
export interface Generated {
	one: Case;
	/** The instructions' names. */
	name: string;
	rows: readonly Row[];
	/** Where each instruction begins in the code. */
	starts: readonly number[];
	/** Registers whose value the code relies on to reach memory. */
	planned: ReadonlySet<number>;
	/** Flags that the architecture leaves open after any of its instructions. */
	undefinedFlags: number;
	/** Registers whose value after it is the machine's own. */
	ignored: readonly number[];
}

/** The same code with other values in the registers that may have any, as the two engines then share its decoding. */
export function variant(rng: Rng, base: Generated): Generated {
	const { one } = base;
	const mask = one.mode === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
	const gpr = one.gpr.map((value, i) =>
		base.planned.has(i) || (one.mode !== 64 && i > 7) ? value : integer(rng) & mask,
	);
	return { ...base, one: { ...one, gpr, rflags: flags(rng), fx: fxArea(rng) } };
}

export function nameOf(rows: readonly Row[]): string {
	return rows.map((row) => row.name).join(" ");
}

function flags(rng: Rng): bigint {
	const direction = rng.chance(5) ? 0x400n : 0n;
	const alignment = rng.chance(6) ? 0x4_0000n : 0n;
	return 0x202n | (BigInt(rng.u32()) & ARITHMETIC_FLAGS) | direction | alignment;
}

interface Ready {
	row: Row;
	encoding: Encoding;
	operands: readonly string[];
}

const RSP = 4;
/** With LOCK before them, AMD's processors read CR0 as CR8, and execute VERW as if it were not there. */
const LOCK_MEANS_MORE = /^0F (2[02]|00 \/5)/;
const ARITHMETIC_FLAGS = 0x8d5n;
const CARRY = 1;
const OVERFLOW = 0x800;

/** What one instruction may use and has used up. */
interface Draft {
	rng: Rng;
	mode: Mode;
	offset: number;
	code: number[];
	gpr: bigint[];
	/** RSP is far from the ends of the data pages. */
	roomy: boolean;
	/** Registers whose value something already relies on. */
	planned: Set<number>;
	/** What the last instruction was encoded with: operand size, the register of ModRM.rm, its immediate bytes. */
	size: 2 | 4 | 8;
	rm: number;
	immediates: readonly number[];
}

interface Address {
	modrm: number;
	sib?: number;
	displacement: number[];
	/** Extension bits of base and index. */
	rex: number;
	/** Where in `displacement` a RIP-relative one is to be completed. */
	target?: number;
}

/** Makes random cases of the rows of an instruction table. */
export class Generator {
	readonly #ready: readonly Ready[];
	/** Opcodes that a 66, F2 or F3 turns into another row. */
	readonly #prefixed = new Map<string, Set<number>>();

	constructor(rows: readonly Row[]) {
		this.#ready = rows
			.filter((row) => exclusion(row) === undefined)
			.map((row) => ({ row, encoding: parseOpcode(row), operands: operandsOf(row) }));
		for (const row of rows) {
			const { bytes, mandatory, bare } = parseOpcode(row);
			if (mandatory === 0 && !bare) continue;
			const key = bytes.join();
			let prefixes = this.#prefixed.get(key);
			if (prefixes === undefined) this.#prefixed.set(key, (prefixes = new Set()));
			prefixes.add(mandatory);
		}
	}

	/** Rows that are generated. */
	get rows(): readonly Row[] {
		return this.#ready.map(({ row }) => row);
	}

	/** A case around `only` (its index in `rows`), or around any row. */
	next(rng: Rng, modes: readonly Mode[], only?: number): Generated {
		for (;;) {
			const mode = rng.pick(modes);
			const made = this.#attempt(rng, mode, only);
			if (made !== undefined) return made;
		}
	}

	#attempt(rng: Rng, mode: Mode, only: number | undefined): Generated | undefined {
		const draft: Draft = {
			rng,
			mode,
			offset: this.#offset(rng),
			code: [],
			gpr: Array.from({ length: 16 }, () => integer(rng)),
			roomy: rng.chance(92),
			planned: new Set([RSP]),
			size: 4,
			rm: 0,
			immediates: [],
		};
		if (mode !== 64) for (let i = 0; i < 16; i++) draft.gpr[i]! &= i < 8 ? 0xffff_ffffn : 0n;
		draft.gpr[RSP] = this.#stack(draft);
		if (mode === 16) {
			// An IRET to a 16-bit stack leaves the kernel's upper half in ESP: begin with mov esp, imm32.
			draft.code.push(0x66, 0xbc, ...dword(draft.gpr[RSP]));
			draft.offset -= draft.code.length;
		}
		const count = rng.chance(75) ? 1 : 1 + rng.below(5);
		const rows: Row[] = [];
		const starts: number[] = [];
		let undefinedFlags = 0;
		let ignored: readonly number[] = [];
		for (let i = 0; i < count; i++) {
			const ready = i === 0 && only !== undefined ? this.#ready[only]! : rng.pick(this.#ready);
			if (!valid(ready.row, mode)) {
				if (i === 0) return undefined;
				continue;
			}
			// Their count must be known: see #implied. Far returns read more of the stack than
			// they need, and POPA that faults keeps what it has popped, on some processors.
			if (i > 0 && /^(sh[lr]d|retf|iret.?|popa)$/.test(ready.row.name)) continue;
			if (/^(retf|iret.?|popa)$/.test(ready.row.name) && !draft.roomy) return undefined;
			if (
				POINTERS.test(ready.row.name) &&
				rows.some((row) => row.attributes.includes("x87") || POINTERS.test(row.name))
			)
				continue;
			// Whether a component counts as in use after what was done to it is the processor's choice.
			if (i > 0 && /^xsave/.test(ready.row.name)) continue;
			// Behind anything else EAX may forbid key 0, and with it the process its own memory.
			if (i > 0 && ready.row.name === "wrpkru") continue;
			const before = draft.code.length;
			this.#instruction(draft, ready);
			if (draft.code.length > CODE_MAX - 4) {
				draft.code.length = before;
				break;
			}
			rows.push(ready.row);
			starts.push(before);
			const open = undefinedAfter(draft, ready, i === 0);
			undefinedFlags |= open;
			// What follows must not see flags that the architecture leaves open: cmp al, al.
			if (open !== 0 && i < count - 1) draft.code.push(0x38, 0xc0);
			if (MACHINES_OWN.test(ready.row.name)) {
				ignored = resultsOf(ready.row.name, draft.rm);
				break;
			}
			if (ELEMENTARY.test(ready.row.name) || APPROXIMATE.test(ready.row.name)) break;
			if (ready.row.attributes.includes("ends") || ready.operands.some((operand) => operand.startsWith("J"))) break;
		}
		const code = Uint8Array.from(draft.code.slice(0, CODE_MAX));
		const room = CODE_BYTES - draft.offset;
		return {
			one: {
				mode,
				offset: draft.offset,
				code: code.subarray(0, room),
				gpr: draft.gpr,
				rflags: flags(rng),
				fx: fxArea(rng),
			},
			name: nameOf(rows),
			rows,
			starts,
			planned: draft.planned,
			undefinedFlags,
			ignored,
		};
	}

	#offset(rng: Rng): number {
		if (rng.chance(90)) return 0x400;
		// Across the two code pages, or up to the end of the second.
		return rng.chance(70) ? 0x1000 - 1 - rng.below(15) : CODE_BYTES - 1 - rng.below(15);
	}

	#stack({ rng, mode, roomy }: Draft): bigint {
		const linear = roomy
			? DATA + 0x800 + rng.below(0x100) * 8
			: DATA + rng.pick([0, 4, 8, DATA_BYTES - 8, DATA_BYTES - 2, DATA_BYTES, 0x1000 - 4, rng.below(DATA_BYTES)]);
		if (mode !== 16) return BigInt(linear);
		return (rng.chance(20) ? BigInt(rng.u32() & 0xffff) << 16n : 0n) | BigInt(linear - REGION);
	}

	#instruction(draft: Draft, ready: Ready): void {
		const { rng, mode } = draft;
		const { row, encoding, operands } = ready;
		const near = operands.some((operand) => operand.startsWith("J")) || row.attributes.includes("f64");
		const prefixes: number[] = [];
		const taken = this.#prefixed.get(encoding.bytes.join());
		const vector = operands.some((operand) => /^[VWUPQN][a-z]/.test(operand));
		let size: 2 | 4 | 8 = mode === 16 ? 2 : 4;
		// AMD and Intel differ about 66 before a near branch in 64-bit mode.
		const mayResize =
			encoding.mandatory === 0 && !encoding.bare && !taken?.has(0x66) && !vector && !(near && mode === 64);
		if (mayResize && rng.chance(25)) {
			prefixes.push(0x66);
			size = mode === 16 ? 4 : 2;
		}
		let addressSize: 2 | 4 | 8 = mode === 64 ? 8 : mode === 32 ? 4 : 2;
		if (rng.chance(10)) {
			prefixes.push(0x67);
			addressSize = mode === 32 ? 2 : 4;
		}
		let segmentBase = mode === 16 ? REGION : 0;
		if (rng.chance(12)) {
			const segment = rng.pick([0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e]);
			prefixes.push(segment);
			if (segment === 0x64) segmentBase = FS_BASE;
			if (segment === 0x65) segmentBase = mode === 64 ? GS_BASE : DATA;
		}
		const memory = encoding.modrm && encoding.mod !== "register" && (encoding.mod === "memory" || rng.chance(50));
		if (
			row.attributes.includes("lock") ? memory && rng.chance(20) : !LOCK_MEANS_MORE.test(row.opcode) && rng.chance(0.5)
		)
			prefixes.push(0xf0);
		if (row.attributes.includes("rep")) {
			if (rng.chance(60)) prefixes.push(rng.pick([0xf3, 0xf2]));
		} else if (
			encoding.mandatory === 0 &&
			!encoding.bare &&
			taken === undefined &&
			!vector &&
			// With F3 before them a newer CPU sees TZCNT and LZCNT.
			!/^bs[fr]$/.test(row.name) &&
			// Before LOOPE and LOOPNE they pick the one or the other on some processors.
			!row.name.startsWith("loop") &&
			rng.chance(2)
		) {
			prefixes.push(rng.pick([0xf2, 0xf3]));
		}
		for (let i = prefixes.length - 1; i > 0; i--) {
			const j = rng.below(i + 1);
			[prefixes[i], prefixes[j]] = [prefixes[j]!, prefixes[i]!];
		}
		// An override without effect, often enough for the 15 bytes an instruction may have, or a few more.
		if (rng.chance(1)) prefixes.unshift(...Array.from({ length: 7 + rng.below(8) }, () => 0x3e));
		if (encoding.mandatory !== 0) prefixes.push(encoding.mandatory);

		let rex = mode === 64 && rng.chance(55) ? 0x40 | rng.below(8) | (rng.chance(45) ? 8 : 0) : 0;
		// AMD's far pointers in memory have no 64-bit offset.
		if (/^(lss|lfs|lgs|callf|jmpf|lcall|ljmp)/.test(row.name) || operands.some((o) => /^M.*p$/.test(o) && o !== "Mps"))
			rex &= ~8;
		if ((rex & 8) !== 0) size = 8;

		this.#implied(draft, ready, addressSize, segmentBase);
		const opcode = [...encoding.bytes];
		if (encoding.plusRegister) opcode[opcode.length - 1]! |= rng.below(8);
		const tail: number[] = [];
		let target: number | undefined;
		if (encoding.modrm) {
			let reg = encoding.reg ?? rng.below(8);
			// CS cannot be loaded so, CR and DR only at CPL 0: those answer #UD and #GP whatever stands there.
			if (operands.some((operand) => operand.startsWith("S"))) reg = rng.chance(90) ? rng.below(6) : reg;
			if (!memory) tail.push(0xc0 | (reg << 3) | (encoding.rm ?? rng.below(8)));
			else {
				const address = this.#address(draft, addressSize, segmentBase, /^x(save|rstor)/.test(row.name));
				rex = address.rex === 0 && rex === 0 ? 0 : (rex & ~3) | address.rex | (rex === 0 ? 0x40 : 0);
				if (mode !== 64) rex = 0;
				target = address.target;
				tail.push(
					address.modrm | (reg << 3),
					...(address.sib === undefined ? [] : [address.sib]),
					...address.displacement,
				);
			}
		}
		// Far returns look at what lies behind what they release, in an order of their own.
		const immediates =
			row.name === "retf" && operands.includes("Iw")
				? [rng.below(32), 0]
				: /^sh[lr]d$/.test(row.name) && operands.includes("Ib")
					? [rng.below(8) * 32 + rng.below(16)]
					: operands.flatMap((operand) => this.#immediate(draft, operand, size, addressSize, segmentBase));
		draft.size = size;
		draft.rm = ((tail[0] ?? 0) & 7) | ((rex & 1) << 3);
		draft.immediates = immediates;
		const length = prefixes.length + (rex === 0 ? 0 : 1) + opcode.length + tail.length + immediates.length;
		if (target !== undefined) {
			const displacement = target - (CODE + draft.offset + draft.code.length + length);
			for (let i = 0; i < 4; i++) tail[tail.length - 4 + i] = (displacement >> (8 * i)) & 255;
		}
		draft.code.push(...prefixes, ...(rex === 0 ? [] : [rex]), ...opcode, ...tail, ...immediates);
	}

	/** Registers that an instruction uses without naming them. */
	#implied(draft: Draft, { row, operands }: Ready, addressSize: number, segmentBase: number): void {
		const { rng, gpr, planned } = draft;
		const point = (register: number, base: number): void => {
			if (planned.has(register) || rng.chance(10)) return;
			planned.add(register);
			gpr[register] = this.#truncate(rng, BigInt(this.#target(rng) - base), addressSize, draft.mode);
		};
		const extra = draft.mode === 16 ? REGION : 0;
		if (operands.some((operand) => operand.startsWith("X"))) point(6, segmentBase);
		if (operands.some((operand) => operand.startsWith("Y"))) point(7, extra);
		if (/^maskmov/.test(row.name)) point(7, segmentBase);
		if (/^xlat/.test(row.name)) point(3, segmentBase);
		if (/^(leave|enter)/.test(row.name)) point(5, extra);
		if (row.attributes.includes("rep") && !planned.has(1) && rng.chance(85)) {
			planned.add(1);
			gpr[1] = BigInt(rng.below(rng.chance(80) ? 20 : 600));
			if (addressSize !== 8 && rng.chance(20) && draft.mode === 64) gpr[1] |= BigInt(rng.u32()) << 32n;
		}
		if (/^x(save|rstor)/.test(row.name)) {
			// x87 and SSE, and components that neither side has.
			planned.add(0);
			planned.add(2);
			gpr[0] = BigInt(rng.below(4) + (rng.u32() & 0x3f) * 0x100_0000);
			gpr[2] = BigInt(rng.u32() & 0x3fff_ffff);
		}
		if (/^(rdpkru|wrpkru|xgetbv)$/.test(row.name) && rng.chance(85)) {
			planned.add(1);
			gpr[1] = (gpr[1]! >> 32n) << 32n;
			planned.add(2);
			if (row.name === "wrpkru") gpr[2] = (gpr[2]! >> 32n) << 32n;
		}
		// XCR0 is the machine's own; whether there are others, too.
		if (row.name === "xgetbv" && (gpr[1]! & 0xffff_ffffn) === 1n) gpr[1] = 2n;
		// Key 0 is the process's own memory.
		if (row.name === "wrpkru") {
			planned.add(0);
			gpr[0]! &= ~3n;
		}
		if (operands.includes("CL") && !/^sh[lr]d$/.test(row.name) && !planned.has(1) && rng.chance(60)) {
			planned.add(1);
			gpr[1] = (gpr[1]! & ~0xffn) | BigInt(rng.chance(50) ? rng.pick([1, 1, 1, 33, 65, 0]) : rng.below(70));
		}
		// Most shift counts, bit offsets and divisors should do something.
		if (/^(bt|bts|btr|btc)$/.test(row.name) && rng.chance(70)) {
			for (let i = 0; i < 16; i++) if (!planned.has(i) && rng.chance(50)) gpr[i] = BigInt(rng.below(256));
		}
		if (/^sh[lr]d$/.test(row.name)) {
			// A count above the operand's size leaves everything undefined; only 16-bit operands have such counts.
			planned.add(1);
			gpr[1] = (gpr[1]! & ~0x1fn) | BigInt(rng.below(16));
		}
		const choose = (register: number, value: bigint): void => {
			if (!planned.has(register)) gpr[register] = value;
		};
		if (/^i?div$/.test(row.name) && rng.chance(60)) choose(2, rng.chance(50) ? 0n : BigInt(rng.below(100)));
		if (/^cmpxchg/.test(row.name) && rng.chance(40)) choose(0, gpr[rng.below(16)]!);
		// Branch targets in registers.
		if (row.attributes.includes("ends") && rng.chance(50)) {
			for (let i = 0; i < 16; i++) {
				if (!planned.has(i) && rng.chance(50)) gpr[i] = BigInt(CODE - extra + 0x800 + rng.below(0x400));
			}
		}
	}

	/** A linear address to point a memory operand at. */
	#target(rng: Rng): number {
		const kind = rng.below(100);
		if (kind < 60) return DATA + 16 * rng.below(DATA_BYTES / 16);
		if (kind < 75) return DATA + 8 * rng.below(DATA_BYTES / 8);
		if (kind < 87) return DATA + rng.below(DATA_BYTES - 64);
		if (kind < 92) return DATA + 0x1000 - rng.below(20);
		if (kind < 96) return DATA + DATA_BYTES - rng.below(20);
		if (kind < 98) return CODE + rng.below(CODE_BYTES);
		return DATA - rng.below(40);
	}

	#truncate(rng: Rng, value: bigint, addressSize: number, mode: Mode): bigint {
		const cut = BigInt.asUintN(addressSize * 8, value);
		if (addressSize === 8 || !rng.chance(30)) return cut;
		// What lies above the address size must not matter.
		const noise = BigInt.asUintN(mode === 64 ? 64 : 32, rng.u64());
		return cut | ((noise >> BigInt(addressSize * 8)) << BigInt(addressSize * 8));
	}

	#address(draft: Draft, addressSize: 2 | 4 | 8, segmentBase: number, saveArea: boolean): Address {
		const { rng } = draft;
		let target = this.#target(rng);
		if (saveArea && rng.chance(90)) {
			target = DATA + (rng.chance(60) ? rng.pick(SAVE_AREAS) : 64 * rng.below(DATA_BYTES / 64));
		}
		const goal = BigInt(target - segmentBase);
		return addressSize === 2 ? this.#address16(draft, goal) : this.#address32(draft, goal, addressSize);
	}

	#address16(draft: Draft, goal: bigint): Address {
		const { rng } = draft;
		const mod = rng.below(3);
		const rm = rng.below(8);
		if (mod === 0 && rm === 6) return { modrm: 6, displacement: word(Number(BigInt.asUintN(16, goal))), rex: 0 };
		const displacement = mod === 0 ? 0n : mod === 1 ? BigInt.asIntN(8, rng.u64()) : BigInt(rng.u32() & 0xffff);
		const registers = [[3, 6], [3, 7], [5, 6], [5, 7], [6], [7], [5], [3]][rm]!;
		this.#solve(draft, registers[0]!, registers[1], 1n, goal - displacement, 2);
		const bytes = mod === 0 ? [] : mod === 1 ? [Number(BigInt.asUintN(8, displacement))] : word(Number(displacement));
		return { modrm: (mod << 6) | rm, displacement: bytes, rex: 0 };
	}

	#address32(draft: Draft, goal: bigint, addressSize: 4 | 8): Address {
		const { rng, mode } = draft;
		const mod = rng.below(3);
		const registers = mode === 64 ? 16 : 8;
		const displacement =
			mod === 0 ? 0n : mod === 1 ? BigInt.asIntN(8, rng.u64()) : BigInt(rng.u32() | 0) >> BigInt(rng.below(32));
		const bytes = mod === 0 ? [] : mod === 1 ? [Number(BigInt.asUintN(8, displacement))] : dword(displacement);
		if (rng.chance(10)) {
			// No base, no index: absolute with SIB, and without it absolute or RIP-relative.
			const absolute = dword(goal);
			if (rng.chance(50)) return { modrm: 4, sib: 0x25, displacement: absolute, rex: 0 };
			if (mode !== 64) return { modrm: 5, displacement: absolute, rex: 0 };
			return { modrm: 5, displacement: absolute, rex: rng.below(2), target: Number(goal) };
		}
		if (rng.chance(50)) {
			const base = rng.below(registers);
			if ((base & 7) === 4 || (mod === 0 && (base & 7) === 5)) return this.#address32(draft, goal, addressSize);
			this.#solve(draft, base, undefined, 0n, goal - displacement, addressSize);
			return { modrm: (mod << 6) | (base & 7), displacement: bytes, rex: base >> 3 };
		}
		const scale = rng.below(4);
		const index = rng.below(registers);
		const base = rng.below(registers);
		if (mod === 0 && (base & 7) === 5) {
			// An index with a 32-bit displacement only.
			const offset = BigInt(rng.u32() | 0) >> BigInt(rng.below(32));
			const value = index === 4 ? 0n : (goal - offset) >> BigInt(scale);
			if (index !== 4 && !draft.planned.has(index)) {
				draft.planned.add(index);
				draft.gpr[index] = this.#truncate(rng, value, addressSize, mode);
			}
			const rest = index === 4 ? goal : goal - (value << BigInt(scale));
			return {
				modrm: 4,
				sib: (scale << 6) | ((index & 7) << 3) | 5,
				displacement: dword(rest),
				rex: (index >> 3) * 2 + (base >> 3),
			};
		}
		this.#solve(draft, base, index === 4 ? undefined : index, 1n << BigInt(scale), goal - displacement, addressSize);
		return {
			modrm: (mod << 6) | 4,
			sib: (scale << 6) | ((index & 7) << 3) | (base & 7),
			displacement: bytes,
			rex: (index >> 3) * 2 + (base >> 3),
		};
	}

	/** Sets registers so that base + index * scale comes to `goal`, as far as they are still free. */
	#solve(
		draft: Draft,
		base: number,
		index: number | undefined,
		scale: bigint,
		goal: bigint,
		addressSize: number,
	): void {
		const { rng, gpr, planned, mode } = draft;
		let rest = goal;
		if (index === base) {
			if (!planned.has(base)) gpr[base] = this.#truncate(rng, goal / (1n + scale), addressSize, mode);
			planned.add(base);
			return;
		}
		if (index !== undefined) {
			if (!planned.has(index) && rng.chance(60))
				gpr[index] = BigInt.asUintN(mode === 64 ? 64 : 32, BigInt(rng.below(512) - 256));
			planned.add(index);
			rest -= gpr[index]! * scale;
		}
		if (!planned.has(base)) gpr[base] = this.#truncate(rng, rest, addressSize, mode);
		planned.add(base);
	}

	#immediate(draft: Draft, operand: string, size: 2 | 4 | 8, addressSize: number, segmentBase: number): number[] {
		const { rng } = draft;
		const random = (): bigint => integer(rng);
		switch (operand) {
			case "Ib":
			case "Ibs":
				return [rng.chance(60) ? rng.below(256) : rng.below(66)];
			case "Iw":
				return word(rng.chance(70) ? rng.below(64) : rng.below(65536));
			case "Iwb":
				return [...word(rng.below(rng.chance(80) ? 64 : 65536)), rng.chance(80) ? rng.below(4) : rng.below(256)];
			case "Iz":
				return size === 2 ? word(Number(random() & 0xffffn)) : dword(random());
			case "Iv":
				return size === 2 ? word(Number(random() & 0xffffn)) : size === 4 ? dword(random()) : qword(random());
			case "Jb": {
				// Never back to where it stands: such a case would not end.
				const value = rng.below(256);
				return [value >= 0xa0 ? value - 0xa0 : value];
			}
			case "Jz": {
				const value = rng.chance(80) ? rng.below(0x700) : rng.below(0x7fff_ffff);
				return size === 2 ? word(value & 0x7fff) : dword(BigInt(value));
			}
			case "Ap": {
				const offset = BigInt(CODE + rng.below(CODE_BYTES));
				// From a 16-bit stack a call to 64-bit code pushes to where only some processors do.
				const selector = rng.pick([
					0x23,
					draft.mode === 16 ? 0x23 : 0x33,
					0x07,
					0x2b,
					0,
					0x10,
					0x0f,
					0x37,
					0x3f,
					0x63,
					rng.below(65536),
				]);
				return [...(size === 2 ? word(Number(offset & 0xffffn)) : dword(offset)), ...word(selector)];
			}
		}
		if (operand.startsWith("O")) {
			const goal = BigInt(this.#target(rng) - segmentBase);
			return addressSize === 2 ? word(Number(goal & 0xffffn)) : addressSize === 4 ? dword(goal) : qword(goal);
		}
		return [];
	}
}

/** Flags that an instruction leaves open, as it is encoded and, when it stands first, with the count it has. */
function undefinedAfter(draft: Draft, { row, operands }: Ready, first: boolean): number {
	if (row.name === "rdseed") return CARRY;
	if (!/^(ro[lr]|rc[lr]|sh[lr]|sar|sh[lr]d)$/.test(row.name) || row.undefinedFlags === 0) return row.undefinedFlags;
	const byte = row.operands.startsWith("Eb");
	let count: number;
	if (operands.at(-1) === "Ib") count = draft.immediates[0]!;
	else if (operands.at(-1) === "CL" && first && draft.planned.has(1)) count = Number(draft.gpr[1]! & 0xffn);
	else return row.undefinedFlags;
	count &= !byte && draft.size === 8 ? 63 : 31;
	if (count === 0) return 0;
	return count === 1 ? row.undefinedFlags & ~(OVERFLOW | CARRY) : row.undefinedFlags;
}

/** General registers that hold what the machine says of itself. */
function resultsOf(name: string, rm: number): readonly number[] {
	switch (name) {
		case "cpuid":
			return [0, 1, 2, 3];
		case "rdtsc":
			return [0, 2];
		case "rdtscp":
			return [0, 1, 2];
		case "xgetbv":
			return [0];
		default:
			return [rm];
	}
}

function valid(row: Row, mode: Mode): boolean {
	return !row.attributes.includes(mode === 64 ? "i64" : "o64");
}

const word = (value: number): number[] => [value & 255, (value >> 8) & 255];
const dword = (value: bigint): number[] => {
	const low = Number(BigInt.asUintN(32, value));
	return [...word(low & 0xffff), ...word(low >>> 16)];
};
const qword = (value: bigint): number[] => [...dword(value), ...dword(value >> 32n)];
