/**
 * What decoding depends on besides the bytes, as bits of one number. Pages decoded for one mode serve every process and
 * privilege level that runs in it.
 */

/** Code size: 0 = 16, 1 = 32, 2 = 64. */
export const MODE_SIZE = 3;
/** DS, ES and SS start at 0, reach 4 GiB and are writable (always in 64-bit code). */
export const MODE_FLAT = 4;
/** FS, GS reach 4 GiB and are writable. */
export const MODE_FS_FULL = 8;
export const MODE_GS_FULL = 16;
/** The stack pointer has 32 bits (outside 64-bit code). */
export const MODE_STACK_32 = 32;
/** CR0.EM or TS: x87 and MMX raise. */
export const MODE_NO_FPU = 64;
/** CR0.EM, TS or no CR4.OSFXSR: SSE raises. */
export const MODE_NO_SSE = 128;
