import { removeAddress } from "../ip/removal.ts";
import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import type { UdpLayer, UdpSocket } from "../udp/layer.ts";
import { ANY6, Cidr, type IpAddress } from "../wire/address.ts";
import { put16 } from "../wire/bytes.ts";
import {
	type Association,
	associationOption,
	DHCP6,
	DHCP6_CLIENT_PORT,
	DHCP6_OPTION,
	DHCP6_SERVER_PORT,
	DHCP6_SERVERS,
	DHCP6_STATUS,
	type Dhcp6Message,
	type Dhcp6Option,
	dhcp6Addresses,
	dhcp6Option,
	dhcp6Status,
	duidOf,
	encodeDhcp6,
	parseAssociation,
	parseDhcp6,
} from "../wire/dhcp6.ts";

/** What a server gave. */
export interface Dhcp6Configuration {
	/** Undefined without a stateful configuration. */
	readonly address: IpAddress | undefined;
	readonly dns: readonly IpAddress[];
	/** Seconds; 0 without an address. */
	readonly leaseSeconds: number;
}

/** Options of {@link Dhcp6Client}. */
export interface Dhcp6ClientOptions {
	/** Ask for an address; else for what goes with the ones there are (RFC 8415 6.1). @default true */
	stateful?: boolean;
	/** Take a server's first answer (RFC 8415 5.1's two-message exchange). @default false */
	rapidCommit?: boolean;
	/** Configured, renewed, or (undefined) lost. */
	onChange?: (configuration: Dhcp6Configuration | undefined) => void;
}

type State = "soliciting" | "requesting" | "bound" | "renewing" | "rebinding" | "informing" | "informed";

/** First and longest time between tries, in milliseconds (RFC 8415 7.6). */
const TRIES: Record<Exclude<State, "bound" | "informed">, readonly [number, number]> = {
	soliciting: [1_000, 3_600_000],
	requesting: [1_000, 30_000],
	renewing: [10_000, 600_000],
	rebinding: [10_000, 600_000],
	informing: [1_000, 3_600_000],
};
const REQUEST_TRIES = 10;
/** RFC 8415 7.6 IRT_DEFAULT. */
const REFRESH_MS = 86_400_000;
const FOREVER = 0xffffffff;

/** RFC 8415's client for one interface: an address with its renewals, or only the configuration. */
export class Dhcp6Client {
	private readonly udp: UdpLayer;
	private readonly iface: Interface;
	private readonly options: Dhcp6ClientOptions;
	private readonly socket: UdpSocket;
	private readonly timer: CallbackTimer;
	private readonly duid: Uint8Array;
	private readonly association: number;
	private state: State;
	private transaction = 0;
	private startedAt = 0;
	private wait = 0;
	private tries = 0;
	private server: Uint8Array | undefined;
	private t1 = 0;
	private t2 = 0;
	private expires = 0;
	/** The present configuration. */
	configuration: Dhcp6Configuration | undefined;

	constructor(udp: UdpLayer, iface: Interface, options: Dhcp6ClientOptions = {}) {
		this.udp = udp;
		this.iface = iface;
		this.options = options;
		this.duid = duidOf(iface.mac);
		const { mac } = iface;
		this.association = ((mac[2]! << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!) >>> 0;
		this.socket = udp.open({
			port: DHCP6_CLIENT_PORT,
			address: ANY6,
			ipv6Only: true,
			iface,
			onMessage: (data, from) => this.input(data, from.address),
		});
		this.timer = new CallbackTimer((now) => this.tick(now));
		this.state = options.stateful === false ? "informing" : "soliciting";
		this.begin(this.state);
	}

	private get now(): number {
		return this.udp.stack.now;
	}

	private begin(state: State): void {
		this.state = state;
		this.transaction = this.udp.stack.randomInt() & 0xffffff;
		this.startedAt = this.now;
		this.wait = 0;
		this.tries = 0;
		this.udp.stack.timers.schedule(this.timer, this.now);
		this.udp.stack.onWork?.();
	}

	private tick(now: number): void {
		const { timers } = this.udp.stack;
		if (this.state === "informed") {
			this.begin("informing");
			return;
		}
		if (this.state === "bound") {
			this.begin("renewing");
			return;
		}
		if (this.state === "renewing" && now >= this.t2) {
			this.begin("rebinding");
			return;
		}
		if (this.state === "rebinding" && now >= this.expires) {
			this.lose();
			this.begin("soliciting");
			return;
		}
		if (this.state === "requesting" && this.tries >= REQUEST_TRIES) {
			this.begin("soliciting");
			return;
		}
		const own = this.iface.addresses.find(
			({ address, state }) => address.isLinkLocal && address.family === 6 && state !== "tentative",
		);
		const [first, longest] = TRIES[this.state];
		if (own === undefined) {
			// Duplicate address detection is still at work.
			timers.schedule(this.timer, now + first / 10);
			return;
		}
		this.send(own.address);
		this.tries++;
		// RFC 8415 15: doubled each time, a tenth more or less by chance.
		const chance = (this.udp.stack.randomInt() >>> 0) / 0x100000000 / 5 - 0.1;
		this.wait = this.wait === 0 ? first : Math.min(2 * this.wait, longest);
		let next = now + this.wait * (1 + chance);
		if (this.state === "renewing") next = Math.min(next, this.t2);
		if (this.state === "rebinding") next = Math.min(next, this.expires);
		timers.schedule(this.timer, next);
	}

	private send(from: IpAddress): void {
		const { state } = this;
		const elapsed = new Uint8Array(2);
		put16(elapsed, 0, Math.min(0xffff, Math.floor((this.now - this.startedAt) / 10)));
		const options: Dhcp6Option[] = [
			{ code: DHCP6_OPTION.CLIENT_ID, data: this.duid },
			{ code: DHCP6_OPTION.ELAPSED, data: elapsed },
			{ code: DHCP6_OPTION.REQUEST, data: Uint8Array.of(0, DHCP6_OPTION.DNS, 0, DHCP6_OPTION.DOMAINS) },
		];
		if (this.server !== undefined && (state === "requesting" || state === "renewing"))
			options.push({ code: DHCP6_OPTION.SERVER_ID, data: this.server });
		if (state !== "informing") options.push(this.associationNow());
		if (state === "soliciting" && this.options.rapidCommit === true)
			options.push({ code: DHCP6_OPTION.RAPID_COMMIT, data: new Uint8Array(0) });
		const type = {
			soliciting: DHCP6.SOLICIT,
			requesting: DHCP6.REQUEST,
			renewing: DHCP6.RENEW,
			rebinding: DHCP6.REBIND,
			informing: DHCP6.INFORMATION_REQUEST,
			bound: DHCP6.RENEW,
			informed: DHCP6.INFORMATION_REQUEST,
		}[state];
		this.transmit({ type, transaction: this.transaction, options }, from);
	}

	private transmit(message: Dhcp6Message, from: IpAddress): void {
		this.socket.send(encodeDhcp6(message), DHCP6_SERVERS, DHCP6_SERVER_PORT, from);
	}

	private associationNow(): Dhcp6Option {
		const address = this.configuration?.address;
		const addresses = address === undefined ? [] : [{ address, preferred: 0, valid: 0 }];
		return associationOption({ id: this.association, t1: 0, t2: 0, addresses });
	}

	private input(data: Uint8Array, from: IpAddress): void {
		const message = parseDhcp6(data);
		if (message === undefined || message.transaction !== this.transaction || !from.isLinkLocal) return;
		const client = dhcp6Option(message, DHCP6_OPTION.CLIENT_ID);
		const server = dhcp6Option(message, DHCP6_OPTION.SERVER_ID);
		if (server === undefined || server.length === 0) return;
		if (client === undefined ? this.state !== "informing" : !client.every((byte, i) => byte === this.duid[i])) return;
		const given = this.associationOf(message);
		if (this.state === "soliciting") {
			const rapid = message.type === DHCP6.REPLY && dhcp6Option(message, DHCP6_OPTION.RAPID_COMMIT) !== undefined;
			if ((message.type !== DHCP6.ADVERTISE && !rapid) || given === undefined) return;
			this.server = server;
			if (rapid) this.bind(message, given);
			else this.begin("requesting");
			return;
		}
		if (message.type !== DHCP6.REPLY) return;
		if (this.state === "informing") {
			this.state = "informed";
			this.configuration = { address: undefined, dns: dnsOf(message), leaseSeconds: 0 };
			this.udp.stack.timers.schedule(this.timer, this.now + REFRESH_MS);
			this.options.onChange?.(this.configuration);
			return;
		}
		if (this.state !== "requesting" && this.state !== "renewing" && this.state !== "rebinding") return;
		if (given === undefined) {
			// No binding, or no address any more: from the beginning.
			if (this.state !== "requesting") this.lose();
			this.begin("soliciting");
			return;
		}
		this.server = server;
		this.bind(message, given);
	}

	/** Our association with an address in it. */
	private associationOf(message: Dhcp6Message): Association | undefined {
		if (dhcp6Status(message.options) !== DHCP6_STATUS.SUCCESS) return undefined;
		for (const { code, data } of message.options) {
			const found = code === DHCP6_OPTION.IA_NA ? parseAssociation(data) : undefined;
			if (found?.id !== this.association || found.status !== DHCP6_STATUS.SUCCESS) continue;
			if (found.t1 > found.t2 && found.t2 > 0) continue;
			if (found.addresses.some(({ valid }) => valid > 0)) return found;
		}
		return undefined;
	}

	private bind(message: Dhcp6Message, given: Association): void {
		const { address, valid, preferred } = given.addresses.find((entry) => entry.valid > 0)!;
		const { stack } = this.udp;
		const old = this.configuration?.address;
		if (old !== undefined && !old.equals(address)) this.lose();
		// On the link or not is the router's word (RFC 8415 18.2.10.1): only the address itself is ours.
		stack.addAddress(this.iface, new Cidr(address, 128), "dhcp6");
		const after = (seconds: number) => (seconds === FOREVER ? Number.POSITIVE_INFINITY : this.now + seconds * 1000);
		this.t1 = after(given.t1 === 0 ? preferred / 2 : given.t1);
		this.t2 = after(given.t2 === 0 ? preferred * 0.8 : given.t2);
		this.expires = after(valid);
		this.state = "bound";
		if (this.t1 < Number.POSITIVE_INFINITY) stack.timers.schedule(this.timer, this.t1);
		else stack.timers.cancel(this.timer);
		this.configuration = { address, dns: dnsOf(message), leaseSeconds: valid };
		this.options.onChange?.(this.configuration);
	}

	private lose(): void {
		const address = this.configuration?.address;
		this.configuration = undefined;
		if (address !== undefined) removeAddress(this.udp.stack, this.iface, address);
		this.options.onChange?.(undefined);
	}

	/** Gives the lease back and stops. */
	close(): void {
		this.udp.stack.timers.cancel(this.timer);
		const own = this.iface.addresses.find(({ address }) => address.isLinkLocal && address.family === 6);
		if (this.configuration?.address !== undefined && this.server !== undefined && own !== undefined) {
			const options: Dhcp6Option[] = [
				{ code: DHCP6_OPTION.CLIENT_ID, data: this.duid },
				{ code: DHCP6_OPTION.SERVER_ID, data: this.server },
				{ code: DHCP6_OPTION.ELAPSED, data: new Uint8Array(2) },
				this.associationNow(),
			];
			const transaction = this.udp.stack.randomInt() & 0xffffff;
			this.transmit({ type: DHCP6.RELEASE, transaction, options }, own.address);
			this.lose();
		}
		this.socket.close();
	}
}

function dnsOf(message: Dhcp6Message): IpAddress[] {
	return dhcp6Addresses(dhcp6Option(message, DHCP6_OPTION.DNS));
}
