/**
 * A complete TCP/IP stack in user space with node:net's face, and a gateway for guests.
 *
 * @packageDocumentation
 */

export { DhcpClient, type DhcpClientOptions, type DhcpConfiguration } from "./dhcp/client.ts";
export { Dhcp6Client, type Dhcp6ClientOptions, type Dhcp6Configuration } from "./dhcp/client6.ts";
export { DnsClient, type DnsClientOptions } from "./dns/client.ts";
export { StackError, type StackErrorCode } from "./errors.ts";
export {
	type CoreOptions,
	type ProtocolHandler,
	StackCore,
	type StackEvent,
	type StackModules,
	type StackStats,
} from "./ip/core.ts";
export { Ethernet } from "./ip/ethernet.ts";
export { Forwarder } from "./ip/forward.ts";
export { Fragments } from "./ip/fragments.ts";
export { GroupReporter } from "./ip/groups.ts";
export type { IcmpErrorKind } from "./ip/icmp.ts";
export { type EchoReply, type EchoUser, IcmpLayer } from "./ip/icmp-errors.ts";
export { Ipv6 } from "./ip/ipv6.ts";
export type { Packet } from "./ip/packet.ts";
export type { Route } from "./ip/route.ts";
export { Stack } from "./ip/stack.ts";
export type { Interface, InterfaceAddress, InterfaceOptions, InterfaceStats } from "./link/interface.ts";
export { openPacketSocket, type PacketFrame, PacketSocket, type PacketSocketOptions } from "./raw/packet-socket.ts";
export { RawLayer, type RawMessage, type RawOptions, RawSocket } from "./raw/socket.ts";
export {
	type RestoreHostOptions,
	type RestoreOptions,
	restoreHost,
	restoreStack,
	type SavedStack,
	type StackParts,
	saveStack,
} from "./save/stack.ts";
export { type Clock, Driver, hostClock } from "./socket/driver.ts";
export { type AttachOptions, createHost, Host, type HostOptions, type Lookup, literalLookup } from "./socket/host.ts";
export { type CongestionName, DEFAULT_TCP_CONFIG, type TcpConfig } from "./tcp/config.ts";
export { TcpConnection, type TcpHandlers } from "./tcp/connection.ts";
export { TcpCore } from "./tcp/core.ts";
export { FastOpen } from "./tcp/fastopen.ts";
export { type TcpInfo, tcpInfo } from "./tcp/info.ts";
export { KEEP_ALIVE, type KeepAlive } from "./tcp/keepalive.ts";
export { cubicOf, TcpLayer } from "./tcp/layer.ts";
export { LIMIT_METER, type LimitMeter } from "./tcp/limits.ts";
export { Listener, type ListenOptions } from "./tcp/listener.ts";
export type { LossRecovery } from "./tcp/loss.ts";
export type { TcpModules } from "./tcp/modules.ts";
export type { ConnectOptions } from "./tcp/opening.ts";
export { PATH_PROBE, type PathProbe } from "./tcp/probe.ts";
export { LINUX_PUSH, type PushMarks } from "./tcp/push.ts";
export { SACK_RECOVERY } from "./tcp/recovery.ts";
export type { TcpState } from "./tcp/state.ts";
export { SynCookies } from "./tcp/syncookie.ts";
export { AUTOTUNING, type BufferTuning } from "./tcp/tune.ts";
export { UdpLayer, type UdpOptions, UdpSocket, type UdpSource } from "./udp/layer.ts";
export { connectStreams, type StreamSocket, streamsOf } from "./web/streams.ts";
export {
	type AddressLike,
	Cidr,
	IpAddress,
	type IpFamily,
	parseAddress,
	parseCidr,
	toAddress,
	toCidr,
} from "./wire/address.ts";
export { formatMac, parseMac } from "./wire/mac.ts";
