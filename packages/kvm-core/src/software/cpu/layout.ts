/**
 * Where a vCPU's state lies: byte offsets from the vCPU's base in the VM's one WebAssembly memory. Generated code has
 * base + offset as constants; TypeScript reaches the same bytes through typed arrays. The first page is the whole
 * architectural state, so saving a vCPU is copying it; what follows (TLBs) can be rebuilt.
 *
 * Micro-ops name registers by these offsets in a byte, so what they name lies below 256: the general registers, and the
 * slots that address arithmetic adds.
 */

/** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15: 8 bytes each; AH is RAX + 1. */
export const GPR = 0;
/** Always zero: the absent base or index of an address. */
export const ZERO = 128;
/** RIP (within its code segment) of offset 0 of the linear page that is executed. */
export const RIP_BASE = 136;
/** The constant 2^31, to reach displacements beyond an i32. */
export const TWO_GIB = 144;
/** Segment bases ES CS SS DS FS GS: 8 bytes each. */
export const SEG_BASE = 152;

/** Result of the last flag-setting operation, sign-extended: ZF, SF and PF derive from it. */
export const FLAGS_RES = 200;
/** CF, AF and OF in their RFLAGS places; bits 7 and 2 invert the SF and PF that FLAGS_RES gives. */
export const FLAGS_AUX = 208;
/** The other RFLAGS bits (and bit 1). */
export const RFLAGS_SYS = 212;
/**
 * Instruction budget: with the micro-op at address pc about to execute, `BUDGET - (pc >> 4)` instructions remain.
 * Straight-line code leaves it alone; each taken jump adds the difference.
 */
export const BUDGET = 216;
/** Micro-op to go on with. */
export const PC = 220;
/** Current TLB bases, chosen by CPL, SMAP, AC and CR0.AM. */
export const TLB_READ = 224;
export const TLB_WRITE = 228;
export const TLB_CODE = 232;
/** Non-zero: leave generated code at the next instruction boundary that checks. */
export const ATTENTION = 236;
/** Current privilege level. */
export const CPL = 240;
/** Decoding mode: see `ModeKey`. */
export const MODE = 244;
/** 1 while the next instruction boundary takes no interrupt (STI, MOV SS). */
export const SHADOW = 248;
/** 1 in 64-bit code. */
export const CODE_64 = 252;

/** XMM0..15, 16 bytes each. */
export const XMM = 256;
/** Physical x87 registers R0..R7, 16 bytes each: significand (also MMn), then sign and exponent in 2 bytes. */
export const X87 = 512;
export const FCW = 640;
/** Status word without TOP. */
export const FSW = 644;
export const FTOP = 648;
/** A bit per physical register: 1 = in use (the abridged tag word). */
export const FTAG = 652;
export const FOP = 656;
export const MXCSR = 660;
export const FIP = 664;
export const FDP = 672;
export const FCS = 680;
export const FDS = 684;
/** RIP, whenever PC is zero. */
export const RIP = 688;

/**
 * Hidden parts of ES CS SS DS FS GS LDTR TR, 32 bytes each: selector u32, attributes u32 (see segments.ts), limit u32
 * in bytes, SEGMENT_FAST; base i64 at +16 (for the first six a copy of SEG_BASE's).
 */
export const SEGMENTS = 704;
export const SEGMENT_BYTES = 32;
/** In a segment's record: the limit (u32). */
export const SEGMENT_LIMIT = 8;
/** In a segment's record: what generated code may do without asking (u32). */
export const SEGMENT_FAST = 12;
export const FAST_READ = 1;
export const FAST_WRITE = 2;
/** No limit to check: 64-bit code. */
export const FAST_UNLIMITED = 4;
export const GDTR_BASE = 960;
export const GDTR_LIMIT = 968;
export const IDTR_BASE = 976;
export const IDTR_LIMIT = 984;
export const CR0 = 992;
export const CR2 = 1000;
export const CR3 = 1008;
export const CR4 = 1016;
export const CR8 = 1024;
export const EFER = 1032;
export const XCR0 = 1040;
/** Protection-key rights: access- and write-disable bits for 16 keys. */
export const PKRU = 1048;
/** DR0..3 8 bytes each, then DR6, DR7. */
export const DR = 1056;
export const DR6 = 1088;
export const DR7 = 1096;
/** MSRs, 8 bytes each; which stands where: msr.ts. */
export const MSRS = 1104;
export const MSRS_END = 2048;

/** Where an access that cannot be made in place is made: 64 bytes. */
export const BOUNCE = 2048;
/** Pending events, plain words to 2551; which stands where: events.ts. */
export const EVENTS = 2304;
/** Set when a segment check queued a fault; generated code leaves. */
export const FAULT_FLAG = 2552;
/** Something waits to be taken to the embedder: repeated instructions stop for it (u32). */
export const REQUEST_FLAG = 2556;
/** Scratch of the floating-point code, 512 bytes. */
export const FP_SCRATCH = 2560;
/** PAE page-directory pointers, 4 x 8 bytes, loaded with CR3. */
export const PDPTES = 3072;

export const STATE_BYTES = 4096;

/** Entries of each data TLB; direct-mapped by the low bits of the linear page number. */
export const TLB_ENTRIES = 1024;
/** Tag i64 (linear address of the page, or an odd number), addend i32 (host minus linear), flags i32 (1 = global). */
export const TLB_ENTRY_BYTES = 16;
export const TLB_BYTES: number = TLB_ENTRIES * TLB_ENTRY_BYTES;
/**
 * Data TLBs, by who accesses: user, supervisor, supervisor with AC set (SMAP lifted); each for reads, then for writes.
 */
export const TLBS = 4096;
export const TLB_COUNT = 6;
/** Entries of each code TLB: tag i64, address of the page's entry table i32, flags i32. User, then supervisor. */
export const CODE_TLB_ENTRIES = 512;
export const CODE_TLB_BYTES: number = CODE_TLB_ENTRIES * 16;
export const CODE_TLBS: number = TLBS + TLB_COUNT * TLB_BYTES;
/**
 * A data TLB that stays empty. While alignment is checked generated code looks here, so that every access takes the slow
 * path, which checks; while it is not, nothing is spent on it.
 */
export const EMPTY_TLB: number = CODE_TLBS + 2 * CODE_TLB_BYTES;
/** Bytes of a vCPU's area. */
export const VCPU_BYTES = 196608;

/** Arithmetic flags in RFLAGS. */
export const CF = 1;
export const PF = 4;
export const AF = 0x10;
export const ZF = 0x40;
export const SF = 0x80;
export const TF = 0x100;
export const IF = 0x200;
export const DF = 0x400;
export const OF = 0x800;
export const IOPL = 0x3000;
export const NT = 0x4000;
export const RF = 0x10000;
export const VM = 0x20000;
export const AC = 0x40000;
export const VIF = 0x80000;
export const VIP = 0x100000;
export const ID = 0x200000;
/** The flags that FLAGS_RES and FLAGS_AUX hold. */
export const ARITHMETIC: number = CF | PF | AF | ZF | SF | OF;

/** Segment register numbers as instructions encode them; LDTR and TR follow. */
export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;
export const LDTR = 6;
export const TR = 7;

/** General register numbers. */
export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
