/** Where transports write their header in the stack's `tx`: behind room for Ethernet and IPv6, 4-byte aligned. */
export const TX_L4 = 56;
/** The buffer's length: the largest IP payload and some slack. */
export const TX_BYTES: number = TX_L4 + 65_535 + 64;
