/**
 * Lock-free packet channels between threads, a flow classifier, and links to TAP, AF_PACKET, QEMU, WebSocket and pcap.
 *
 * @packageDocumentation
 */
export { LinkError, type LinkErrorCode } from "./link/errors.ts";
export type { FrameReceiver, GsoType, Link, LinkFeatures, Offload } from "./link/link.ts";
export { createLinkPair, type LinkPairOptions } from "./link/memory.ts";
