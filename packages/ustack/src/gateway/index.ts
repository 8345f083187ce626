/**
 * What serves others over a stack: the gateway for guests with its egress policy, DHCP and DNS servers, router
 * advertisements, and multicast DNS.
 *
 * @packageDocumentation
 */

export { type Dhcp6Lease, Dhcp6Server, type Dhcp6ServerOptions } from "../dhcp/server6.ts";
export { type ZoneAnswer, type ZoneRecord, Zones } from "../dns/zone.ts";
export { Mdns, type MdnsOptions, type MdnsService } from "../mdns/mdns.ts";
export { type DhcpLease, DhcpServer, type DhcpServerOptions } from "./dhcp-server.ts";
export { DnsForwarder, type DnsForwarderOptions } from "./dns-forwarder.ts";
export type { FirstBytes } from "./first-bytes.ts";
export { createGateway, Gateway } from "./gateway.ts";
export type { InterceptedConnection, Interceptor } from "./interceptor.ts";
export type { GatewayLimits } from "./limits.ts";
export type {
	AuditEvent,
	EgressRequest,
	ExposeOptions,
	Forward,
	GatewayCallbacks,
	GatewayConfig,
	GatewayOptions,
	GuestLease,
	PublishOptions,
} from "./options.ts";
export type { Outbound, OutboundDatagrams, OutboundListener, OutboundStream } from "./outbound.ts";
export { type EgressFlow, EgressPolicy, type PolicyOptions, type Verdict } from "./policy.ts";
export { RouterAdvertiser, type RouterAdvertiserOptions } from "./ra-server.ts";
export {
	type PolicyProtocol,
	type PolicyRule,
	type PolicyRuleInit,
	type PolicyRuleLike,
	parseRule,
} from "./rule.ts";
