/**
 * The links that need Node.js: sockets, files, and, through the optional koffi, Linux's own network devices.
 *
 * @packageDocumentation
 */

export { type OpenLinkOptions, openLink } from "./link/open.node.ts";
export {
	connectQemuStream,
	listenQemuStream,
	type QemuConnectOptions,
	type QemuStreamOptions,
	type StreamAddress,
} from "./link/qemu-stream.node.ts";
