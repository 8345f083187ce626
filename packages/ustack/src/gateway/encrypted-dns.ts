import { type IpAddress, parseAddress } from "../wire/address.ts";

/** Names, and everything below them, that answer DNS over HTTPS to the public. */
const NAMES: ReadonlySet<string> = new Set([
	"dns.google",
	"dns.google.com",
	"cloudflare-dns.com",
	"one.one.one.one",
	"cloudflare-gateway.com",
	"quad9.net",
	"opendns.com",
	"umbrella.com",
	"adguard-dns.com",
	"dns.adguard.com",
	"nextdns.io",
	"cleanbrowsing.org",
	"controld.com",
	"dns0.eu",
	"dns.sb",
	"dns.alidns.com",
	"doh.pub",
	"dns.mullvad.net",
	"doh.mullvad.net",
	"doh.li",
	"libredns.gr",
	"dns4all.eu",
	"dns.digitale-gesellschaft.ch",
	"mask.icloud.com",
	"mask-h2.icloud.com",
	// Firefox's question whether it may use a resolver of its own; it does not when the name is unknown.
	"use-application-dns.net",
]);

const ADDRESSES: ReadonlySet<string> = new Set(
	[
		"1.0.0.1",
		"1.0.0.2",
		"1.0.0.3",
		"1.1.1.1",
		"1.1.1.2",
		"1.1.1.3",
		"8.8.4.4",
		"8.8.8.8",
		"9.9.9.9",
		"9.9.9.10",
		"9.9.9.11",
		"149.112.112.112",
		"94.140.14.14",
		"94.140.15.15",
		"208.67.220.220",
		"208.67.222.222",
		"45.90.28.0",
		"45.90.30.0",
		"76.76.2.0",
		"76.76.10.0",
		"223.5.5.5",
		"223.6.6.6",
		"2606:4700:4700::1001",
		"2606:4700:4700::1111",
		"2001:4860:4860::8844",
		"2001:4860:4860::8888",
		"2620:fe::9",
		"2620:fe::fe",
	].map((text) => parseAddress(text)!.toString()),
);

/** Whether a name is a public DNS-over-HTTPS server's, as far as they are well known. */
export function isEncryptedResolver(name: string): boolean {
	for (let rest = name; rest !== ""; rest = rest.includes(".") ? rest.slice(rest.indexOf(".") + 1) : "")
		if (NAMES.has(rest)) return true;
	return false;
}

/** The same for an address. */
export function isEncryptedResolverAddress(address: IpAddress): boolean {
	return ADDRESSES.has(address.toString());
}
