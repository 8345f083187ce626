import { StackError } from "../errors.ts";
import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import type { Host } from "../socket/host.ts";
import type { UdpSocket, UdpSource } from "../udp/layer.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import {
	addressRecord,
	DNS_TYPE,
	type DnsMessage,
	type DnsRecord,
	dnsQuery,
	encodeDns,
	encodeName,
	parseDns,
	recordAddress,
} from "../wire/dns.ts";

/** A service to announce (RFC 6763). */
export interface MdnsService {
	/** What people see: `Printer on the third floor`. */
	readonly instance: string;
	/** `_http._tcp`. */
	readonly type: string;
	readonly port: number;
	/** `key=value` strings. */
	readonly text?: readonly string[];
}

/** Options of {@link Mdns}. */
export interface MdnsOptions {
	/** Answer for `HOSTNAME.local`; without it only questions are asked. */
	readonly hostName?: string;
	readonly services?: readonly MdnsService[];
	/** Somebody else has the name: it is `HOSTNAME-2` and so on from here (RFC 6762 9). */
	readonly onRename?: (hostName: string) => void;
}

const GROUP4 = parseAddress("224.0.0.251")!;
const GROUP6 = parseAddress("ff02::fb")!;
const PORT = 5353;
const HOPS = 255;
/** RFC 6762 10: records with a host name in them live two minutes, others 75. */
const HOST_TTL = 120;
const OTHER_TTL = 4_500;
const CACHE_FLUSH = 0x8000;
const UNICAST = 0x8000;
/** RFC 6762 6.7: a plain resolver's answers are not to be kept long. */
const LEGACY_TTL = 10;
const PROBE_MS = 250;
const PROBES = 3;
const ANNOUNCE_MS = 1_000;
const SHARED_DELAY_MS = [20, 120] as const;
const QUERY_RETRY_MS = 1_000;
const MAX_QUESTIONS = 64;
const SERVICES = "_services._dns-sd._udp.local";

type State = "probing" | "announcing" | "running" | "closed";

interface Pending {
	readonly name: string;
	readonly type: number;
	readonly records: DnsRecord[];
	readonly done: () => void;
}

/** Multicast DNS on one interface (RFC 6762): asks, and answers for this host and its services (RFC 6763). */
export class Mdns {
	private readonly host: Host;
	private readonly iface: Interface;
	private readonly options: MdnsOptions;
	private readonly socket: UdpSocket;
	private readonly timer: CallbackTimer;
	private readonly pending = new Set<Pending>();
	private readonly late = new Set<CallbackTimer>();
	private state: State = "probing";
	private step = 0;
	private attempt = 1;
	private label: string;

	/**
	 * @throws StackError `ERR_BAD_OPTION` for a host name or service that is none, `EADDRINUSE`
	 */
	constructor(host: Host, iface: Interface, options: MdnsOptions = {}) {
		this.host = host;
		this.iface = iface;
		this.options = options;
		this.label = (options.hostName ?? "").toLowerCase();
		if (options.hostName !== undefined && !/^[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?$/.test(this.label))
			throw new StackError(
				"ERR_BAD_OPTION",
				`hostName "${options.hostName}" is no host's label; expected e.g. printer`,
			);
		for (const { instance, type } of options.services ?? []) {
			if (!/^_[a-z0-9-]{1,15}\._(tcp|udp)$/.test(type) || encodeName(escapeLabel(instance)) === undefined)
				throw new StackError(
					"ERR_BAD_OPTION",
					`service "${instance}" of type "${type}" is none; expected e.g. _http._tcp`,
				);
			if (options.hostName === undefined)
				throw new StackError("ERR_BAD_OPTION", `service "${instance}" needs a hostName to be on`);
		}
		this.socket = host.udp.open({
			port: PORT,
			reuse: true,
			iface,
			onMessage: (data, from) => this.input(data, from),
		});
		this.socket.hopLimit = HOPS;
		this.socket.multicastHopLimit = HOPS;
		this.socket.multicastLoop = false;
		this.socket.joinGroup(GROUP4, iface);
		this.socket.joinGroup(GROUP6, iface);
		this.timer = new CallbackTimer((now) => this.tick(now));
		if (options.hostName === undefined) this.state = "running";
		else host.stack.timers.schedule(this.timer, host.stack.now + (host.stack.randomInt() & 0xff));
		host.driver.wake();
	}

	/** The name it answers for, as it is now: `printer.local`. */
	get name(): string {
		return `${this.label}.local`;
	}

	/** The addresses of a `.local` name; none when nobody answers in time. */
	async lookup(name: string, timeoutMs = 3_000): Promise<IpAddress[]> {
		const both = await Promise.all([
			this.query(name, DNS_TYPE.A, timeoutMs),
			this.query(name, DNS_TYPE.AAAA, timeoutMs),
		]);
		return both.flat().flatMap((record) => recordAddress(record) ?? []);
	}

	/**
	 * Asks the link; the answers so far when the time is over, or the first for a name that is one host's.
	 *
	 * @param timeoutMs - for names many share (services) all of it is waited
	 */
	query(name: string, type: number, timeoutMs = 3_000): Promise<DnsRecord[]> {
		return new Promise((resolve) => {
			const { stack } = this.host;
			const plain = name.toLowerCase().replace(/\.$/, "");
			let wait = QUERY_RETRY_MS;
			let over = false;
			const again = new CallbackTimer((now) => {
				ask();
				wait *= 2;
				stack.timers.schedule(again, now + wait);
			});
			const end = new CallbackTimer(() => entry.done());
			const entry: Pending = {
				name: plain,
				type,
				records: [],
				done: () => {
					if (over) return;
					over = true;
					stack.timers.cancel(again);
					stack.timers.cancel(end);
					this.pending.delete(entry);
					resolve(entry.records);
				},
			};
			const ask = () => {
				const message = dnsQuery(0, plain, type);
				message.recursionDesired = false;
				// RFC 6762 7.1: what is known already need not be said again.
				message.answers.push(...entry.records);
				this.send(message);
			};
			if (this.state === "closed" || this.pending.size >= MAX_QUESTIONS) {
				resolve([]);
				return;
			}
			this.pending.add(entry);
			ask();
			stack.timers.schedule(again, stack.now + wait);
			stack.timers.schedule(end, stack.now + timeoutMs);
			this.host.driver.wake();
		});
	}

	/** Says goodbye and stops. */
	close(): void {
		if (this.state === "closed") return;
		if (this.state === "announcing" || (this.state === "running" && this.label !== ""))
			this.respond(this.records().map((record) => ({ ...record, ttl: 0 })));
		this.state = "closed";
		for (const entry of [...this.pending]) entry.done();
		for (const timer of [this.timer, ...this.late]) this.host.stack.timers.cancel(timer);
		this.socket.close();
	}

	/** Everything it answers for; names of its own have the cache-flush bit, shared ones have not. */
	private records(): DnsRecord[] {
		if (this.label === "") return [];
		const own: DnsRecord[] = this.iface.addresses
			.filter(({ state }) => state !== "tentative")
			.map(({ address }) => ({ ...addressRecord(this.name, address, HOST_TTL), class: 1 | CACHE_FLUSH }));
		for (const service of this.options.services ?? []) {
			const type = `${service.type}.local`;
			const instance = `${escapeLabel(service.instance)}.${type}`;
			const target = encodeName(this.name)!;
			own.push(
				{ name: SERVICES, type: DNS_TYPE.PTR, class: 1, ttl: OTHER_TTL, data: encodeName(type)! },
				{ name: type, type: DNS_TYPE.PTR, class: 1, ttl: OTHER_TTL, data: encodeName(instance)! },
				{
					name: instance,
					type: DNS_TYPE.SRV,
					class: 1 | CACHE_FLUSH,
					ttl: HOST_TTL,
					data: Uint8Array.from([0, 0, 0, 0, service.port >>> 8, service.port & 255, ...target]),
				},
				{
					name: instance,
					type: DNS_TYPE.TXT,
					class: 1 | CACHE_FLUSH,
					ttl: OTHER_TTL,
					data: textData(service.text ?? []),
				},
			);
		}
		return own;
	}

	private tick(now: number): void {
		const { timers } = this.host.stack;
		if (this.state === "probing") {
			if (this.step < PROBES) {
				this.step++;
				this.probe();
				timers.schedule(this.timer, now + PROBE_MS);
				return;
			}
			this.state = "announcing";
			this.step = 0;
		}
		if (this.state !== "announcing") return;
		this.respond(this.records());
		if (++this.step < 2) timers.schedule(this.timer, now + ANNOUNCE_MS);
		else this.state = "running";
	}

	/** RFC 6762 8.1: asks whether somebody has the name, and says what it is going to be. */
	private probe(): void {
		const message = dnsQuery(0, this.name, DNS_TYPE.ANY);
		message.recursionDesired = false;
		message.questions[0]!.class |= UNICAST;
		message.authorities.push(
			...this.records()
				.filter(({ name }) => name === this.name)
				.map((record) => ({ ...record, class: 1 })),
		);
		this.send(message);
	}

	/** The name is another's: the next one is tried (RFC 6762 9). */
	private conflict(): void {
		this.attempt++;
		this.label = `${(this.options.hostName ?? "").toLowerCase()}-${this.attempt}`;
		this.state = "probing";
		this.step = 0;
		this.host.stack.timers.schedule(this.timer, this.host.stack.now + (this.attempt > 10 ? 5_000 : PROBE_MS));
		this.options.onRename?.(this.label);
	}

	private send(message: DnsMessage): void {
		const bytes = encodeDns(message);
		if (bytes === undefined) return;
		for (const group of [GROUP4, GROUP6]) {
			if (this.iface.addressOf(group.family) === undefined) continue;
			this.socket.send(bytes, group, PORT);
		}
		this.host.driver.wake();
	}

	private respond(answers: readonly DnsRecord[]): void {
		if (answers.length > 0) this.send(responseOf(answers));
	}

	private input(data: Uint8Array, from: UdpSource): void {
		const message = parseDns(data);
		if (message === undefined || message.opcode !== 0) return;
		if (message.response) {
			// RFC 6762 6 and 11: answers come from the port itself and from the link.
			if (from.port === PORT && from.packet.hopLimit === HOPS) this.responseIn(message);
		} else this.queryIn(message, from);
	}

	private responseIn(message: DnsMessage): void {
		const all = [...message.answers, ...message.additionals];
		for (const entry of [...this.pending]) {
			let unique = false;
			for (const record of all) {
				if (record.name !== entry.name || (record.type !== entry.type && entry.type !== DNS_TYPE.ANY)) continue;
				if (record.ttl === 0 || entry.records.some((known) => sameData(known, record))) continue;
				entry.records.push({ ...record, class: record.class & ~CACHE_FLUSH });
				unique ||= (record.class & CACHE_FLUSH) !== 0;
			}
			if (unique) entry.done();
		}
		if (this.label === "" || this.state === "closed") return;
		const mine = this.records();
		const taken = all.some(
			(record) =>
				record.name === this.name &&
				record.ttl > 0 &&
				(record.type === DNS_TYPE.A || record.type === DNS_TYPE.AAAA) &&
				!mine.some((own) => sameData(own, record)),
		);
		if (taken) this.conflict();
	}

	private queryIn(message: DnsMessage, from: UdpSource): void {
		if (this.label === "" || this.state === "closed") return;
		if (this.state === "probing") {
			this.tieBreak(message);
			return;
		}
		const all = this.records();
		const answers = new Set<DnsRecord>();
		let unicast = message.questions.length > 0;
		for (const { name, type, class: asked } of message.questions) {
			if ((asked & ~UNICAST) !== 1 && (asked & ~UNICAST) !== 255) continue;
			unicast &&= (asked & UNICAST) !== 0;
			for (const record of all)
				if (record.name === name && (type === DNS_TYPE.ANY || type === record.type)) answers.add(record);
		}
		// RFC 6762 7.1: who says that it knows it with half its life left is not told again.
		for (const known of message.answers)
			for (const record of answers) if (sameData(known, record) && known.ttl >= record.ttl / 2) answers.delete(record);
		if (answers.size === 0) return;
		const list = [...answers];
		const { address, port } = from;
		if (port !== PORT) {
			// RFC 6762 6.7: a plain resolver wants a plain answer, with its question in it.
			const reply = responseOf(list.map((record) => ({ ...record, class: 1, ttl: Math.min(record.ttl, LEGACY_TTL) })));
			const bytes = encodeDns({ ...reply, id: message.id, questions: message.questions });
			if (bytes !== undefined) this.socket.send(bytes, address, port);
			this.host.driver.wake();
			return;
		}
		const answer = () => {
			const reply = responseOf(list);
			reply.additionals.push(...all.filter((record) => record.name === this.name && !answers.has(record)));
			if (!unicast) this.send(reply);
			else {
				this.socket.send(encodeDns(reply)!, address, port);
				this.host.driver.wake();
			}
		};
		if (list.every((record) => (record.class & CACHE_FLUSH) !== 0)) {
			answer();
			return;
		}
		// RFC 6762 6.3: many may answer for a shared name, so not all at once.
		const [least, most] = SHARED_DELAY_MS;
		const timer = new CallbackTimer(() => {
			this.late.delete(timer);
			answer();
		});
		if (this.late.size >= MAX_QUESTIONS) return;
		this.late.add(timer);
		this.host.stack.timers.schedule(
			timer,
			this.host.stack.now + least + ((this.host.stack.randomInt() >>> 0) % (most - least)),
		);
	}

	/** RFC 6762 8.2: two that probe for one name at once; the lexicographically later data has it. */
	private tieBreak(message: DnsMessage): void {
		const theirs = message.authorities.filter(({ name }) => name === this.name);
		if (theirs.length === 0) return;
		const mine = this.records().filter(({ name }) => name === this.name);
		if (compareAll(mine, theirs) >= 0) return;
		this.step = 0;
		this.host.stack.timers.schedule(this.timer, this.host.stack.now + 1_000);
	}
}

function responseOf(answers: readonly DnsRecord[]): DnsMessage {
	return {
		id: 0,
		response: true,
		opcode: 0,
		authoritative: true,
		truncated: false,
		recursionDesired: false,
		recursionAvailable: false,
		rcode: 0,
		questions: [],
		answers: [...answers],
		authorities: [],
		additionals: [],
	};
}

function sameData(x: DnsRecord, y: DnsRecord): boolean {
	return x.type === y.type && x.name === y.name && compareBytes(x.data, y.data) === 0;
}

function compareBytes(x: Uint8Array, y: Uint8Array): number {
	for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return x[i]! - y[i]!;
	return x.length - y.length;
}

function compareAll(x: readonly DnsRecord[], y: readonly DnsRecord[]): number {
	const order = (a: DnsRecord, b: DnsRecord) => a.type - b.type || compareBytes(a.data, b.data);
	const [mine, theirs] = [[...x].sort(order), [...y].sort(order)];
	for (let i = 0; i < Math.min(mine.length, theirs.length); i++) {
		const difference = order(mine[i]!, theirs[i]!);
		if (difference !== 0) return difference;
	}
	return mine.length - theirs.length;
}

/** A label with dots and other characters in it, in the form names have here. */
function escapeLabel(text: string): string {
	let out = "";
	for (const byte of new TextEncoder().encode(text.toLowerCase()))
		out +=
			byte === 46 || byte === 92 || byte < 33 || byte > 126
				? `\\${String(byte).padStart(3, "0")}`
				: String.fromCharCode(byte);
	return out;
}

function textData(strings: readonly string[]): Uint8Array {
	const parts = strings.map((text) => new TextEncoder().encode(text).subarray(0, 255));
	return Uint8Array.from(parts.length === 0 ? [0] : parts.flatMap((part) => [part.length, ...part]));
}
