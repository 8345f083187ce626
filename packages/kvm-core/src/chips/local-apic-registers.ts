/** Register offsets in the xAPIC page; the MSR is 0x800 + (offset >> 4) (Intel SDM vol. 3, 11.4.1). */
export const REG = {
	id: 0x020,
	version: 0x030,
	tpr: 0x080,
	apr: 0x090,
	ppr: 0x0a0,
	eoi: 0x0b0,
	rrd: 0x0c0,
	ldr: 0x0d0,
	dfr: 0x0e0,
	svr: 0x0f0,
	isr: 0x100,
	tmr: 0x180,
	irr: 0x200,
	esr: 0x280,
	icrLow: 0x300,
	icrHigh: 0x310,
	lvtTimer: 0x320,
	lvtThermal: 0x330,
	lvtPerformance: 0x340,
	lvtLint0: 0x350,
	lvtLint1: 0x360,
	lvtError: 0x370,
	initialCount: 0x380,
	currentCount: 0x390,
	divide: 0x3e0,
	selfIpi: 0x3f0,
} as const;

export const LVT_MASKED = 1 << 16;
export const ISR = REG.isr >> 4;
export const TMR = REG.tmr >> 4;
export const IRR = REG.irr >> 4;

/** Bits a guest can set in each LVT entry. */
export const LVT_WRITABLE: Readonly<Record<number, number>> = {
	[REG.lvtTimer]: 0x700ff,
	[REG.lvtThermal]: 0x107ff,
	[REG.lvtPerformance]: 0x107ff,
	[REG.lvtLint0]: 0x1a7ff,
	[REG.lvtLint1]: 0x1a7ff,
	[REG.lvtError]: 0x100ff,
};
export const LVT_OFFSETS = Object.keys(LVT_WRITABLE).map(Number);

export const TIMER_PERIODIC = 1;
export const TIMER_TSC_DEADLINE = 2;

export const ESR_SEND_ILLEGAL_VECTOR = 1 << 5;
export const ESR_RECEIVE_ILLEGAL_VECTOR = 1 << 6;
export const ESR_ILLEGAL_REGISTER = 1 << 7;

/** Registers `rdmsr` can reach in x2APIC mode, by offset. */
export const X2APIC_READABLE: ReadonlySet<number> = new Set([
	REG.id,
	REG.version,
	REG.tpr,
	REG.ppr,
	REG.ldr,
	REG.svr,
	...Array.from({ length: 24 }, (_, i) => REG.isr + i * 16),
	REG.esr,
	REG.icrLow,
	...LVT_OFFSETS,
	REG.initialCount,
	REG.currentCount,
	REG.divide,
]);
/** What x2APIC lets `wrmsr` set: offset to writable bits; others give #GP. */
export const X2APIC_WRITABLE: ReadonlyMap<number, number> = new Map([
	[REG.tpr, 0xff],
	[REG.eoi, 0],
	[REG.svr, 0x3ff],
	[REG.esr, 0],
	[REG.icrLow, 0x000c_dfff],
	[REG.lvtTimer, 0x710ff],
	[REG.lvtThermal, 0x117ff],
	[REG.lvtPerformance, 0x117ff],
	[REG.lvtLint0, 0x1f7ff],
	[REG.lvtLint1, 0x1f7ff],
	[REG.lvtError, 0x110ff],
	[REG.initialCount, 0xffff_ffff],
	[REG.divide, 0xb],
	[REG.selfIpi, 0xff],
]);

export const BASE_BSP = 1 << 8;
export const BASE_EXTD = 1 << 10;
export const BASE_ENABLE = 1 << 11;
export const DEFAULT_BASE = 0xfee0_0000;
