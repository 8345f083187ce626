import { EVENTS } from "./layout.ts";

/**
 * What waits to be delivered or was cut short, as u32 words of the state page, so that it is saved with it. Offsets as in
 * layout.ts.
 */

/** 0 none, 1 queued (by generated code or set by the embedder), 2 its delivery was cut short and is to be done again. */
export const EXCEPTION: number = EVENTS;
export const EXCEPTION_VECTOR: number = EVENTS + 4;
/** As i32; -1 = the vector has none. */
export const EXCEPTION_ERROR: number = EVENTS + 8;
/** An interrupt that was acknowledged and is to be delivered: 0 none, 1 external, 2 software. */
export const INTERRUPT: number = EVENTS + 12;
export const INTERRUPT_VECTOR: number = EVENTS + 16;
/** 1 = an NMI waits for the mask to go. */
export const NMI_PENDING: number = EVENTS + 20;
/** 1 = an NMI's delivery was cut short. */
export const NMI_INJECTED: number = EVENTS + 24;
/** 1 from an NMI's delivery to the next IRET. */
export const NMI_MASKED: number = EVENTS + 28;
export const SIPI_VECTOR: number = EVENTS + 32;
/** MP_* below. */
export const MP_STATE: number = EVENTS + 36;
/** DR6 bits of a debug trap to be raised at the next instruction boundary. */
export const DEBUG_TRAP: number = EVENTS + 40;
/** Beside DR6's bits in DEBUG_TRAP: a data point of the debugger outside the guest was touched. */
export const OUTSIDE_TRAP = 0x4000_0000;

/** Values of MP_STATE: KVM_MP_STATE_*. */
export const MP_RUNNABLE = 0;
export const MP_UNINITIALIZED = 1;
export const MP_INIT_RECEIVED = 2;
export const MP_HALTED = 3;
export const MP_SIPI_RECEIVED = 4;
