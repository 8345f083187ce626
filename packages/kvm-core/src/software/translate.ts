import { AC_VECTOR, type Cpu, ExitRequest, GP, type LinearMemory, PF_VECTOR, SS_VECTOR } from "./cpu/cpu.ts";
import { matchData } from "./cpu/debug.ts";
import { DEBUG_TRAP, OUTSIDE_TRAP } from "./cpu/events.ts";
import * as L from "./cpu/layout.ts";
import { ACCESS_FETCH, ACCESS_IMPLICIT, ACCESS_USER, ACCESS_WRITE, Mmu, PAGE_GLOBAL, walk } from "./cpu/paging.ts";
import type { DebugPoints } from "./debug-points.ts";
import { markDirty, PAGE, type PhysicalMemory, type Slot } from "./memory.ts";

/** Flags word of a TLB entry: it survives a load of CR3. */
const TLB_GLOBAL = 1;

/** What lies behind physical addresses without memory. */
export interface MmioHandler {
	/**
	 * Reads 1 to 8 bytes into `into`, or returns false when the embedder must be asked first: the instruction is
	 * abandoned and executed again.
	 */
	mmioRead(physical: number, into: Uint8Array): boolean;
	/** Writes; the embedder's part is done after the instruction. */
	mmioWrite(physical: number, from: Uint8Array): void;
	/** Whether an access is left to whoever runs this vCPU: its instruction is abandoned before anything is written. */
	isLeft(physical: number): boolean;
}

/** What a store must tell of pages that hold decoded code. */
export interface CodeWatcher {
	/** Bytes `from` to `to` of a page with decoded code are about to change. */
	codeWritten(physical: number, from: number, to: number): void;
}

/**
 * Data accesses that generated code's TLB look-up did not settle, and those of system instructions: page walks, TLB
 * fills, accesses across pages, memory-mapped devices, faults.
 */
export class Translator implements LinearMemory {
	readonly mmu: Mmu;
	/** Vector of the fault the last failed access queued, and its error code. */
	faultVector = 0;
	faultCode = 0;
	/** What a debugger outside the guest watches. */
	debug: DebugPoints | undefined;
	/** Low halves of the linear pages that data breakpoints touch. */
	private watched: readonly number[] = [];
	private readonly cpu: Cpu;
	private readonly physical: PhysicalMemory;
	private readonly mmio: MmioHandler;
	private readonly watcher: CodeWatcher;
	private readonly tlbWords: Int32Array;
	private readonly bounce: Uint8Array;
	private readonly bounceAddress: number;
	/** Where `commit` writes BOUNCE: up to two stretches. */
	private readonly pieces = [0, 0];
	private firstPiece = 0;
	private bounceSize = 0;
	private readonly scratch = new DataView(new ArrayBuffer(8));
	private readonly scratchBytes: Uint8Array;
	private readonly view: DataView;
	/** Current TLB base while alignment is checked. */
	private readonly emptyTlb: number;

	constructor(cpu: Cpu, physical: PhysicalMemory, mmio: MmioHandler, watcher: CodeWatcher) {
		this.cpu = cpu;
		this.physical = physical;
		this.mmio = mmio;
		this.watcher = watcher;
		this.mmu = new Mmu(cpu.u32, physical);
		this.emptyTlb = cpu.base + L.EMPTY_TLB;
		physical.u8.fill(0xff, this.emptyTlb, this.emptyTlb + L.TLB_BYTES);
		const { buffer } = physical.u8;
		this.tlbWords = new Int32Array(buffer);
		this.bounceAddress = cpu.base + L.BOUNCE;
		this.bounce = physical.u8.subarray(this.bounceAddress, this.bounceAddress + 64);
		this.scratchBytes = new Uint8Array(this.scratch.buffer);
		this.view = new DataView(buffer);
	}

	/** Forgets translations; with `keepGlobal` those of global pages stay. */
	flush(keepGlobal: boolean): void {
		const first = this.cpu.base + L.TLBS;
		if (!keepGlobal) {
			this.physical.u8.fill(0xff, first, first + L.TLB_COUNT * L.TLB_BYTES + 2 * L.CODE_TLB_BYTES);
			return;
		}
		const end = first + L.TLB_COUNT * L.TLB_BYTES + 2 * L.CODE_TLB_BYTES;
		const words = this.tlbWords;
		for (let entry = first >>> 2; entry < end >>> 2; entry += 4) {
			if ((words[entry + 3]! & TLB_GLOBAL) === 0 || words[entry] === -1) {
				words[entry] = -1;
				words[entry + 1] = -1;
			}
		}
	}

	/** Forgets one page's translation. */
	flushPage(lo: number): void {
		const index = (lo >>> 12) & (L.TLB_ENTRIES - 1);
		const first = this.cpu.base + L.TLBS;
		for (let tlb = 0; tlb < L.TLB_COUNT; tlb++) {
			this.tlbWords[(first + tlb * L.TLB_BYTES + index * L.TLB_ENTRY_BYTES) >>> 2] = -1;
		}
		const codeIndex = (lo >>> 12) & (L.CODE_TLB_ENTRIES - 1);
		for (let tlb = 0; tlb < 2; tlb++) {
			this.tlbWords[(this.cpu.base + L.CODE_TLBS + tlb * L.CODE_TLB_BYTES + codeIndex * 16) >>> 2] = -1;
		}
	}

	/** Forgets code translations: the decoding mode or the decoded pages changed. */
	flushCode(): void {
		const first = this.cpu.base + L.CODE_TLBS;
		this.physical.u8.fill(0xff, first, first + 2 * L.CODE_TLB_BYTES);
	}

	/** Takes write permission for a physical page's host address out of the TLBs: it holds code now. */
	protectPage(host: number): void {
		const words = this.tlbWords;
		for (let kind = 0; kind < 3; kind++) {
			const first = (this.cpu.base + L.TLBS + (kind * 2 + 1) * L.TLB_BYTES) >>> 2;
			for (let entry = first; entry < first + L.TLB_BYTES / 4; entry += 4) {
				if (((words[entry]! + words[entry + 2]!) | 0) === (host | 0)) words[entry] = -1;
			}
		}
	}

	/** Takes all write permission out of the TLBs: dirty pages are logged anew. */
	protectAll(): void {
		for (let kind = 0; kind < 3; kind++) {
			const first = this.cpu.base + L.TLBS + (kind * 2 + 1) * L.TLB_BYTES;
			this.physical.u8.fill(0xff, first, first + L.TLB_BYTES);
		}
	}

	/**
	 * Physical address of a page for an access by the current privilege.
	 *
	 * @returns -1 with the fault in `faultVector`, `faultCode` and CR2
	 */
	translate(lo: number, hi: number, access: number, stack: boolean): number {
		if (this.refuses(hi, stack)) return -1;
		if (walk(this.mmu, lo, hi, access)) return this.mmu.physical;
		this.faultVector = PF_VECTOR;
		this.faultCode = this.mmu.errorCode;
		this.cpu.u32[L.CR2 >> 2] = lo;
		this.cpu.u32[(L.CR2 >> 2) + 1] = hi;
		return -1;
	}

	/** Watches data breakpoints: pages that they touch stay out of the TLBs, so that each access comes by here. */
	watch(breakpoints: readonly { readonly address: bigint; readonly length: number }[]): void {
		if (breakpoints.length === 0 && this.watched.length === 0) return;
		this.watched = breakpoints.flatMap(({ address, length }) => {
			const pages = [];
			for (let page = address & -4096n; page < address + BigInt(length); page += 4096n) {
				pages.push(Number(page & 0xffff_f000n) | 0);
			}
			return pages;
		});
		this.flush(false);
	}

	/** Notes which data breakpoints an access touches. */
	private noteAccess(lo: number, hi: number, size: number, write: boolean): void {
		if (this.watched.length === 0) return;
		const linear = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
		const bits = matchData(this.cpu, linear, size, write);
		const outside = this.debug?.touch(linear, size, write) === true ? OUTSIDE_TRAP : 0;
		if ((bits | outside) !== 0) this.cpu.set32(DEBUG_TRAP, (this.cpu.get32(DEBUG_TRAP) | bits | outside) >>> 0);
	}

	/** Whether an address with this upper half is not canonical: #GP(0) or #SS(0). */
	private refuses(hi: number, stack: boolean): boolean {
		if (hi >> 15 === 0 || hi >> 15 === -1 || !this.cpu.longMode) return false;
		this.faultVector = stack ? SS_VECTOR : GP;
		this.faultCode = 0;
		return true;
	}

	/** Whether any of an access's bytes is not canonical: that comes before its alignment. */
	private refusesAny(lo: number, hi: number, size: number, stack: boolean): boolean {
		if (this.refuses(hi, stack)) return true;
		return this.cpu.code64 && (lo >>> 0) + size > 2 ** 32 && this.refuses((hi + 1) | 0, stack);
	}

	/** Translates for a fetch and remembers the page's entry table. Returns the physical page or -1. */
	translateFetch(lo: number, hi: number): number {
		return this.translate(lo, hi, ACCESS_FETCH | (this.cpu.cpl === 3 ? ACCESS_USER : 0), false);
	}

	/** Enters a page into the current code TLB, after `translateFetch`. */
	fillCode(lo: number, hi: number, table: number): void {
		const entry = (this.cpu.get32(L.TLB_CODE) + ((lo >>> 12) & (L.CODE_TLB_ENTRIES - 1)) * 16) >>> 2;
		this.tlbWords[entry] = lo & -PAGE;
		this.tlbWords[entry + 1] = hi;
		this.tlbWords[entry + 2] = table;
		this.tlbWords[entry + 3] = (this.mmu.flags & PAGE_GLOBAL) !== 0 ? TLB_GLOBAL : 0;
	}

	/** Host address of `size` readable bytes, BOUNCE if need be; 0 = fault queued, -1 = ask the embedder first. */
	readable(lo: number, hi: number, size: number, stack: boolean): number {
		const access = this.cpu.cpl === 3 ? ACCESS_USER : 0;
		if (this.checksAlignment && (this.refusesAny(lo, hi, size, stack) || this.misaligned(lo, size))) return 0;
		this.noteAccess(lo, hi, size, false);
		const first = lo & (PAGE - 1);
		if (first + size > PAGE) return this.gather(lo, hi, size, access, stack);
		const physical = this.translate(lo, hi, access, stack);
		if (physical < 0) return 0;
		const slot = this.physical.slotAt(physical);
		if (slot === undefined) {
			return this.mmio.mmioRead(physical + first, this.bounce.subarray(0, size)) ? this.bounceAddress : -1;
		}
		const host = slot.host + (physical - slot.physical);
		this.fill(this.tlbOf(false, false), lo, hi, host);
		return host + first;
	}

	/**
	 * Host address to write `size` bytes at: BOUNCE must be followed by `commit`. With `modify` the bytes stand there.
	 * 0 = fault queued, -1 = ask the embedder first.
	 */
	writable(lo: number, hi: number, size: number, stack: boolean, modify: boolean): number {
		const access = ACCESS_WRITE | (this.cpu.cpl === 3 ? ACCESS_USER : 0);
		if (this.checksAlignment && (this.refusesAny(lo, hi, size, stack) || this.misaligned(lo, size))) return 0;
		this.noteAccess(lo, hi, size, true);
		const first = lo & (PAGE - 1);
		if (first + size > PAGE) return this.splitWrite(lo, hi, size, access, stack, modify);
		const physical = this.translate(lo, hi, access, stack);
		if (physical < 0) return 0;
		const slot = this.physical.slotAt(physical);
		if (slot === undefined || slot.readonly) {
			const at = physical + first;
			if (slot === undefined && this.mmio.isLeft(at)) return -1;
			if (modify) {
				if (slot !== undefined) this.copyIn(slot, at, 0, size);
				else if (!this.mmio.mmioRead(at, this.bounce.subarray(0, size))) return -1;
			}
			this.pieces[0] = at;
			this.firstPiece = size;
			this.bounceSize = size;
			return this.bounceAddress;
		}
		const offset = physical - slot.physical;
		const host = slot.host + offset;
		this.noteWrite(slot, offset, first, first + size);
		if (slot.code[offset / PAGE] === 0) this.fill(this.tlbOf(true, false), lo, hi, host);
		return host + first;
	}

	/** Writes BOUNCE to where the last `writable` was for. */
	commit(): void {
		this.store(this.pieces[0]!, 0, this.firstPiece);
		if (this.bounceSize > this.firstPiece) this.store(this.pieces[1]!, this.firstPiece, this.bounceSize);
	}

	// ---- LinearMemory ------------------------------------------------------------------------------------------

	read(linear: bigint, size: 1 | 2 | 4, system = false): number {
		const host = this.known(linear, size, false, system);
		if (host !== 0) {
			return size === 1
				? this.view.getUint8(host)
				: size === 2
					? this.view.getUint16(host, true)
					: this.view.getUint32(host, true);
		}
		this.fetch(linear, size, system);
		return size === 1
			? this.scratch.getUint8(0)
			: size === 2
				? this.scratch.getUint16(0, true)
				: this.scratch.getUint32(0, true);
	}

	read64(linear: bigint, system = false): bigint {
		const host = this.known(linear, 8, false, system);
		if (host !== 0) return this.view.getBigUint64(host, true);
		this.fetch(linear, 8, system);
		return this.scratch.getBigUint64(0, true);
	}

	write(linear: bigint, size: 1 | 2 | 4, value: number, system = false): void {
		const host = this.known(linear, size, true, system);
		if (host !== 0) {
			if (size === 4) this.view.setUint32(host, value, true);
			else if (size === 2) this.view.setUint16(host, value, true);
			else this.view.setUint8(host, value);
			return;
		}
		this.scratch.setUint32(0, value, true);
		this.put(linear, size, system);
	}

	write64(linear: bigint, value: bigint, system = false): void {
		const host = this.known(linear, 8, true, system);
		if (host !== 0) {
			this.view.setBigUint64(host, value, true);
			return;
		}
		this.scratch.setBigUint64(0, value, true);
		this.put(linear, 8, system);
	}

	probe(linear: bigint, size: number, write: boolean, system = false): void {
		const access = this.accessOf(system) | (write ? ACCESS_WRITE : 0);
		const last = BigInt.asUintN(64, linear + BigInt(size - 1));
		this.translateOrRaise(linear, access);
		if ((last ^ linear) >> 12n !== 0n) this.translateOrRaise(last & ~0xfffn, access);
	}

	/**
	 * CR0.AM, RFLAGS.AC and CPL 3 demand that data lie on multiples of their size (SDM vol. 3, 6.15, interrupt 17).
	 */
	get checksAlignment(): boolean {
		return this.cpu.get32(L.TLB_READ) === this.emptyTlb;
	}

	/** Whether an access is misaligned: then #AC(0) is in `faultVector`. */
	private misaligned(lo: number, size: number): boolean {
		if ((lo & (alignmentOf(size) - 1)) === 0) return false;
		this.faultVector = AC_VECTOR;
		this.faultCode = 0;
		return true;
	}

	checkAlignment(linear: bigint, unit: number): void {
		if (this.checksAlignment && this.misaligned(Number(linear & 0xffn), unit)) this.cpu.raise(AC_VECTOR, 0);
	}

	/** The TLB of such accesses; those of the system are a supervisor's without AC. */
	private tlbOf(write: boolean, system: boolean): number {
		if (!system && this.checksAlignment) return this.cpu.base + L.TLBS + (write ? L.TLB_BYTES : 0);
		if (!system) return this.cpu.get32(write ? L.TLB_WRITE : L.TLB_READ);
		return this.cpu.base + L.TLBS + (write ? 3 : 2) * L.TLB_BYTES;
	}

	/** Host address of bytes within one page that the TLB knows, or 0. */
	private known(linear: bigint, size: number, write: boolean, system: boolean): number {
		if (!system) this.checkAlignment(linear, size);
		const lo = Number(linear & 0xffff_ffffn);
		if ((lo & (PAGE - 1)) + size > PAGE) return 0;
		const words = this.tlbWords;
		const entry = (this.tlbOf(write, system) + ((lo >>> 8) & ((L.TLB_ENTRIES - 1) * L.TLB_ENTRY_BYTES))) >>> 2;
		if (words[entry] !== (lo & -PAGE) || words[entry + 1] !== Number(BigInt.asIntN(32, linear >> 32n))) return 0;
		return (words[entry + 2]! + lo) >>> 0;
	}

	/** Remembers a page of memory for `known`. */
	private remember(linear: bigint, physical: number, write: boolean, system: boolean): void {
		const slot = this.physical.slotAt(physical);
		if (slot === undefined) return;
		const page = physical - (physical % PAGE) - slot.physical;
		if (write && (slot.readonly || slot.code[page / PAGE] !== 0)) return;
		const lo = Number(linear & 0xffff_ffffn);
		this.fill(this.tlbOf(write, system), lo, Number(BigInt.asIntN(32, linear >> 32n)), slot.host + page);
	}

	private accessOf(system: boolean): number {
		if (this.cpu.cpl !== 3) return system ? ACCESS_IMPLICIT : 0;
		return system ? ACCESS_IMPLICIT : ACCESS_USER;
	}

	private translateOrRaise(linear: bigint, access: number): number {
		const lo = Number(linear & 0xffff_ffffn);
		const physical = this.translate(lo, Number(BigInt.asIntN(32, linear >> 32n)), access, false);
		if (physical < 0) this.cpu.raise(this.faultVector, this.faultCode);
		return physical + (lo & (PAGE - 1));
	}

	private fetch(linear: bigint, size: number, system: boolean): void {
		if (!system && this.watched.length > 0) {
			this.noteAccess(Number(linear & 0xffff_ffffn), Number(linear >> 32n) | 0, size, false);
		}
		const access = this.accessOf(system);
		const room = PAGE - Number(linear & 0xfffn);
		const first = Math.min(size, room);
		const physical = this.translateOrRaise(linear, access);
		this.load(physical, 0, first);
		if (first === size) this.remember(linear, physical, false, system);
		else this.load(this.translateOrRaise(linear + BigInt(first), access), first, size);
	}

	private load(physical: number, from: number, to: number): void {
		const slot = this.physical.slotAt(physical);
		const into = this.scratchBytes.subarray(from, to);
		if (slot === undefined) {
			if (!this.mmio.mmioRead(physical, into)) throw EXIT_REQUEST;
			return;
		}
		const host = slot.host + (physical - slot.physical);
		for (let i = 0; i < into.length; i++) into[i] = this.physical.u8[host + i]!;
	}

	private put(linear: bigint, size: number, system: boolean): void {
		if (!system && this.watched.length > 0) {
			this.noteAccess(Number(linear & 0xffff_ffffn), Number(linear >> 32n) | 0, size, true);
		}
		const access = this.accessOf(system) | ACCESS_WRITE;
		const room = PAGE - Number(linear & 0xfffn);
		const first = Math.min(size, room);
		const physical = this.translateOrRaise(linear, access);
		const second = first < size ? this.translateOrRaise(linear + BigInt(first), access) : 0;
		this.bounce.set(this.scratchBytes);
		this.store(physical, 0, first);
		if (first < size) this.store(second, first, size);
		else this.remember(linear, physical, true, system);
	}

	// ---- pieces ------------------------------------------------------------------------------------------------

	private fill(table: number, lo: number, hi: number, host: number): void {
		if (this.watched.includes(lo & -PAGE)) return;
		const entry = (table + ((lo >>> 8) & ((L.TLB_ENTRIES - 1) * L.TLB_ENTRY_BYTES))) >>> 2;
		const words = this.tlbWords;
		words[entry] = lo & -PAGE;
		words[entry + 1] = hi;
		words[entry + 2] = host - (lo & -PAGE);
		words[entry + 3] = (this.mmu.flags & PAGE_GLOBAL) !== 0 ? TLB_GLOBAL : 0;
	}

	private noteWrite(slot: Slot, offset: number, from: number, to: number): void {
		if (slot.dirty !== undefined) markDirty(slot, offset);
		if (slot.code[offset / PAGE] !== 0) this.watcher.codeWritten(slot.physical + offset, from, to);
	}

	/** A read across two pages, into BOUNCE. */
	private gather(lo: number, hi: number, size: number, access: number, stack: boolean): number {
		const first = PAGE - (lo & (PAGE - 1));
		const [nextLo, nextHi] = nextPage(lo, hi, this.cpu.code64);
		if (this.refuses(nextHi, stack)) return 0;
		const physical = this.translate(lo, hi, access, stack);
		if (physical < 0) return 0;
		const second = this.translate(nextLo, nextHi, access, stack);
		if (second < 0) return 0;
		if (!this.piece(physical + (lo & (PAGE - 1)), 0, first)) return -1;
		if (!this.piece(second, first, size)) return -1;
		return this.bounceAddress;
	}

	private piece(physical: number, from: number, to: number): boolean {
		const slot = this.physical.slotAt(physical);
		if (slot === undefined) return this.mmio.mmioRead(physical, this.bounce.subarray(from, to));
		this.copyIn(slot, physical, from, to);
		return true;
	}

	private copyIn(slot: Slot, physical: number, from: number, to: number): void {
		const host = slot.host + (physical - slot.physical);
		for (let i = from; i < to; i++) this.bounce[i] = this.physical.u8[host + i - from]!;
	}

	private splitWrite(lo: number, hi: number, size: number, access: number, stack: boolean, modify: boolean): number {
		const first = PAGE - (lo & (PAGE - 1));
		const [nextLo, nextHi] = nextPage(lo, hi, this.cpu.code64);
		if (this.refuses(nextHi, stack)) return 0;
		const physical = this.translate(lo, hi, access, stack);
		if (physical < 0) return 0;
		const second = this.translate(nextLo, nextHi, access, stack);
		if (second < 0) return 0;
		if (modify) {
			if (!this.piece(physical + (lo & (PAGE - 1)), 0, first)) return -1;
			if (!this.piece(second, first, size)) return -1;
		}
		this.pieces[0] = physical + (lo & (PAGE - 1));
		this.pieces[1] = second;
		this.firstPiece = first;
		this.bounceSize = size;
		return this.bounceAddress;
	}

	/** Writes bytes `from` to `to` of BOUNCE at a physical address. */
	private store(physical: number, from: number, to: number): void {
		const slot = this.physical.slotAt(physical);
		if (slot === undefined || slot.readonly) {
			if (slot === undefined && this.mmio.isLeft(physical)) throw EXIT_REQUEST;
			this.mmio.mmioWrite(physical, this.bounce.subarray(from, to));
			return;
		}
		const offset = physical - slot.physical;
		const first = offset & (PAGE - 1);
		this.noteWrite(slot, offset - first, first, first + to - from);
		for (let i = from; i < to; i++) this.physical.u8[slot.host + offset + i - from] = this.bounce[i]!;
	}
}

/** The one request to leave, so that nothing is allocated for it. */
export const EXIT_REQUEST: ExitRequest = new ExitRequest();

/** What an access of `size` bytes is aligned to: x87's 10 bytes as a quadword. */
function alignmentOf(size: number): number {
	return size === 10 ? 8 : size;
}

function nextPage(lo: number, hi: number, long: boolean): [number, number] {
	const next = ((lo & -PAGE) + PAGE) >>> 0;
	return [next, next === 0 && long ? (hi + 1) | 0 : hi];
}
