/**
 * The stack under Node's own names: `net` and `dgram` look-alikes, and the host's network as a gateway's outside.
 *
 * @packageDocumentation
 */
export { createNodeOutbound, type NodeOutboundOptions } from "../gateway/outbound.node.ts";
export { createDgram, type DgramModule, type DgramOptions, DgramSocket, type RemoteInfo } from "./dgram.node.ts";
export {
	createNet,
	type NetConnectOptions,
	type NetModule,
	NetServer,
	type NetServerOptions,
	NetSocket,
} from "./net.node.ts";
