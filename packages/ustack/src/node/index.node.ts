/**
 * The stack under Node's own names: `net` and `dgram` look-alikes.
 *
 * @packageDocumentation
 */
export { createDgram, type DgramModule, type DgramOptions, DgramSocket, type RemoteInfo } from "./dgram.node.ts";
export {
	createNet,
	type NetConnectOptions,
	type NetModule,
	NetServer,
	type NetServerOptions,
	NetSocket,
} from "./net.node.ts";
