/**
 * Lock-free packet channels between threads, a flow classifier, and links to TAP, AF_PACKET, QEMU, WebSocket and pcap.
 *
 * @packageDocumentation
 */
export { formatAddress, type ParsedAddress, parseAddress } from "./channel/address.ts";
export {
	type ChannelHandle,
	type ChannelStats,
	type ChannelType,
	openChannel,
	type Packet,
	type ReceiveOptions,
	RemoteChannel,
} from "./channel/channel.ts";
export { Classifier, type ClassifierOptions, createClassifier, type FlowCounters } from "./channel/classifier.ts";
export {
	type NetchannelControl,
	type NetchannelResult,
	netchannelControl,
	type Unetchannel,
	type Unetdata,
	type Unetmask,
} from "./channel/control.ts";
export { CHANNEL_ERRNO, ChannelError, type ChannelErrorCode } from "./channel/errors.ts";
export type { FlowMatch, FlowPattern } from "./channel/match.ts";
export type { NatTarget } from "./channel/nat.ts";
export {
	Channel,
	type ChannelInfo,
	type ChannelOptions,
	createChannel,
	createNetchannels,
	Netchannels,
	type NetchannelsOptions,
} from "./channel/netchannels.ts";
export { PacketKey, parsePacket } from "./channel/packet.ts";
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
