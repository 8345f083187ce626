/**
 * Lock-free packet channels between threads, a flow classifier, and links to TAP, AF_PACKET, QEMU, WebSocket and pcap.
 *
 * @packageDocumentation
 */
export { LinkBase, type LinkOptions } from "./link/base.ts";
export { LinkError, type LinkErrorCode, type LinkErrorOptions } from "./link/errors.ts";
export type { FrameReceiver, GsoType, Link, LinkFeatures, LinkStats, Offload } from "./link/link.ts";
export { createLinkPair, type LinkPairOptions } from "./link/memory.ts";
export { LINK_SCHEMES, type LinkUrl, parseLinkUrl } from "./link/url.ts";
export { type ConsumerOptions, RingConsumer, type WaitOptions } from "./ring/consumer.ts";
export { RingError, type RingErrorCode } from "./ring/errors.ts";
export { FanIn, openFanIn } from "./ring/fan-in.ts";
export type { RingHandle } from "./ring/layout.ts";
export { type OverflowPolicy, type ProducerOptions, RingProducer, type RingStats } from "./ring/producer.ts";
export { createFanIn, createRing, openConsumer, openProducer, type RingOptions } from "./ring/ring.ts";
