/** CR0. */
export const CR0_PE = 1;
export const CR0_MP: number = 1 << 1;
export const CR0_EM: number = 1 << 2;
export const CR0_TS: number = 1 << 3;
export const CR0_ET: number = 1 << 4;
export const CR0_NE: number = 1 << 5;
export const CR0_WP: number = 1 << 16;
export const CR0_AM: number = 1 << 18;
export const CR0_NW: number = 1 << 29;
export const CR0_CD: number = 1 << 30;
/** As a signed bit pattern: use it with `&` only. */
export const CR0_PG: number = 1 << 31;

/** CR4. */
export const CR4_VME = 1;
export const CR4_PVI: number = 1 << 1;
export const CR4_TSD: number = 1 << 2;
export const CR4_DE: number = 1 << 3;
export const CR4_PSE: number = 1 << 4;
export const CR4_PAE: number = 1 << 5;
export const CR4_MCE: number = 1 << 6;
export const CR4_PGE: number = 1 << 7;
export const CR4_PCE: number = 1 << 8;
export const CR4_OSFXSR: number = 1 << 9;
export const CR4_OSXMMEXCPT: number = 1 << 10;
export const CR4_UMIP: number = 1 << 11;
export const CR4_FSGSBASE: number = 1 << 16;
export const CR4_PCIDE: number = 1 << 17;
export const CR4_OSXSAVE: number = 1 << 18;
export const CR4_SMEP: number = 1 << 20;
export const CR4_SMAP: number = 1 << 21;
export const CR4_PKE: number = 1 << 22;

/** EFER. */
export const EFER_SCE = 1;
export const EFER_LME: number = 1 << 8;
export const EFER_LMA: number = 1 << 10;
export const EFER_NXE: number = 1 << 11;
