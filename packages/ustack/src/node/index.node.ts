/**
 * The stack under Node's own names: `net` and `dgram` look-alikes, and the host's network as a gateway's outside.
 *
 * @packageDocumentation
 */
export { type AuthorityKeys, type AuthorityOptions, CertificateAuthority } from "../gateway/http/authority.node.ts";
export type {
	BodyInit,
	BodyStream,
	HeaderList,
	HttpAnswer,
	HttpBlock,
	HttpForward,
	HttpHooks,
	HttpRequestInfo,
	HttpRespond,
	HttpResponseInfo,
} from "../gateway/http/hooks.ts";
export {
	createHttpInterceptor,
	HttpInterceptor,
	type HttpInterceptorOptions,
} from "../gateway/http/interceptor.node.ts";
export type { Secret, SecretPart } from "../gateway/http/secrets.ts";
export { createNodeOutbound, type NodeOutboundOptions } from "../gateway/outbound.node.ts";
export { createDgram, type DgramModule, type DgramOptions, DgramSocket, type RemoteInfo } from "./dgram.node.ts";
export type { Endpoint } from "./endpoint.node.ts";
export { createNet, type NetModule } from "./net.node.ts";
export { NetServer, type NetServerOptions } from "./server.node.ts";
export { type NetConnectOptions, NetSocket, type OnRead } from "./socket.node.ts";
