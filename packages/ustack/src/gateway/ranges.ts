import { type Cidr, type IpAddress, ipv4FromNumber, parseCidr } from "../wire/address.ts";

/**
 * Closed unless a rule names the network (IANA's special-purpose registries, RFC 6890): this host, private, shared
 * (CGNAT), loopback, link-local with the clouds' metadata address, benchmarking, multicast and reserved IPv4; and of IPv6
 * unspecified, loopback and IPv4-compatible, translated, discard-only, Teredo, ORCHID, documentation, segment routing,
 * unique local, link-local, site-local and multicast.
 */
const CLOSED: readonly Cidr[] = [
	"0.0.0.0/8",
	"10.0.0.0/8",
	"100.64.0.0/10",
	"127.0.0.0/8",
	"169.254.0.0/16",
	"172.16.0.0/12",
	"192.0.0.0/24",
	"192.88.99.0/24",
	"192.168.0.0/16",
	"198.18.0.0/15",
	"224.0.0.0/4",
	"240.0.0.0/4",
	"::/96",
	"::ffff:0:0:0/96",
	"64:ff9b:1::/48",
	"100::/64",
	"2001::/23",
	"2001:db8::/32",
	"3fff::/20",
	"5f00::/16",
	"fc00::/7",
	"fe80::/10",
	"fec0::/10",
	"ff00::/8",
].map((text) => parseCidr(text)!);

const CLOSED4 = CLOSED.filter((network) => network.family === 4);

/** Whether an address is in a range that is closed by default. IPv4 inside IPv6 is judged as what it means. */
export function isClosed(address: IpAddress): boolean {
	if (CLOSED.some((network) => network.contains(address))) return true;
	if (address.family === 4) return false;
	// NAT64's well-known prefix (RFC 6052), 6to4 (RFC 3056), ISATAP's interface identifiers (RFC 5214).
	if (address.a === 0x0064ff9b && address.b === 0 && address.c === 0) return isClosedWord(address.d);
	if (address.a >>> 16 === 0x2002) return isClosedWord(((address.a & 0xffff) << 16) | (address.b >>> 16));
	return (address.c & ~0x02000000) === 0x00005efe && isClosedWord(address.d);
}

function isClosedWord(word: number): boolean {
	return CLOSED4.some((network) => network.contains(ipv4FromNumber(word)));
}
