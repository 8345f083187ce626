/** Bytes of the FXSAVE area, and of the XSAVE area with its header. */
export const LEGACY_BYTES = 512;
export const XSAVE_BYTES = 584;
/** Where PKRU stands in it, in the compacted form too: nothing comes before it. */
export const AT_PKRU = 576;
/** State components: bits of XCR0 and XSTATE_BV. */
export const COMPONENT_X87 = 1;
export const COMPONENT_SSE = 2;
export const COMPONENT_PKRU = 0x200;
/** All that XCR0 can enable. */
export const COMPONENTS: number = COMPONENT_X87 | COMPONENT_SSE | COMPONENT_PKRU;
