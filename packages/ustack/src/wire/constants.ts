/** EtherTypes, protocol numbers and lengths, by their field's own names. */

export const ETHERNET_HEADER = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_IPV6 = 0x86dd;

export const IPV4_HEADER = 20;
export const IPV6_HEADER = 40;

export const PROTO_HOPOPTS = 0;
export const PROTO_ICMP = 1;
export const PROTO_IGMP = 2;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;
export const PROTO_ROUTING = 43;
export const PROTO_FRAGMENT = 44;
export const PROTO_ESP = 50;
export const PROTO_AH = 51;
export const PROTO_ICMPV6 = 58;
export const PROTO_NONE = 59;
export const PROTO_DSTOPTS = 60;

/** ECN code points in the low two bits of the traffic class (RFC 3168 section 5). */
export const ECN_MASK = 3;
export const ECN_ECT0 = 2;
export const ECN_CE = 3;

export const UDP_HEADER = 8;
export const ICMP_HEADER = 8;
