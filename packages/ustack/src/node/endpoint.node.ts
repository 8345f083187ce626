import type { IpAddress } from "../wire/address.ts";

/** One end of a connection as node names it. */
export interface Endpoint {
	address: string;
	family: "IPv4" | "IPv6";
	port: number;
}

/** Node's name for an end; `mapped` for sockets of IPv6, which see IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
export function endpointOf(address: IpAddress, port: number, mapped: boolean): Endpoint {
	if (address.family === 6) return { address: address.toString(), family: "IPv6", port };
	if (mapped) return { address: `::ffff:${address}`, family: "IPv6", port };
	return { address: address.toString(), family: "IPv4", port };
}
