/**
 * A micro-op: one decoded guest instruction, 16 bytes, in the arena of the VM's memory. Consecutive instructions lie
 * one behind the other, so the next micro-op of straight-line code is at pc + 16.
 */

/** Index of the handler in the function table, u16. */
export const UOP_HANDLER = 0;
/** Offset of the instruction in its page (12 bits) and its length (4 bits), u16. */
export const UOP_META = 2;
/** Displacement of the memory operand, or the high half of a 64-bit immediate, i32. */
export const UOP_DISP = 4;
/** Immediate, sign-extended to 32 bits, or a branch's displacement or target micro-op, i32. */
export const UOP_IMM = 8;
/** What ModRM.rm names. A register: its byte offset in the vCPU's state (XMM, MM: number times 16). Memory: the base's offset. */
export const UOP_BASE = 12;
/** Memory: the index register's byte offset. */
export const UOP_INDEX = 13;
/** Memory: scale (bits 0-1), segment (bits 2-4), address size 16/32/64 (bits 5-6 = 0/1/2). */
export const UOP_FLAGS = 14;
/** What ModRM.reg, or the opcode, names: as for UOP_BASE; segment, control and debug registers by number. */
export const UOP_REG = 15;
export const UOP_BYTES = 16;
