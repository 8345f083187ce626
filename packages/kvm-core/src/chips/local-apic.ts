import { type ApicBus, type ApicTarget, DELIVERY } from "./apic-bus.ts";
import {
	BASE_BSP,
	BASE_ENABLE,
	BASE_EXTD,
	DEFAULT_BASE,
	ESR_ILLEGAL_REGISTER,
	ESR_RECEIVE_ILLEGAL_VECTOR,
	ESR_SEND_ILLEGAL_VECTOR,
	IRR,
	ISR,
	LVT_MASKED,
	LVT_OFFSETS,
	LVT_WRITABLE,
	REG,
	TIMER_PERIODIC,
	TIMER_TSC_DEADLINE,
	TMR,
	X2APIC_READABLE,
	X2APIC_WRITABLE,
} from "./local-apic-registers.ts";

/** MSR numbers this chip answers for besides 0x800 to 0x8ff. */
export const MSR_TSC_DEADLINE = 0x6e0;

/** Options of a {@link LocalApic}. */
export interface LocalApicOptions {
	/** APIC id; also the vCPU's id. */
	id: number;
	bus: ApicBus;
	/** Bits a physical address has; `setApicBase` refuses higher ones. @default 40 */
	physicalAddressBits?: number;
	/** The time (nanoseconds, the clock of `now`) at which the guest's TSC reaches a value. */
	tscToTime: (tsc: number) => number;
}

/** Plain state of a {@link LocalApic}. */
export interface LocalApicState {
	/** Value of IA32_APIC_BASE. */
	base: number;
	/** The 64 registers of the page, one word each. */
	registers: number[];
	/** Errors not yet latched into ESR by a write to it. */
	pendingErrors: number;
	/** Halves of IA32_TSC_DEADLINE. */
	tscDeadline: [low: number, high: number];
	/** When the count reaches zero, in nanoseconds; null when the timer does not run. */
	timerExpiry: number | null;
	arbitrationPriority: number;
}

/**
 * A local APIC: xAPIC page, x2APIC MSRs and timer. Its bus clock is 1 GHz, as KVM's is, so that counts are nanoseconds.
 * Time comes in as `now` in nanoseconds.
 *
 * @see Intel SDM vol. 3, chapter 11
 */
export class LocalApic implements ApicTarget {
	readonly id: number;
	/** IA32_APIC_BASE. */
	apicBase: number;
	/** Grows with each lowest-priority interrupt taken; the smallest takes the next. */
	arbitrationPriority = 0;
	/** High half of what `readMsr` answered. */
	msrHigh = 0;
	/** Low half of what `readMsr` answered. */
	msrLow = 0;

	readonly #bus: ApicBus;
	readonly #tscToTime: (tsc: number) => number;
	readonly #reservedBase: number;
	readonly #r = new Uint32Array(64);
	#pendingErrors = 0;
	#tscDeadlineLow = 0;
	#tscDeadlineHigh = 0;
	#expiry = Number.POSITIVE_INFINITY;

	constructor(options: LocalApicOptions) {
		this.id = options.id;
		this.#bus = options.bus;
		this.#tscToTime = options.tscToTime;
		this.#reservedBase = 2 ** (options.physicalAddressBits ?? 40);
		this.apicBase = DEFAULT_BASE + BASE_ENABLE + (options.id === 0 ? BASE_BSP : 0);
		this.reset(true);
	}

	/** Whether IA32_APIC_BASE enables the APIC (CPUID.1:EDX[9] follows it). */
	get hardwareEnabled(): boolean {
		return (this.apicBase & BASE_ENABLE) !== 0;
	}

	get x2apic(): boolean {
		return (this.apicBase & (BASE_EXTD | BASE_ENABLE)) === (BASE_EXTD | BASE_ENABLE);
	}

	/** Whether the spurious-interrupt register's enable bit is set. */
	get softwareEnabled(): boolean {
		return (this.#r[REG.svr >> 4] & 0x100) !== 0;
	}

	/** Physical address of the register page. */
	get pageAddress(): number {
		return this.apicBase - (this.apicBase % 4096);
	}

	/** Whether loads and stores reach the page; when not, loads give all ones and stores are lost. */
	get pageVisible(): boolean {
		return (this.apicBase & (BASE_EXTD | BASE_ENABLE)) === BASE_ENABLE;
	}

	/** Logical destination: 8 bits, or 32 in x2APIC mode. */
	get logicalDestination(): number {
		return this.x2apic ? this.#r[REG.ldr >> 4] : this.#r[REG.ldr >> 4] >>> 24;
	}

	get flatModel(): boolean {
		return this.#r[REG.dfr >> 4] >>> 28 === 0xf;
	}

	/**
	 * Whether the PIC's INTR pin reaches the vCPU: the APIC is off, or LINT0 is unmasked and in ExtINT mode.
	 */
	get acceptsExtInt(): boolean {
		if (!this.hardwareEnabled) return this.id === 0;
		return (this.#r[REG.lvtLint0 >> 4] & (LVT_MASKED | 0x700)) === DELIVERY.extInt << 8;
	}

	/** Task priority as CR8 shows it, 4 bits. */
	get cr8(): number {
		return this.#r[REG.tpr >> 4] >>> 4;
	}

	set cr8(value: number) {
		this.#setTpr((value & 0xf) << 4);
	}

	/**
	 * Writes IA32_APIC_BASE.
	 *
	 * @param unchecked - take any value, as KVM_SET_SREGS does
	 * @returns false when WRMSR has to give #GP: reserved bits, or a forbidden change of mode
	 */
	setApicBase(value: number, unchecked = false): boolean {
		const before = this.apicBase & (BASE_EXTD | BASE_ENABLE);
		const after = value & (BASE_EXTD | BASE_ENABLE);
		if (!unchecked) {
			if (value >= this.#reservedBase || (value & 0x2ff) !== 0) return false;
			if (after === BASE_EXTD) return false;
			if (before === 0 && after === (BASE_EXTD | BASE_ENABLE)) return false;
			if (before === (BASE_EXTD | BASE_ENABLE) && after === BASE_ENABLE) return false;
		}
		this.apicBase = value;
		if (after === before) return true;
		if (after === 0) {
			if (!unchecked) this.reset(true);
		} else {
			this.#setIdentity();
		}
		this.#bus.events.interrupt(this.id);
		return true;
	}

	/**
	 * State after INIT, or after RESET when `init` is false (which also puts IA32_APIC_BASE back).
	 */
	reset(init: boolean): void {
		if (!init) this.apicBase = DEFAULT_BASE + BASE_ENABLE + (this.id === 0 ? BASE_BSP : 0);
		this.#r.fill(0);
		this.#r[REG.version >> 4] = 0x0005_0014;
		this.#r[REG.dfr >> 4] = 0xffff_ffff;
		this.#r[REG.svr >> 4] = 0xff;
		for (const offset of LVT_OFFSETS) this.#r[offset >> 4] = LVT_MASKED;
		// Firmware that is not there would have set virtual wire mode up; KVM does it at reset for the boot CPU.
		if (this.id === 0) this.#r[REG.lvtLint0 >> 4] = DELIVERY.extInt << 8;
		this.#setIdentity();
		this.#pendingErrors = 0;
		this.#tscDeadlineLow = 0;
		this.#tscDeadlineHigh = 0;
		this.#expiry = Number.POSITIVE_INFINITY;
		this.arbitrationPriority = 0;
	}

	/** The vector to deliver now, or -1: the highest in IRR whose class is above the processor's priority. */
	pendingVector(): number {
		const vector = this.#highest(IRR);
		if (vector < 0 || !this.hardwareEnabled) return -1;
		return vector >>> 4 > this.#ppr() >>> 4 ? vector : -1;
	}

	/** Takes what `pendingVector` named into service. */
	acknowledge(): number {
		const vector = this.pendingVector();
		if (vector < 0) return -1;
		const bit = 1 << (vector & 31);
		this.#r[IRR + (vector >>> 5)] &= ~bit;
		this.#r[ISR + (vector >>> 5)] |= bit;
		return vector;
	}

	/**
	 * A message from the bus for this APIC.
	 *
	 * @returns whether it was taken (false: masked away, or coalesced into one already pending)
	 */
	accept(mode: number, vector: number, level: boolean, assert: boolean): boolean {
		const { events } = this.#bus;
		switch (mode) {
			case DELIVERY.fixed: {
				if (!this.softwareEnabled) return false;
				if (vector < 16) {
					this.#error(ESR_RECEIVE_ILLEGAL_VECTOR);
					return false;
				}
				const word = vector >>> 5;
				const bit = 1 << (vector & 31);
				if (level) this.#r[TMR + word] |= bit;
				else this.#r[TMR + word] &= ~bit;
				const fresh = (this.#r[IRR + word] & bit) === 0;
				this.#r[IRR + word] |= bit;
				events.interrupt(this.id);
				return fresh;
			}
			case DELIVERY.nmi:
				events.nmi(this.id);
				return true;
			case DELIVERY.smi:
				events.smi(this.id);
				return true;
			case DELIVERY.init:
				// A level-triggered de-assert only synchronises arbitration ids.
				if (level && !assert) return false;
				events.init(this.id);
				return true;
			case DELIVERY.startUp:
				events.startUp(this.id, vector);
				return true;
			default:
				// ExtINT over the bus: the PIC's own line does it.
				return false;
		}
	}

	/** Asserts local pin 0 or 1 (LINT1 is where boards wire NMI). */
	assertLint(pin: 0 | 1): void {
		this.#deliverLocal(pin === 0 ? REG.lvtLint0 : REG.lvtLint1);
	}

	/** Reads a 32-bit register of the page by its offset. */
	read(offset: number, now: number): number {
		if (!this.pageVisible) return 0xffff_ffff;
		if ((offset & 0xf) !== 0) return 0;
		return this.#readRegister(offset & 0xff0, now);
	}

	/** Writes a 32-bit register of the page by its offset. */
	write(offset: number, value: number, now: number): void {
		if (!this.pageVisible || (offset & 0xf) !== 0) return;
		this.#writeRegister(offset & 0xff0, value >>> 0, now);
	}

	/**
	 * RDMSR of 0x800 to 0x8ff or IA32_TSC_DEADLINE into `msrLow` and `msrHigh`.
	 *
	 * @returns false where the processor gives #GP
	 */
	readMsr(index: number, now: number): boolean {
		this.msrHigh = 0;
		if (index === MSR_TSC_DEADLINE) {
			this.advanceTo(now);
			const armed = this.#timerMode() === TIMER_TSC_DEADLINE;
			this.msrLow = armed ? this.#tscDeadlineLow : 0;
			this.msrHigh = armed ? this.#tscDeadlineHigh : 0;
			return true;
		}
		const offset = (index - 0x800) << 4;
		if (!this.x2apic || !X2APIC_READABLE.has(offset)) return false;
		this.msrLow = this.#readRegister(offset, now);
		if (offset === REG.icrLow) this.msrHigh = this.#r[REG.icrHigh >> 4];
		return true;
	}

	/**
	 * WRMSR of 0x800 to 0x8ff or IA32_TSC_DEADLINE.
	 *
	 * @returns false where the processor gives #GP
	 */
	writeMsr(index: number, low: number, high: number, now: number): boolean {
		low >>>= 0;
		high >>>= 0;
		if (index === MSR_TSC_DEADLINE) {
			if (this.#timerMode() !== TIMER_TSC_DEADLINE) return true;
			this.#tscDeadlineLow = low;
			this.#tscDeadlineHigh = high;
			this.tscChanged();
			this.advanceTo(now);
			return true;
		}
		const offset = (index - 0x800) << 4;
		const writable = X2APIC_WRITABLE.get(offset);
		if (!this.x2apic || writable === undefined || (low & ~writable) !== 0) return false;
		if (offset === REG.icrLow) {
			this.#r[REG.icrHigh >> 4] = high;
		} else if (high !== 0) {
			return false;
		}
		if (offset === REG.selfIpi) {
			this.#sendIpi(low | (1 << 18), 0);
		} else {
			this.#writeRegister(offset, low, now);
		}
		return true;
	}

	/** The guest's TSC was set: the deadline lies at another time now. */
	tscChanged(): void {
		if (this.#timerMode() !== TIMER_TSC_DEADLINE) return;
		const deadline = this.#tscDeadlineHigh * 2 ** 32 + this.#tscDeadlineLow;
		this.#expiry = deadline === 0 ? Number.POSITIVE_INFINITY : this.#tscToTime(deadline);
	}

	/** When `advanceTo` has something to do; Infinity when nothing runs. */
	nextDeadline(): number {
		return this.#expiry;
	}

	/** Lets the timer run up to `now`. */
	advanceTo(now: number): void {
		if (now < this.#expiry) return;
		switch (this.#timerMode()) {
			case TIMER_PERIODIC: {
				const period = this.#period();
				// Periods missed while nobody looked make one interrupt, as the IRR bit would have.
				this.#expiry += (Math.floor((now - this.#expiry) / period) + 1) * period;
				break;
			}
			case TIMER_TSC_DEADLINE:
				this.#tscDeadlineLow = 0;
				this.#tscDeadlineHigh = 0;
				this.#expiry = Number.POSITIVE_INFINITY;
				break;
			default:
				this.#expiry = Number.POSITIVE_INFINITY;
		}
		this.#deliverLocal(REG.lvtTimer);
	}

	/** The 1 KiB register page of KVM_GET_LAPIC. */
	toPage(now: number): Uint8Array {
		const page = new Uint8Array(1024);
		const view = new DataView(page.buffer);
		for (let i = 0; i < 64; i++) view.setUint32(i * 16, this.#r[i], true);
		view.setUint32(REG.ppr, this.#ppr(), true);
		view.setUint32(REG.currentCount, this.#currentCount(now), true);
		return page;
	}

	/** Takes a page of KVM_SET_LAPIC; the timer continues from its current count. */
	fromPage(page: Uint8Array, now: number): void {
		const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
		for (let i = 0; i < 64; i++) this.#r[i] = view.getUint32(i * 16, true);
		this.#r[REG.version >> 4] = 0x0005_0014;
		this.#setIdentity();
		const count = view.getUint32(REG.currentCount, true);
		this.#r[REG.currentCount >> 4] = 0;
		if (this.#timerMode() === TIMER_TSC_DEADLINE) this.tscChanged();
		else this.#expiry = count === 0 ? Number.POSITIVE_INFINITY : now + count * this.#divisor();
		this.#bus.events.interrupt(this.id);
	}

	save(): LocalApicState {
		return {
			base: this.apicBase,
			registers: Array.from(this.#r),
			pendingErrors: this.#pendingErrors,
			tscDeadline: [this.#tscDeadlineLow, this.#tscDeadlineHigh],
			timerExpiry: Number.isFinite(this.#expiry) ? this.#expiry : null,
			arbitrationPriority: this.arbitrationPriority,
		};
	}

	restore(state: LocalApicState): void {
		this.apicBase = state.base;
		this.#r.set(state.registers);
		this.#pendingErrors = state.pendingErrors;
		[this.#tscDeadlineLow, this.#tscDeadlineHigh] = state.tscDeadline;
		this.#expiry = state.timerExpiry ?? Number.POSITIVE_INFINITY;
		this.arbitrationPriority = state.arbitrationPriority;
		this.#bus.events.interrupt(this.id);
	}

	#setIdentity(): void {
		if (this.x2apic) {
			this.#r[REG.id >> 4] = this.id;
			this.#r[REG.ldr >> 4] = ((this.id >>> 4) << 16) | (1 << (this.id & 0xf));
		} else {
			this.#r[REG.id >> 4] = this.id << 24;
		}
	}

	#readRegister(offset: number, now: number): number {
		switch (offset) {
			case REG.ppr:
				return this.#ppr();
			case REG.currentCount:
				return this.#currentCount(now);
			case REG.apr:
			case REG.rrd:
			case REG.eoi:
				return 0;
			default:
				if (offset >= 0x400) {
					this.#error(ESR_ILLEGAL_REGISTER);
					return 0;
				}
				return this.#r[offset >> 4];
		}
	}

	#writeRegister(offset: number, value: number, now: number): void {
		const r = this.#r;
		switch (offset) {
			case REG.tpr:
				this.#setTpr(value & 0xff);
				return;
			case REG.eoi:
				this.#endOfInterrupt();
				return;
			case REG.ldr:
				r[offset >> 4] = value & 0xff00_0000;
				return;
			case REG.dfr:
				r[offset >> 4] = value | 0x0fff_ffff;
				return;
			case REG.svr:
				r[offset >> 4] = value & 0x3ff;
				if ((value & 0x100) === 0) for (const lvt of LVT_OFFSETS) r[lvt >> 4] |= LVT_MASKED;
				this.#bus.events.interrupt(this.id);
				return;
			case REG.esr:
				r[offset >> 4] = this.#pendingErrors;
				this.#pendingErrors = 0;
				return;
			case REG.icrLow:
				r[offset >> 4] = value & 0x000c_cfff;
				this.#sendIpi(value, this.x2apic ? r[REG.icrHigh >> 4] : r[REG.icrHigh >> 4] >>> 24);
				return;
			case REG.icrHigh:
				r[offset >> 4] = value & 0xff00_0000;
				return;
			case REG.lvtTimer:
				this.#writeTimer(value);
				return;
			case REG.lvtThermal:
			case REG.lvtPerformance:
			case REG.lvtLint0:
			case REG.lvtLint1:
			case REG.lvtError:
				r[offset >> 4] = (value & LVT_WRITABLE[offset]) | (this.softwareEnabled ? 0 : LVT_MASKED);
				if (offset === REG.lvtLint0) this.#bus.events.interrupt(this.id);
				return;
			case REG.initialCount:
				if (this.#timerMode() === TIMER_TSC_DEADLINE) return;
				r[offset >> 4] = value;
				this.#expiry = value === 0 ? Number.POSITIVE_INFINITY : now + this.#period();
				return;
			case REG.divide: {
				const count = this.#currentCount(now);
				r[offset >> 4] = value & 0xb;
				// The count goes on from where it is, at the new pace.
				if (count !== 0) this.#expiry = now + count * this.#divisor();
				return;
			}
			default:
				if (offset >= 0x400) this.#error(ESR_ILLEGAL_REGISTER);
		}
	}

	#writeTimer(value: number): void {
		const r = this.#r;
		const wasDeadline = this.#timerMode() === TIMER_TSC_DEADLINE;
		r[REG.lvtTimer >> 4] = (value & LVT_WRITABLE[REG.lvtTimer]) | (this.softwareEnabled ? 0 : LVT_MASKED);
		if (wasDeadline !== (this.#timerMode() === TIMER_TSC_DEADLINE)) {
			r[REG.initialCount >> 4] = 0;
			this.#tscDeadlineLow = 0;
			this.#tscDeadlineHigh = 0;
			this.#expiry = Number.POSITIVE_INFINITY;
		}
	}

	#timerMode(): number {
		return (this.#r[REG.lvtTimer >> 4] >>> 17) & 3;
	}

	#divisor(): number {
		const bits = this.#r[REG.divide >> 4];
		const shift = (((bits & 3) | ((bits >>> 1) & 4)) + 1) & 7;
		return 1 << shift;
	}

	#period(): number {
		return this.#r[REG.initialCount >> 4] * this.#divisor();
	}

	#currentCount(now: number): number {
		if (this.#expiry === Number.POSITIVE_INFINITY || this.#timerMode() === TIMER_TSC_DEADLINE) return 0;
		let left = this.#expiry - now;
		if (left <= 0) {
			if (this.#timerMode() !== TIMER_PERIODIC) return 0;
			const period = this.#period();
			left = period - (-left % period);
		}
		return Math.min(Math.ceil(left / this.#divisor()), 0xffff_ffff);
	}

	#setTpr(value: number): void {
		this.#r[REG.tpr >> 4] = value;
		this.#bus.events.interrupt(this.id);
	}

	#ppr(): number {
		const tpr = this.#r[REG.tpr >> 4];
		const inService = this.#highest(ISR);
		if (inService < 0) return tpr;
		return tpr >>> 4 >= inService >>> 4 ? tpr : inService & 0xf0;
	}

	/** Highest vector set in the 256-bit register at word `base`, or -1. */
	#highest(base: number): number {
		for (let i = 7; i >= 0; i--) {
			const word = this.#r[base + i];
			if (word !== 0) return i * 32 + 31 - Math.clz32(word);
		}
		return -1;
	}

	#endOfInterrupt(): void {
		const vector = this.#highest(ISR);
		if (vector < 0) return;
		const word = vector >>> 5;
		const bit = 1 << (vector & 31);
		this.#r[ISR + word] &= ~bit;
		if ((this.#r[TMR + word] & bit) !== 0) this.#bus.onLevelEoi(vector);
		this.#bus.events.interrupt(this.id);
	}

	#deliverLocal(lvt: number): void {
		const entry = this.#r[lvt >> 4];
		if ((entry & LVT_MASKED) !== 0 || !this.hardwareEnabled) return;
		// The timer and error entries have no delivery mode: they are always fixed.
		const mode = lvt === REG.lvtTimer || lvt === REG.lvtError ? DELIVERY.fixed : (entry >>> 8) & 7;
		this.accept(mode, entry & 0xff, false, true);
	}

	#error(bits: number): void {
		if ((this.#pendingErrors & bits) === bits) return;
		this.#pendingErrors |= bits;
		const entry = this.#r[REG.lvtError >> 4];
		// An error entry whose own vector is illegal would raise itself.
		if ((entry & 0xff) >= 16) this.#deliverLocal(REG.lvtError);
	}

	#sendIpi(low: number, destination: number): void {
		const vector = low & 0xff;
		const mode = (low >>> 8) & 7;
		const logical = (low & 0x800) !== 0;
		const assert = (low & 0x4000) !== 0;
		const level = (low & 0x8000) !== 0;
		if ((mode === DELIVERY.fixed || mode === DELIVERY.lowestPriority) && vector < 16) {
			this.#error(ESR_SEND_ILLEGAL_VECTOR);
			return;
		}
		const bus = this.#bus;
		switch ((low >>> 18) & 3) {
			case 0:
				bus.deliver(this, destination, logical, mode, vector, level && mode === DELIVERY.init, assert);
				return;
			case 1:
				this.accept(mode === DELIVERY.lowestPriority ? DELIVERY.fixed : mode, vector, false, true);
				return;
			default: {
				const all = ((low >>> 18) & 3) === 2;
				const fixed = mode === DELIVERY.lowestPriority ? DELIVERY.fixed : mode;
				for (const apic of bus.apics) {
					if (apic.hardwareEnabled && (all || apic !== this)) {
						apic.accept(fixed, vector, level && mode === DELIVERY.init, assert);
					}
				}
			}
		}
	}
}
