import { FLAGS_OVERWRITTEN, FLAGS_UNSEEN } from "../emit/fusion.ts";
import { CROSSING, JOIN, PAGE_END_16, PAGE_END_32, PAGE_END_64, STALE } from "../emit/plan.ts";
import {
	UOP_BASE,
	UOP_BYTES,
	UOP_DISP,
	UOP_FLAGS,
	UOP_HANDLER,
	UOP_IMM,
	UOP_INDEX,
	UOP_META,
	UOP_REG,
} from "../emit/uop.ts";
import type { Decoder } from "./decoder.ts";
import { MODE_SIZE } from "./mode.ts";

const PAGE = 4096;
/** A page's entry table: the micro-op's address by page offset, 0 where nothing is decoded. */
const TABLE_BYTES: number = PAGE * 4;
/** Instructions decoded ahead in straight line at the most. */
const RUN_LENGTH = 128;
/** Arena bytes one run can take. */
const RUN_RESERVE: number = (RUN_LENGTH + 4) * UOP_BYTES;

/** A page of guest code, decoded for one mode. */
export interface CodePage {
	readonly physical: number;
	readonly mode: number;
	/** Address of its entry table. */
	readonly table: number;
	/** First and last + 1 micro-op address of what was decoded from it, in pairs. */
	readonly runs: number[];
	/** A bit per byte that decoded instructions were read from. */
	readonly covered: Uint8Array;
	/** Branches that wait for their target in this page to be decoded: micro-op addresses by page offset. */
	readonly waiting: Map<number, number[]>;
}

/** Where micro-ops and entry tables lie in the VM's memory. */
export interface CodeArena {
	readonly start: number;
	readonly end: number;
	readonly tables: number;
	readonly tablesEnd: number;
}

/** Decoded code by physical page and mode, in a bounded arena that is emptied as a whole when it is full. */
export class CodeCache {
	readonly decoder: Decoder;
	private readonly u8: Uint8Array;
	private readonly u16: Uint16Array;
	private readonly i32: Int32Array;
	private readonly arena: CodeArena;
	private readonly pages = new Map<number, CodePage>();
	private readonly byPhysical = new Map<number, CodePage[]>();
	private readonly freeTables: number[] = [];
	private nextTable: number;
	private position: number;
	/** Second pages of instructions across a page boundary, by the address of the CROSSING micro-op. */
	private readonly crossings = new Map<number, { physical: number; uop: number }>();
	private readonly joined = new Uint8Array(PAGE + 16);
	private readonly onCode: (physical: number) => void;

	/**
	 * @param onCode - told of a physical page before the first code is decoded from it: writes to it must be noticed
	 */
	constructor(buffer: ArrayBufferLike, arena: CodeArena, decoder: Decoder, onCode: (physical: number) => void) {
		this.u8 = new Uint8Array(buffer);
		this.u16 = new Uint16Array(buffer);
		this.i32 = new Int32Array(buffer);
		this.arena = arena;
		this.decoder = decoder;
		this.onCode = onCode;
		this.position = arena.start;
		this.nextTable = arena.tables;
	}

	/** Whether there is room for another page and run; when not, `clear` before decoding on. */
	get hasRoom(): boolean {
		return (
			this.position + 4 * RUN_RESERVE <= this.arena.end &&
			(this.freeTables.length > 1 || this.nextTable + 2 * TABLE_BYTES <= this.arena.tablesEnd)
		);
	}

	/** Forgets everything. No micro-op address outlives this. */
	clear(): void {
		for (const page of this.pages.values()) this.i32.fill(0, page.table >>> 2, (page.table + TABLE_BYTES) >>> 2);
		this.pages.clear();
		this.byPhysical.clear();
		this.crossings.clear();
		this.freeTables.length = 0;
		this.nextTable = this.arena.tables;
		this.position = this.arena.start;
	}

	/** The decoded form of a page, empty at first. */
	page(physical: number, mode: number): CodePage {
		const key = physical * 4 + mode * 2 ** 42;
		let page = this.pages.get(key);
		if (page === undefined) {
			const table = this.freeTables.pop() ?? this.takeTable();
			page = {
				physical,
				mode,
				table,
				runs: [],
				covered: new Uint8Array(PAGE / 8),
				waiting: new Map(),
			};
			this.pages.set(key, page);
			const others = this.byPhysical.get(physical);
			if (others === undefined) this.byPhysical.set(physical, [page]);
			else others.push(page);
		}
		return page;
	}

	/** Address of the micro-op at a page offset, decoding from there when need be. `host` is where the page's bytes are. */
	entry(page: CodePage, offset: number, host: number): number {
		const known = this.i32[(page.table >>> 2) + offset]!;
		return known !== 0 ? known : this.decodeRun(page, offset, host);
	}

	/**
	 * The micro-op for an instruction that begins in `page` and ends in the next one.
	 *
	 * @param uop - the CROSSING micro-op
	 * @param second - the next page, as `page` gave it
	 */
	crossing(uop: number, page: CodePage, host: number, second: CodePage, secondHost: number): number {
		const known = this.crossings.get(uop);
		if (known !== undefined && known.physical === second.physical && this.u16[known.uop >>> 1] !== STALE) {
			return known.uop;
		}
		const offset = this.u16[(uop + UOP_META) >>> 1]! & 0xfff;
		const at = this.position;
		// Decoded where it stands at the end of the page, so that RIP-relative operands come out right.
		this.joined.set(this.u8.subarray(host + offset, host + PAGE), offset);
		this.joined.set(this.u8.subarray(secondHost, secondHost + 16), PAGE);
		this.decoder.decode(this.joined, offset, PAGE + 16, page.mode);
		this.write(at, offset);
		this.position += UOP_BYTES;
		const next = offset + this.decoder.length;
		this.pageEnd(next, page.mode);
		if (second.runs.length === 0) this.onCode(second.physical);
		second.runs.push(at, at + UOP_BYTES);
		cover(second, 0, Math.max(1, next - PAGE));
		this.crossings.set(uop, { physical: second.physical, uop: at });
		return at;
	}

	/** The CROSSING micro-op's page offset. */
	offsetOf(uop: number): number {
		return this.u16[(uop + UOP_META) >>> 1]! & 0xfff;
	}

	/** Whether anything is decoded from a physical page. */
	holds(physical: number): boolean {
		const pages = this.byPhysical.get(physical);
		return pages?.some((page) => page.runs.length > 0) === true;
	}

	/** Whether bytes `from` to `to` of a physical page are among what was decoded from it. */
	covers(physical: number, from: number, to: number): boolean {
		const pages = this.byPhysical.get(physical);
		return pages?.some((page) => isCovered(page, from, to)) === true;
	}

	/**
	 * Drops what was decoded from a physical page. Its micro-ops turn stale: running code notices at its next
	 * instruction.
	 */
	drop(physical: number): void {
		const pages = this.byPhysical.get(physical);
		if (pages === undefined) return;
		for (const page of pages) {
			for (let i = 0; i < page.runs.length; i += 2) {
				for (let uop = page.runs[i]!; uop < page.runs[i + 1]!; uop += UOP_BYTES) {
					const handler = this.u16[uop >>> 1]!;
					if (handler < PAGE_END_16 || handler > PAGE_END_64) this.u16[uop >>> 1] = STALE;
				}
			}
			this.i32.fill(0, page.table >>> 2, (page.table + TABLE_BYTES) >>> 2);
			page.runs.length = 0;
			page.covered.fill(0);
			page.waiting.clear();
		}
	}

	private takeTable(): number {
		const table = this.nextTable;
		this.nextTable += TABLE_BYTES;
		return table;
	}

	private decodeRun(page: CodePage, offset: number, host: number): number {
		const { decoder, i32 } = this;
		const entries = page.table >>> 2;
		if (page.runs.length === 0) this.onCode(page.physical);
		const first = this.position;
		const code = this.u8.subarray(host, host + PAGE);
		const branches: number[] = [];
		const starts: number[] = [];
		let at = offset;
		for (let count = 0; ; count++) {
			if (at >= PAGE || count >= RUN_LENGTH) {
				this.pageEnd(at, page.mode);
				break;
			}
			const known = i32[entries + at]!;
			if (known !== 0) {
				this.special(JOIN, at, known);
				break;
			}
			const result = decoder.decode(code, at, PAGE, page.mode);
			const uop = this.position;
			i32[entries + at] = uop;
			starts.push(at);
			if (result === "short") {
				this.special(CROSSING, at, 0);
				cover(page, at, PAGE);
				break;
			}
			this.write(uop, at);
			this.position += UOP_BYTES;
			cover(page, at, at + decoder.length);
			if (decoder.nearHandler !== 0) {
				const target = at + decoder.length + decoder.immediate;
				if (target >= 0 && target < PAGE) branches.push(uop, target, decoder.nearHandler);
			}
			at += decoder.length;
			if (decoder.ends) {
				// For the instructions among these that go on behind themselves after all.
				this.pageEnd(at, page.mode);
				break;
			}
		}
		page.runs.push(first, this.position);
		this.dropUnseenFlags(first, this.position);
		for (let i = 0; i < branches.length; i += 3) {
			const [uop, target, near] = [branches[i]!, branches[i + 1]!, branches[i + 2]!];
			const known = i32[entries + target]!;
			if (known !== 0) this.link(uop, known, near);
			else {
				const list = page.waiting.get(target);
				if (list === undefined) page.waiting.set(target, [uop, near]);
				else list.push(uop, near);
			}
		}
		if (page.waiting.size > 0) {
			for (const start of starts) {
				const list = page.waiting.get(start);
				if (list === undefined) continue;
				for (let i = 0; i < list.length; i += 2) this.link(list[i]!, i32[entries + start]!, list[i + 1]!);
				page.waiting.delete(start);
			}
		}
		return first;
	}

	/** Turns a branch into its near form, and a comparison right before it into one that takes it. */
	private link(uop: number, target: number, near: number): void {
		const { plan } = this.decoder;
		this.u16[(uop + UOP_HANDLER) >>> 1] = near;
		this.i32[(uop + UOP_IMM) >>> 2] = target;
		const condition = plan.branchCondition[near]!;
		if (condition === 0 || uop === this.arena.start) return;
		const before = uop - UOP_BYTES;
		const meta = this.u16[(before + UOP_META) >>> 1]!;
		// What lies before it in the arena is its predecessor only if it ends where the branch begins.
		const end = (meta & 0xfff) + (meta >>> 12);
		if (end !== (this.u16[(uop + UOP_META) >>> 1]! & 0xfff)) return;
		const both = plan.fused.get(this.u16[before >>> 1]! * 16 + condition - 1);
		if (both !== undefined) this.u16[before >>> 1] = both;
	}

	/** Gives instructions whose flags the run overwrites before anything can see them handlers that set none. */
	private dropUnseenFlags(first: number, end: number): void {
		const { flagUse, flagless } = this.decoder.plan;
		let overwritten = false;
		for (let uop = end - UOP_BYTES; uop >= first; uop -= UOP_BYTES) {
			const handler = this.u16[uop >>> 1]!;
			const use = flagUse[handler]!;
			if (overwritten && flagless[handler] !== 0) this.u16[uop >>> 1] = flagless[handler]!;
			if ((use & FLAGS_OVERWRITTEN) !== 0) overwritten = true;
			else if ((use & FLAGS_UNSEEN) === 0) overwritten = false;
		}
	}

	/** Writes the decoder's last instruction. */
	private write(uop: number, offset: number): void {
		const { decoder } = this;
		this.u16[(uop + UOP_HANDLER) >>> 1] = decoder.handler;
		this.u16[(uop + UOP_META) >>> 1] = (offset & 0xfff) | (decoder.length << 12);
		this.i32[(uop + UOP_DISP) >>> 2] = decoder.displacement;
		this.i32[(uop + UOP_IMM) >>> 2] = decoder.immediate;
		this.u8[uop + UOP_BASE] = decoder.base;
		this.u8[uop + UOP_INDEX] = decoder.index;
		this.u8[uop + UOP_FLAGS] = decoder.flags;
		this.u8[uop + UOP_REG] = decoder.reg;
	}

	private special(handler: number, offset: number, immediate: number): void {
		const uop = this.position;
		this.u16[(uop + UOP_HANDLER) >>> 1] = handler;
		this.u16[(uop + UOP_META) >>> 1] = offset & 0xfff;
		this.i32[(uop + UOP_IMM) >>> 2] = immediate;
		this.position += UOP_BYTES;
	}

	/** Goes on at a page offset by way of the code TLB. */
	private pageEnd(offset: number, mode: number): void {
		const size = mode & MODE_SIZE;
		this.special(size === 2 ? PAGE_END_64 : size === 1 ? PAGE_END_32 : PAGE_END_16, offset, offset);
	}
}

function cover(page: CodePage, from: number, to: number): void {
	for (let i = from; i < to; i++) page.covered[i >> 3]! |= 1 << (i & 7);
}

function isCovered(page: CodePage, from: number, to: number): boolean {
	for (let i = from; i < to; i++) if ((page.covered[i >> 3]! & (1 << (i & 7))) !== 0) return true;
	return false;
}
