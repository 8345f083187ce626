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
export { compileFilter, type FilterOptions } from "./filter/compile.ts";
export { FilterError } from "./filter/errors.ts";
export { type FilterInstruction, type FilterProgram, runFilter } from "./filter/program.ts";
export { LinkBase, type LinkOptions } from "./link/base.ts";
export { createBroadcastLink } from "./link/broadcast-channel.ts";
export { LinkError, type LinkErrorCode, type LinkErrorOptions } from "./link/errors.ts";
export type { FrameReceiver, GsoType, Link, LinkFeatures, LinkStats, Offload } from "./link/link.ts";
export { createLinkPair, type LinkPairOptions } from "./link/memory.ts";
export { createMessagePortLink, type MessagePortLinkOptions, type PortLike } from "./link/message-port.ts";
export { finishChecksum } from "./link/offload.ts";
export { LINK_SCHEMES, type LinkUrl, parseLinkUrl } from "./link/url.ts";
export { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from "./link/vnet-header.ts";
export { createWebSocketLink, type WebSocketLinkOptions } from "./link/websocket.ts";
export { Capture, type CaptureOptions, createCapture, type TeeOptions } from "./middleware/capture.ts";
export { type CountedLink, countFrames, type DirectionCounters } from "./middleware/counters.ts";
export { type FilteredLink, filterFrames } from "./middleware/filter.ts";
export {
	type Impairment,
	type ShapedLink,
	type ShaperClock,
	type ShaperCounters,
	type ShaperOptions,
	shapeFrames,
} from "./middleware/shape.ts";
export {
	BLOCK,
	BlockReader,
	type CaptureBlock,
	type CaptureOption,
	encodeBlock,
	encodeOptions,
	readOptions,
} from "./pcap/blocks.ts";
export { CaptureError, type CaptureErrorCode } from "./pcap/errors.ts";
export { createPcapHeader, encodePcapHeader, encodePcapPacket, type PcapHeader, PcapReader } from "./pcap/pcap.ts";
export {
	type CaptureInterface,
	type CaptureInterfaceOptions,
	type CaptureStatistics,
	PcapngReader,
	PcapngWriter,
} from "./pcap/pcapng.ts";
export { CaptureReader } from "./pcap/reader.ts";
export { type CapturedPacket, LINKTYPE_ETHERNET, LINKTYPE_RAW_IP } from "./pcap/types.ts";
export { type ConsumerOptions, RingConsumer } from "./ring/consumer.ts";
export { RingError, type RingErrorCode } from "./ring/errors.ts";
export { FanIn, openFanIn } from "./ring/fan-in.ts";
export type { RingHandle } from "./ring/layout.ts";
export { type OverflowPolicy, type ProducerOptions, RingProducer } from "./ring/producer.ts";
export { createFanIn, createRing, openConsumer, openProducer, type RingOptions } from "./ring/ring.ts";
export type { WaitOptions } from "./ring/sleep.ts";
export type { RingStats } from "./ring/stats.ts";
export type { PortStats } from "./switch/forward.ts";
export { segmentFrame } from "./switch/segment.ts";
export {
	createHub,
	createSwitch,
	type LearningSwitch,
	type LinkSwitch,
	type SwitchOptions,
	type SwitchPort,
} from "./switch/switch.ts";
