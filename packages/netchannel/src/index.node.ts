/**
 * The links that need Node.js: sockets, files, and, through the optional koffi, Linux's own network devices.
 *
 * @packageDocumentation
 */

export { type OpenLinkOptions, openLink } from "./link/open.node.ts";
export { openPcapSink, openPcapSource, type PcapSinkOptions } from "./link/pcap-file.node.ts";
export {
	connectQemuStream,
	listenQemuStream,
	type QemuConnectOptions,
	type QemuStreamOptions,
	type StreamAddress,
} from "./link/qemu-stream.node.ts";
export { openUdpLink, type UdpLink, type UdpOptions } from "./link/udp.node.ts";
export {
	connectWebSocket,
	createWebSocketServer,
	type WebSocketOptions,
	type WebSocketServerHandle,
	type WebSocketServerOptions,
} from "./link/websocket.node.ts";
export { listenWebSocket, type WebSocketListenOptions } from "./link/websocket-listen.node.ts";
export {
	openUdpBatch,
	openUnixDatagram,
	type UdpBatchOptions,
	type UnixDatagramOptions,
} from "./native/datagram-link.node.ts";
export { openPacket, type PacketOptions } from "./native/packet.node.ts";
export { openTap, openTun, type TapOptions } from "./native/tap.node.ts";
export { openThreadedLink, type ThreadedLinkOptions } from "./native/threaded.node.ts";
export { createProcessRing, openProcessRing, type ProcessRing } from "./ring/process.node.ts";
