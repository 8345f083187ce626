import type { Interface } from "../link/interface.ts";
import { ANY4, ANY6, IpAddress, ipv4FromNumber } from "../wire/address.ts";
import { get16, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_HOPOPTS, PROTO_ICMPV6, PROTO_IGMP } from "../wire/constants.ts";
import type { StackCore } from "./core.ts";
import type { Packet } from "./packet.ts";
import { CallbackTimer } from "./timers.ts";
import { TX_L4 } from "./tx.ts";

const MLD_QUERY = 130;
const MLD2_REPORT = 143;
const IGMP_QUERY = 0x11;
const IGMP3_REPORT = 0x22;
const MODE_IS_EXCLUDE = 2;
const CHANGE_TO_INCLUDE = 3;
const CHANGE_TO_EXCLUDE = 4;
const MLD2_ROUTERS = /* @__PURE__ */ new IpAddress(0xff020000, 0, 0, 0x16);
const IGMP3_ROUTERS = /* @__PURE__ */ ipv4FromNumber(0xe0000016);
/** RFC 3376 8.11 and RFC 3810 9.11: state changes are said twice, about a second apart. */
const ROBUSTNESS = 2;
const REPEAT_MS = 1_000;

/** Tells routers and switches which groups are wanted: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), any-source. */
export class GroupReporter {
	private readonly stack: StackCore;

	constructor(stack: StackCore) {
		this.stack = stack;
		stack.protocols[PROTO_IGMP] = { input: (packet) => this.igmpIn(packet) };
		stack.icmp.v6Types.set(MLD_QUERY, (packet) => this.mldIn(packet));
	}

	changed(iface: Interface, group: IpAddress, joined: boolean): void {
		// All-nodes is never reported, nor is interface scope (RFC 3810 section 6).
		if (
			group.family === 6 &&
			(((group.a >>> 16) & 15) < 2 || (group.a === 0xff020000 - 0x100000000 && group.d === 1 && group.c === 0))
		)
			return;
		let left = ROBUSTNESS;
		const timer = new CallbackTimer((now) => {
			if (iface.groups.has(group.toString()) !== joined) return;
			this.report(iface, group.family, [group], joined ? CHANGE_TO_EXCLUDE : CHANGE_TO_INCLUDE);
			if (--left > 0) this.stack.timers.schedule(timer, now + REPEAT_MS);
		});
		this.stack.timers.schedule(timer, this.stack.now);
	}

	private answer(packet: Packet, family: 4 | 6, group: IpAddress, delayMs: number): void {
		const { iface } = packet;
		const groups = [...iface.groups.values()]
			.map((entry) => entry.group)
			.filter((entry) => entry.family === family && (group.isUnspecified || entry.equals(group)));
		if (groups.length === 0) return;
		const random = ((this.stack.randomInt() >>> 0) / 0x100000000) * delayMs;
		const timer = new CallbackTimer(() => this.report(iface, family, groups, MODE_IS_EXCLUDE));
		this.stack.timers.schedule(timer, packet.now + random);
	}

	private igmpIn(packet: Packet): void {
		const { bytes, l4, end } = packet;
		if (end - l4 < 8 || sumBytes(bytes, l4, end - l4) !== 0xffff || packet.hopLimit !== 1) {
			this.stack.drop(packet, "igmp-malformed");
			return;
		}
		if (bytes[l4] !== IGMP_QUERY) return;
		const group = ipv4FromNumber(
			(bytes[l4 + 4]! << 24) | (bytes[l4 + 5]! << 16) | (bytes[l4 + 6]! << 8) | bytes[l4 + 7]!,
		);
		this.answer(packet, 4, group, expand(bytes[l4 + 1]!, 3, 4) * 100);
	}

	private mldIn(packet: Packet): void {
		const { bytes, l4, end } = packet;
		if (end - l4 < 24 || packet.hopLimit !== 1 || !packet.source().isLinkLocal) {
			this.stack.drop(packet, "mld-malformed");
			return;
		}
		const word = (at: number) => (get16(bytes, at) << 16) | get16(bytes, at + 2);
		const group = new IpAddress(word(l4 + 8), word(l4 + 12), word(l4 + 16), word(l4 + 20));
		const code = get16(bytes, l4 + 4);
		this.answer(packet, 6, group, code < 0x8000 ? code : ((code & 0xfff) | 0x1000) << (((code >>> 12) & 7) + 3));
	}

	private report(iface: Interface, family: 4 | 6, groups: readonly IpAddress[], type: number): void {
		const { tx } = this.stack;
		const v6 = family === 6;
		const path = this.stack.path(
			v6 ? MLD2_ROUTERS : IGMP3_ROUTERS,
			iface.selectSource(v6 ? MLD2_ROUTERS : IGMP3_ROUTERS) ?? (v6 ? ANY6 : ANY4),
			iface,
		);
		if (path === undefined) return;
		const record = v6 ? 20 : 8;
		const room = Math.floor((path.mtu - 64) / record);
		const count = Math.min(groups.length, room);
		const body = v6 ? TX_L4 + 8 : TX_L4;
		tx.fill(0, body, body + 8 + record * count);
		tx[body] = v6 ? MLD2_REPORT : IGMP3_REPORT;
		put16(tx, body + 6, count);
		for (let i = 0; i < count; i++) {
			tx[body + 8 + i * record] = type;
			groups[i]!.write(tx, body + 12 + i * record);
		}
		const length = 8 + count * record;
		const sum = sumBytes(tx, body, length) + (v6 ? path.addressSum + PROTO_ICMPV6 + length : 0);
		put16(tx, body + 2, ~foldSum(sum));
		if (v6) {
			// Hop-by-hop header with Router Alert for MLD (RFC 2711), padded.
			put32(tx, TX_L4, (PROTO_ICMPV6 << 24) | 0x0502);
			put32(tx, TX_L4 + 4, 0x00000100);
			this.stack.transmitter.transmit(path, PROTO_HOPOPTS, 8 + length, 1, 0, false, -1, 0);
			return;
		}
		// An IPv4 header with the Router Alert option (RFC 2113), which nothing else here sends.
		const at = TX_L4 - 24;
		put32(tx, at, 0x46c00000 | (24 + length));
		put32(tx, at + 4, 0x00004000);
		put32(tx, at + 8, (1 << 24) | (PROTO_IGMP << 16));
		path.source.write(tx, at + 12);
		path.destination.write(tx, at + 16);
		put32(tx, at + 20, 0x94040000 | 0);
		put16(tx, at + 10, ~foldSum(sumBytes(tx, at, 24)));
		this.stack.transmitter.sendIp(path, at, TX_L4 + length, undefined);
	}
}

/** The floating-point codes of RFC 3376 4.1.1. */
function expand(code: number, exponentBits: number, mantissaBits: number): number {
	if (code < 0x80) return code;
	const exponent = (code >>> mantissaBits) & ((1 << exponentBits) - 1);
	return ((code & ((1 << mantissaBits) - 1)) | (1 << mantissaBits)) << (exponent + 3);
}
