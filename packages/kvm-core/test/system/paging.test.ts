import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as L from "../../src/software/cpu/layout.ts";
import {
	ACCESS_FETCH,
	ACCESS_IMPLICIT,
	ACCESS_USER,
	ACCESS_WRITE,
	loadPdptes,
	Mmu,
	PAGE_GLOBAL,
	PAGE_MAY_WRITE,
	PAGE_NO_EXECUTE,
	PAGE_USER,
	PAGE_WRITABLE,
	walk,
} from "../../src/software/cpu/paging.ts";

/** Sparse physical memory: every 8-byte word that tables are read from. */
class Words {
	readonly words = new Map<number, bigint>();

	read64(at: number): bigint {
		return this.words.get(at) ?? 0n;
	}

	write64(at: number, value: bigint): void {
		this.words.set(at, value);
	}

	read32(at: number): number {
		const word = this.read64(at - (at % 8));
		return Number((at % 8 === 0 ? word : word >> 32n) & 0xffff_ffffn);
	}

	write32(at: number, value: number): void {
		const base = at - (at % 8);
		const word = this.read64(base);
		const v = BigInt(value);
		if (v < 0n || v > 0xffff_ffffn) throw new RangeError(`write32 of ${value}`);
		this.write64(base, at % 8 === 0 ? (word & ~0xffff_ffffn) | v : (word & 0xffff_ffffn) | (v << 32n));
	}

	copy(): Words {
		const other = new Words();
		for (const [at, word] of this.words) other.words.set(at, word);
		return other;
	}
}

type Mode = "32" | "pae" | "long";

interface Setting {
	mode: Mode;
	wp: boolean;
	pse: boolean;
	pge: boolean;
	smep: boolean;
	smap: boolean;
	nxe: boolean;
	ac: boolean;
}

interface Level {
	bits: number;
	shift: number;
	bytes: number;
	/** Whether a set PS bit makes a leaf here, is reserved, or is nothing. */
	large: "leaf" | "reserved" | "ignored";
}

const LEVELS: Record<Mode, Level[]> = {
	"32": [
		{ bits: 10, shift: 22, bytes: 4, large: "leaf" },
		{ bits: 10, shift: 12, bytes: 4, large: "ignored" },
	],
	pae: [
		{ bits: 9, shift: 21, bytes: 8, large: "leaf" },
		{ bits: 9, shift: 12, bytes: 8, large: "ignored" },
	],
	long: [
		{ bits: 9, shift: 39, bytes: 8, large: "reserved" },
		{ bits: 9, shift: 30, bytes: 8, large: "leaf" },
		{ bits: 9, shift: 21, bytes: 8, large: "leaf" },
		{ bits: 9, shift: 12, bytes: 8, large: "ignored" },
	],
};

const ROOT = 0x1000;
const WIDTH = 40n;

function mask(from: bigint, to: bigint): bigint {
	return ((1n << (to - from + 1n)) - 1n) << from;
}

interface Answer {
	physical?: number;
	flags?: number;
	errorCode?: number;
}

/** The SDM's rules, one after the other, over bigints. */
function reference(memory: Words, s: Setting, linear: bigint, access: number): Answer {
	const write = (access & ACCESS_WRITE) !== 0;
	const user = (access & ACCESS_USER) !== 0;
	const fetch = (access & ACCESS_FETCH) !== 0;
	const implicit = (access & ACCESS_IMPLICIT) !== 0;
	const wide = s.mode !== "32";
	const fault = (present: boolean, reserved: boolean): Answer => ({
		errorCode:
			(present ? 1 : 0) |
			(write ? 2 : 0) |
			(user ? 4 : 0) |
			(reserved ? 8 : 0) |
			(fetch && (s.smep || (wide && s.nxe)) ? 16 : 0),
	});
	const path: { at: number; entry: bigint; bytes: number }[] = [];
	let table = BigInt(ROOT);
	let [writable, userPage, nx] = [true, true, false];
	let leafShift = 12n;
	if (s.mode === "pae") {
		const pdpte = memory.read64(ROOT + 0x800 + Number(linear >> 30n) * 8);
		if ((pdpte & 1n) === 0n) return fault(false, false);
		table = pdpte & mask(12n, 51n);
	}
	for (const level of LEVELS[s.mode]) {
		const index = (linear >> BigInt(level.shift)) & ((1n << BigInt(level.bits)) - 1n);
		const at = Number(table) + Number(index) * level.bytes;
		const entry = level.bytes === 8 ? memory.read64(at) : BigInt(memory.read32(at));
		if ((entry & 1n) === 0n) return fault(false, false);
		let reserved = 0n;
		if (wide) {
			reserved |= mask(WIDTH, 51n);
			if (s.mode === "pae") reserved |= mask(52n, 62n);
			if (!s.nxe) reserved |= 1n << 63n;
		}
		const ps = (entry & 0x80n) !== 0n;
		if (ps && level.large === "reserved") reserved |= 0x80n;
		const leaf = level.shift === 12 || (ps && level.large === "leaf" && (wide || s.pse));
		if (leaf && level.shift !== 12) reserved |= wide ? mask(13n, BigInt(level.shift) - 1n) : 1n << 21n;
		if ((entry & reserved) !== 0n) return fault(true, true);
		writable &&= (entry & 2n) !== 0n;
		userPage &&= (entry & 4n) !== 0n;
		nx ||= wide && entry >> 63n === 1n;
		path.push({ at, entry, bytes: level.bytes });
		table = entry & mask(12n, wide ? 51n : 31n);
		if (leaf) {
			leafShift = BigInt(level.shift);
			break;
		}
	}
	const ok = (() => {
		if (user) return userPage && (!write || writable) && !(fetch && nx);
		if (fetch) return !nx && !(s.smep && userPage);
		if (userPage && s.smap && (implicit || !s.ac)) return false;
		return !write || writable || !s.wp;
	})();
	if (!ok) return fault(true, false);
	path.forEach(({ at, entry, bytes }, i) => {
		const value = entry | 0x20n | (write && i === path.length - 1 ? 0x40n : 0n);
		if (bytes === 8) memory.write64(at, value);
		else memory.write32(at, Number(value));
	});
	const last = path.at(-1)!.entry;
	let base = last & mask(leafShift, wide ? 51n : 31n);
	if (s.mode === "32" && leafShift === 22n) base |= ((last >> 13n) & 0xffn) << 32n;
	const mayWrite = writable || (!user && !s.wp);
	return {
		physical: Number(base | (linear & mask(12n, leafShift) & (mask(0n, leafShift) >> 1n))),
		flags:
			(mayWrite && (write || (last & 0x40n) !== 0n) ? PAGE_WRITABLE : 0) |
			(userPage ? PAGE_USER : 0) |
			(s.pge && (last & 0x100n) !== 0n ? PAGE_GLOBAL : 0) |
			(nx ? PAGE_NO_EXECUTE : 0) |
			(mayWrite ? PAGE_MAY_WRITE : 0),
	};
}

function mmuFor(memory: Words, s: Setting): Mmu {
	const state = new Uint32Array(L.STATE_BYTES >> 2);
	state[L.CR0 >> 2] = 0x8000_0001 | (s.wp ? 1 << 16 : 0);
	state[L.CR3 >> 2] = s.mode === "pae" ? ROOT + 0x800 : ROOT;
	state[L.CR4 >> 2] =
		(s.pse ? 1 << 4 : 0) |
		(s.mode === "32" ? 0 : 1 << 5) |
		(s.pge ? 1 << 7 : 0) |
		(s.smep ? 1 << 20 : 0) |
		(s.smap ? 1 << 21 : 0);
	state[L.EFER >> 2] = (s.mode === "long" ? 0x500 : 0) | (s.nxe ? 1 << 11 : 0);
	state[L.RFLAGS_SYS >> 2] = 2 | (s.ac ? L.AC : 0);
	const mmu = new Mmu(state, memory);
	if (s.mode === "pae" && !loadPdptes(mmu, ROOT + 0x800)) throw new Error("PDPTEs refused");
	return mmu;
}

/** Entry flags, biased to what lets a walk go on. */
const flagBits = fc
	.tuple(
		fc.integer({ min: 0, max: 19 }).map((n) => n > 0),
		fc.boolean(),
		fc.boolean(),
		fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
		fc.integer({ min: 0, max: 0x1f }),
		fc.constantFrom(
			0n,
			0n,
			0n,
			0n,
			0n,
			0n,
			1n << 63n,
			1n << 52n,
			1n << 40n,
			1n << 51n,
			1n << 13n,
			1n << 12n,
			1n << 21n,
		),
	)
	.map(
		([present, write, user, large, low, odd]) =>
			(present ? 1n : 0n) |
			(write ? 2n : 0n) |
			(user ? 4n : 0n) |
			(large ? 0x80n : 0n) |
			(BigInt(low & 3) << 5n) |
			(BigInt(low >> 2) << 8n) |
			odd,
	);

const setting = fc.record<Setting>({
	mode: fc.constantFrom<Mode>("32", "pae", "long"),
	wp: fc.boolean(),
	pse: fc.boolean(),
	pge: fc.boolean(),
	smep: fc.boolean(),
	smap: fc.boolean(),
	nxe: fc.boolean(),
	ac: fc.boolean(),
});

const anyAccess = fc.constantFrom(
	0,
	ACCESS_WRITE,
	ACCESS_FETCH,
	ACCESS_USER,
	ACCESS_USER | ACCESS_WRITE,
	ACCESS_USER | ACCESS_FETCH,
	ACCESS_IMPLICIT,
	ACCESS_IMPLICIT | ACCESS_WRITE,
);

function off(s: Partial<Setting>): Setting {
	return { mode: "long", wp: false, pse: false, pge: false, smep: false, smap: false, nxe: false, ac: false, ...s };
}

describe("walk", () => {
	test("agrees with a slow reading of the SDM, tables and all", () => {
		let allowed = 0;
		let refused = 0;
		fc.assert(
			fc.property(
				setting,
				fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
				fc.array(flagBits, { minLength: 4, maxLength: 4 }),
				fc.integer({ min: 0, max: 0xff_ffff }),
				anyAccess,
				(s, address, entries, frame, access) => {
					const linear = s.mode === "long" ? BigInt.asIntN(48, address) : address & 0xffff_ffffn;
					const memory = new Words();
					let table = ROOT;
					if (s.mode === "pae") {
						if ((entries[2]! & 1n) !== 0n) memory.write64(ROOT + 0x800 + Number((linear >> 30n) & 3n) * 8, 0x3001n);
						table = 0x3000;
					}
					LEVELS[s.mode].forEach((level, i) => {
						const at =
							table + Number((linear >> BigInt(level.shift)) & ((1n << BigInt(level.bits)) - 1n)) * level.bytes;
						const large = (entries[i]! & 0x80n) !== 0n && level.large === "leaf";
						const last = level.shift === 12 || large;
						const target = last
							? (BigInt(frame) << BigInt(level.shift)) & mask(12n, s.mode === "32" ? 31n : 39n)
							: BigInt(0x10000 + i * 0x1000);
						const entry = entries[i]! | target;
						if (level.bytes === 8) memory.write64(at, entry);
						else memory.write32(at, Number(entry & 0xffff_ffffn));
						// Only odd bits may make it differ from `target`; then the next table is elsewhere and empty.
						table = Number(target);
					});
					const expectedMemory = memory.copy();
					const mmu = mmuFor(memory, s);
					const expected = reference(expectedMemory, s, BigInt.asUintN(64, linear), access);
					const lo = Number(BigInt.asUintN(32, linear));
					const hi = Number(BigInt.asUintN(32, linear >> 32n));
					const actual: Answer = walk(mmu, lo, hi, access)
						? { physical: mmu.physical, flags: mmu.flags }
						: { errorCode: mmu.errorCode };
					expect(actual).toEqual(expected);
					expect(memory.words).toEqual(expectedMemory.words);
					if (actual.errorCode === undefined) allowed++;
					else refused++;
				},
			),
			{ seed: 0x5eed, numRuns: 20_000 },
		);
		expect(allowed).toBeGreaterThan(2_000);
		expect(refused).toBeGreaterThan(2_000);
	});

	test("without paging every address is its own", () => {
		const mmu = mmuFor(new Words(), off({}));
		mmu.state[L.CR0 >> 2] = 1;
		expect(walk(mmu, 0xfee0_0123, 0, ACCESS_USER | ACCESS_WRITE)).toBe(true);
		expect(mmu.physical).toBe(0xfee0_0000);
		expect(mmu.flags & PAGE_WRITABLE).toBe(PAGE_WRITABLE);
	});

	test("a 1 GiB page above 4 GiB", () => {
		const memory = new Words();
		memory.write64(ROOT + 511 * 8, 0x2003n);
		memory.write64(0x2000 + 510 * 8, 0x23_4000_0083n | (1n << 12n));
		const mmu = mmuFor(memory, off({ nxe: true }));
		expect(walk(mmu, 0x9234_5678, 0xffff_ffff, ACCESS_WRITE)).toBe(true);
		expect(mmu.physical).toBe(0x23_4000_0000 + 0x1234_5000);
		expect(memory.read64(0x2000 + 510 * 8)).toBe(0x23_4000_00e3n | (1n << 12n));
	});

	test("PSE-36 reaches beyond 4 GiB", () => {
		const memory = new Words();
		memory.write32(ROOT + 4, 0x0040_0087 | (0x12 << 13));
		const mmu = mmuFor(memory, off({ mode: "32", pse: true }));
		expect(walk(mmu, 0x0041_2345, 0, ACCESS_USER)).toBe(true);
		expect(mmu.physical).toBe(0x12_0041_2000);
		mmu.setPhysicalBits(36);
		expect(walk(mmu, 0x0041_2345, 0, ACCESS_USER)).toBe(false);
		expect(mmu.errorCode).toBe(0b1101);
	});

	test("supervisor reads of a user page under SMAP need AC, and never pass when implicit", () => {
		const memory = new Words();
		memory.write64(ROOT, 0x2007n);
		memory.write64(0x2000, 0x3007n);
		memory.write64(0x3000, 0x0020_0000n | 0xe7n);
		const closed = mmuFor(memory, off({ smap: true }));
		expect(walk(closed, 0x1000, 0, 0)).toBe(false);
		expect(closed.errorCode).toBe(1);
		const open = mmuFor(memory, off({ smap: true, ac: true }));
		expect(walk(open, 0x1000, 0, 0)).toBe(true);
		expect(walk(open, 0x1000, 0, ACCESS_IMPLICIT)).toBe(false);
	});
});

describe("loadPdptes", () => {
	test("refuses reserved bits of present entries only, and then changes nothing", () => {
		const memory = new Words();
		const mmu = mmuFor(memory, off({ mode: "pae" }));
		memory.write64(0x8020, 0x5001n);
		memory.write64(0x8028, 0x1e6n | (1n << 60n));
		expect(loadPdptes(mmu, 0x8030)).toBe(true);
		expect([...mmu.state.subarray(L.PDPTES >> 2, (L.PDPTES >> 2) + 2)]).toEqual([0x5001, 0]);
		for (const bad of [1n << 1n, 1n << 2n, 1n << 5n, 1n << 8n, 1n << 40n, 1n << 63n]) {
			memory.write64(0x8038, 0x6001n | bad);
			expect(loadPdptes(mmu, 0x8020)).toBe(false);
			expect(mmu.state[L.PDPTES >> 2]).toBe(0x5001);
		}
	});
});
