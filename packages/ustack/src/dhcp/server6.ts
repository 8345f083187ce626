import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import type { UdpLayer, UdpSocket } from "../udp/layer.ts";
import { ANY6, Cidr, IpAddress } from "../wire/address.ts";
import { get32 } from "../wire/bytes.ts";
import {
	type Association,
	addressList,
	associationOption,
	DHCP6,
	DHCP6_CLIENT_PORT,
	DHCP6_OPTION,
	DHCP6_SERVER_PORT,
	DHCP6_SERVERS,
	DHCP6_STATUS,
	type Dhcp6Message,
	type Dhcp6Option,
	dhcp6Option,
	domainList,
	duidOf,
	encodeDhcp6,
	parseAssociation,
	parseDhcp6,
	statusOption,
} from "../wire/dhcp6.ts";

/** Options of {@link Dhcp6Server}. */
export interface Dhcp6ServerOptions {
	/** Addresses are leased out of it; its last 64 bits are chosen from 0x1_0000 up. */
	prefix: Cidr;
	dns?: readonly IpAddress[];
	/** Search list. */
	domains?: readonly string[];
	/** Seconds. @default 86_400 */
	leaseSeconds?: number;
	/** A lease was given or taken back. */
	onLease?: (lease: Dhcp6Lease, active: boolean) => void;
}

/** Who has an address. */
export interface Dhcp6Lease {
	/** The client's DUID in hexadecimal. */
	readonly client: string;
	/** Its number for the association. */
	readonly association: number;
	readonly address: IpAddress;
	/** Stack time of its end. */
	until: number;
}

const MAX_LEASES = 4_096;
const DECLINED = "declined";
const DECLINED_MS = 600_000;
const FIRST = 0x1_0000;
const COUNT = 0xff_0000;
const LONGEST_DUID = 130;

/** RFC 8415's server for one interface, without relays: addresses, and configuration for those who have one. */
export class Dhcp6Server {
	private readonly udp: UdpLayer;
	private readonly options: Dhcp6ServerOptions;
	private readonly socket: UdpSocket;
	private readonly duid: Uint8Array;
	private readonly byOwner = new Map<string, Dhcp6Lease>();
	private readonly byAddress = new Map<string, Dhcp6Lease>();
	private readonly sweeper: CallbackTimer;

	constructor(udp: UdpLayer, iface: Interface, options: Dhcp6ServerOptions) {
		this.udp = udp;
		this.options = options;
		this.duid = duidOf(iface.mac);
		this.socket = udp.open({
			port: DHCP6_SERVER_PORT,
			address: ANY6,
			ipv6Only: true,
			iface,
			onMessage: (data, from) => this.input(data, from.address, from.packet.groupcast),
		});
		this.socket.joinGroup(DHCP6_SERVERS, iface);
		this.sweeper = new CallbackTimer((now) => this.sweep(now));
	}

	leases(): Dhcp6Lease[] {
		return [...this.byOwner.values()].filter(({ client }) => client !== DECLINED);
	}

	close(): void {
		this.udp.stack.timers.cancel(this.sweeper);
		this.socket.close();
	}

	private sweep(now: number): void {
		for (const [key, lease] of this.byOwner) if (lease.until <= now) this.drop(key);
		let next = Number.POSITIVE_INFINITY;
		for (const lease of this.byOwner.values()) next = Math.min(next, lease.until);
		if (next < Number.POSITIVE_INFINITY) this.udp.stack.timers.schedule(this.sweeper, next);
	}

	private drop(key: string): void {
		const lease = this.byOwner.get(key);
		if (lease === undefined) return;
		this.byOwner.delete(key);
		this.byAddress.delete(lease.address.toString());
		if (lease.client !== DECLINED) this.options.onLease?.(lease, false);
	}

	private get seconds(): number {
		return this.options.leaseSeconds ?? 86_400;
	}

	private input(data: Uint8Array, from: IpAddress, groupcast: boolean): void {
		const message = parseDhcp6(data);
		if (message === undefined || !from.isLinkLocal) return;
		const client = dhcp6Option(message, DHCP6_OPTION.CLIENT_ID);
		const server = dhcp6Option(message, DHCP6_OPTION.SERVER_ID);
		if (client !== undefined && (client.length === 0 || client.length > LONGEST_DUID)) return;
		// RFC 8415 16: who must name a server, and who must not; and unicast was not allowed by us.
		const named =
			message.type === DHCP6.REQUEST ||
			message.type === DHCP6.RENEW ||
			message.type === DHCP6.RELEASE ||
			message.type === DHCP6.DECLINE;
		if (server === undefined ? named : !named && message.type !== DHCP6.INFORMATION_REQUEST) return;
		if (server !== undefined && !same(server, this.duid)) return;
		if (!groupcast || (client === undefined && message.type !== DHCP6.INFORMATION_REQUEST)) return;
		const options = this.answer(message, client === undefined ? "" : hex(client));
		if (options === undefined) return;
		const rapid = message.type === DHCP6.SOLICIT && dhcp6Option(message, DHCP6_OPTION.RAPID_COMMIT) !== undefined;
		const head: Dhcp6Option[] = [{ code: DHCP6_OPTION.SERVER_ID, data: this.duid }];
		if (client !== undefined) head.unshift({ code: DHCP6_OPTION.CLIENT_ID, data: client });
		if (rapid) head.push({ code: DHCP6_OPTION.RAPID_COMMIT, data: new Uint8Array(0) });
		const type = message.type === DHCP6.SOLICIT && !rapid ? DHCP6.ADVERTISE : DHCP6.REPLY;
		const bytes = encodeDhcp6({ type, transaction: message.transaction, options: [...head, ...options] });
		this.socket.send(bytes, from, DHCP6_CLIENT_PORT);
	}

	/** What a message is answered with; undefined for nothing. */
	private answer(message: Dhcp6Message, client: string): Dhcp6Option[] | undefined {
		const associations = message.options
			.filter(({ code }) => code === DHCP6_OPTION.IA_NA)
			.map(({ data }) => parseAssociation(data));
		if (associations.includes(undefined)) return undefined;
		const list = associations as Association[];
		switch (message.type) {
			case DHCP6.SOLICIT:
			case DHCP6.REQUEST: {
				const commit = message.type === DHCP6.REQUEST || dhcp6Option(message, DHCP6_OPTION.RAPID_COMMIT) !== undefined;
				return [...list.map((asked) => this.assign(client, asked, commit)), ...this.refused(message), ...this.rest()];
			}
			case DHCP6.RENEW:
			case DHCP6.REBIND:
				return [...list.map((asked) => this.extend(client, asked)), ...this.refused(message), ...this.rest()];
			case DHCP6.CONFIRM: {
				const addresses = list.flatMap((asked) => asked.addresses);
				if (addresses.length === 0) return undefined;
				const fine = addresses.every(({ address }) => this.options.prefix.contains(address));
				return [
					fine ? statusOption(DHCP6_STATUS.SUCCESS, "") : statusOption(DHCP6_STATUS.NOT_ON_LINK, "not on this link"),
				];
			}
			case DHCP6.RELEASE:
			case DHCP6.DECLINE:
				for (const asked of list) this.giveBack(client, asked, message.type === DHCP6.DECLINE);
				return [statusOption(DHCP6_STATUS.SUCCESS, "")];
			case DHCP6.INFORMATION_REQUEST:
				return this.rest();
			default:
				return undefined;
		}
	}

	private rest(): Dhcp6Option[] {
		const { dns = [], domains = [] } = this.options;
		const options: Dhcp6Option[] = [];
		if (dns.length > 0) options.push({ code: DHCP6_OPTION.DNS, data: addressList(dns) });
		if (domains.length > 0) options.push({ code: DHCP6_OPTION.DOMAINS, data: domainList(domains) });
		return options;
	}

	/** Temporary addresses and prefixes are not to be had here. */
	private refused(message: Dhcp6Message): Dhcp6Option[] {
		return message.options.flatMap(({ code, data }) => {
			if (code !== DHCP6_OPTION.IA_TA && code !== DHCP6_OPTION.IA_PD) return [];
			if (data.length < 4) return [];
			const prefix = code === DHCP6_OPTION.IA_PD;
			const status = statusOption(prefix ? DHCP6_STATUS.NO_PREFIX : DHCP6_STATUS.NO_ADDRESSES, "none here");
			const whole = associationOption({ id: get32(data, 0), t1: 0, t2: 0, addresses: [] }, status).data;
			return [{ code, data: prefix ? whole : Uint8Array.from([...whole.subarray(0, 4), ...whole.subarray(12)]) }];
		});
	}

	private given(asked: Association, lease: Dhcp6Lease): Dhcp6Option {
		const { seconds } = this;
		const preferred = Math.floor(seconds * 0.75);
		return associationOption({
			id: asked.id,
			t1: Math.floor(seconds / 2),
			t2: Math.floor(seconds * 0.7),
			addresses: [{ address: lease.address, preferred, valid: seconds }],
		});
	}

	private assign(client: string, asked: Association, commit: boolean): Dhcp6Option {
		const key = `${client},${asked.id}`;
		const { stack } = this.udp;
		let lease = this.byOwner.get(key);
		if (lease === undefined) {
			const address = this.choose(key, asked.addresses[0]?.address);
			if (address === undefined || this.byOwner.size >= MAX_LEASES) {
				const status = statusOption(DHCP6_STATUS.NO_ADDRESSES, "no address is free");
				return associationOption({ id: asked.id, t1: 0, t2: 0, addresses: [] }, status);
			}
			lease = { client, association: asked.id, address, until: 0 };
		}
		if (commit) {
			const fresh = lease.until === 0;
			lease.until = stack.now + this.seconds * 1000;
			this.byOwner.set(key, lease);
			this.byAddress.set(lease.address.toString(), lease);
			this.sweep(stack.now);
			if (fresh) this.options.onLease?.(lease, true);
		}
		return this.given(asked, lease);
	}

	private extend(client: string, asked: Association): Dhcp6Option {
		const lease = this.byOwner.get(`${client},${asked.id}`);
		if (lease === undefined)
			return associationOption(
				{ id: asked.id, t1: 0, t2: 0, addresses: [] },
				statusOption(DHCP6_STATUS.NO_BINDING, "no such association"),
			);
		lease.until = this.udp.stack.now + this.seconds * 1000;
		return this.given(asked, lease);
	}

	private giveBack(client: string, asked: Association, declined: boolean): void {
		const key = `${client},${asked.id}`;
		const lease = this.byOwner.get(key);
		if (lease === undefined || !asked.addresses.some(({ address }) => address.equals(lease.address))) return;
		this.drop(key);
		if (!declined) return;
		// Somebody else has it: not for a while.
		const taken = { ...lease, client: DECLINED, until: this.udp.stack.now + DECLINED_MS };
		this.byOwner.set(`${DECLINED},${lease.address}`, taken);
		this.byAddress.set(lease.address.toString(), taken);
		this.sweep(this.udp.stack.now);
	}

	/** The one asked for where it is free, else one that follows from the client, so that it stays the same. */
	private choose(key: string, wanted: IpAddress | undefined): IpAddress | undefined {
		const { network } = new Cidr(this.options.prefix.address, 64);
		const free = (address: IpAddress) => !this.byAddress.has(address.toString());
		const inRange =
			wanted !== undefined &&
			wanted.a === network.a &&
			wanted.b === network.b &&
			wanted.c === 0 &&
			wanted.d >>> 0 >= FIRST &&
			wanted.d >>> 0 < FIRST + COUNT;
		if (inRange && free(wanted)) return wanted;
		let hash = 0;
		for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) >>> 0;
		for (let i = 0; i <= MAX_LEASES; i++) {
			const address = new IpAddress(network.a, network.b, 0, FIRST + ((hash + i) % COUNT));
			if (free(address)) return address;
		}
		return undefined;
	}
}

function hex(bytes: Uint8Array): string {
	let text = "";
	for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
	return text;
}

function same(x: Uint8Array, y: Uint8Array): boolean {
	return x.length === y.length && x.every((byte, i) => byte === y[i]);
}
