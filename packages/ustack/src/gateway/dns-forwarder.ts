import { type ZoneRecord, Zones } from "../dns/zone.ts";
import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { UdpSocket, UdpSource } from "../udp/layer.ts";
import { addressBytes, type IpAddress } from "../wire/address.ts";
import {
	DNS_RCODE,
	DNS_TYPE,
	type DnsMessage,
	type DnsRecord,
	dnsQuery,
	dnsReply,
	encodeDns,
	optRecord,
	parseDns,
	recordAddress,
	recordName,
} from "../wire/dns.ts";
import type { NameBindings } from "./names.ts";
import type { EgressPolicy } from "./policy.ts";
import { isClosed } from "./ranges.ts";

/** Options of {@link DnsForwarder}. */
export interface DnsForwarderOptions {
	/** Names answered here: `name` or `*.suffix`. */
	zones?: Readonly<Record<string, readonly ZoneRecord[]>>;
	/** The rules in force now. */
	policy: () => EgressPolicy;
	/** Where answers are remembered for the policy's name rules. */
	bindings: NameBindings;
	/** Sends a query to the upstream resolver. */
	query: (message: Uint8Array) => Promise<Uint8Array | undefined>;
	/** Whether another question may be answered now. @default always */
	admit?: () => boolean;
	/** Addresses of a name that is not in a zone: guests by their host names. */
	local?: (name: string) => readonly IpAddress[] | undefined;
	onQuery?: (guest: string, name: string, type: number, allowed: boolean, reason: string) => void;
}

const MAX_PENDING = 256;
const MAX_TCP_MESSAGE = 65_535;
const UDP_LIMIT = 512;
/** What we take by UDP (RFC 9715: no fragments), and the most we send to who says it takes more. */
const EDNS_SIZE = 1_232;
const LARGEST_UDP = 4_096;
/** TCP queries of one connection under way at once, and how long an idle one stays (RFC 7766 6.1, 6.2.3). */
const MAX_PIPELINED = 16;
const MAX_CHAIN = 16;
const BADVERS = 16;
/** SVCB and HTTPS (RFC 9460): their address hints and hello keys lead past name rules. */
const SERVICE_TYPES: ReadonlySet<number> = new Set([64, 65]);

/**
 * Answers guests' questions from zones or from upstream, as far as the policy lets names out, and binds what they
 * resolve to for the policy's name rules. UDP and TCP, EDNS.
 *
 * Upstream sees a question of the gateway's own making: its identifier and options are not the guest's to choose.
 */
export class DnsForwarder {
	private readonly host: Host;
	private readonly options: DnsForwarderOptions;
	private readonly zones = new Zones();
	private pending = 0;

	constructor(host: Host, options: DnsForwarderOptions) {
		this.host = host;
		this.options = options;
		for (const [name, records] of Object.entries(options.zones ?? {})) this.zones.set(name, records);
	}

	/**
	 * Adds or replaces a name; no records remove it.
	 *
	 * @throws StackError `ERR_BAD_OPTION` naming the record that is wrong
	 */
	setZone(name: string, records: readonly ZoneRecord[]): void {
		this.zones.set(name, records);
	}

	/** Answers a datagram through `reply`. */
	datagram(guest: string, data: Uint8Array, reply: (bytes: Uint8Array) => void): void {
		const query = parseDns(data);
		if (query === undefined || query.response) return;
		const size = optOf(query)?.class ?? UDP_LIMIT;
		void this.answer(guest, query).then((answer) => {
			if (answer === undefined) return;
			const bytes = encodeDns(answer);
			if (bytes === undefined) return;
			const room = Math.max(UDP_LIMIT, Math.min(size, LARGEST_UDP));
			reply(bytes.length <= room ? bytes : encodeDns(truncated(answer))!);
		});
	}

	/** Listens on a UDP socket of the host's stack. */
	bind(address: IpAddress, guestOf: (from: UdpSource) => string): UdpSocket {
		return this.host.udp.open({
			address,
			port: 53,
			onMessage: (data, from, socket) => {
				const { address: to, port } = from;
				this.datagram(guestOf(from), data, (bytes) => {
					if (!socket.closed) socket.send(bytes, to, port);
					this.host.driver.wake();
				});
			},
		});
	}

	/** Serves one TCP connection (RFC 7766): length-prefixed queries, answered as they come. */
	serve(guest: string, c: TcpConnection): void {
		let buffered = new Uint8Array(0);
		let running = 0;
		const step = () => {
			for (;;) {
				const view = c.peek(MAX_TCP_MESSAGE + 2 - buffered.length);
				if (view.length > 0 && buffered.length < MAX_TCP_MESSAGE + 2) {
					const joined = new Uint8Array(buffered.length + view.length);
					joined.set(buffered);
					joined.set(view, buffered.length);
					buffered = joined;
					c.consume(view.length);
				}
				if (buffered.length < 2 || running >= MAX_PIPELINED) return;
				const length = (buffered[0]! << 8) | buffered[1]!;
				if (buffered.length < length + 2) return;
				const message = buffered.slice(2, length + 2);
				buffered = buffered.slice(length + 2);
				const query = parseDns(message);
				if (query === undefined || query.response) {
					c.abort();
					return;
				}
				running++;
				void this.answer(guest, query).then((answer) => {
					running--;
					const bytes = answer === undefined ? undefined : encodeDns(answer);
					if (bytes !== undefined && c.established && c.writable >= bytes.length + 2) {
						const framed = new Uint8Array(bytes.length + 2);
						framed[0] = bytes.length >>> 8;
						framed[1] = bytes.length & 255;
						framed.set(bytes, 2);
						c.write(framed);
					}
					if (c.finReceived && running === 0) c.close();
					else step();
				});
			}
		};
		c.handlers = {
			onReadable: step,
			onEnd: () => {
				if (running === 0) c.close();
			},
			onClose: () => c.close(),
		};
		step();
	}

	private async answer(guest: string, query: DnsMessage): Promise<DnsMessage | undefined> {
		const opt = optOf(query);
		const finish = (reply: DnsMessage, extended = 0): DnsMessage => {
			// RFC 6891 6.1.1: who says EDNS hears EDNS.
			if (opt !== undefined) reply.additionals.push(optRecord(EDNS_SIZE, extended));
			return reply;
		};
		const refuse = (rcode: number) => finish(dnsReply(query, rcode));
		if (query.opcode !== 0) return refuse(DNS_RCODE.NOTIMP);
		const question = query.questions[0];
		if (query.questions.length !== 1 || question === undefined) return refuse(DNS_RCODE.FORMERR);
		if (query.additionals.filter((record) => record.type === DNS_TYPE.OPT).length > 1) return refuse(DNS_RCODE.FORMERR);
		if (opt !== undefined && ((opt.ttl >>> 16) & 255) !== 0) return finish(dnsReply(query, 0), BADVERS);
		if (question.class !== 1) return refuse(DNS_RCODE.REFUSED);
		if (this.options.admit?.() === false) {
			this.options.onQuery?.(guest, question.name, question.type, false, "limit");
			return refuse(DNS_RCODE.SERVFAIL);
		}
		const { name, type } = question;
		const zone = this.zones.lookup(name, type);
		if (zone !== undefined) {
			const reply = dnsReply(query, zone.exists ? DNS_RCODE.NOERROR : DNS_RCODE.NXDOMAIN);
			reply.authoritative = true;
			reply.answers.push(...zone.records);
			if (zone.beyond !== undefined) {
				const rest = await this.upstream(guest, zone.beyond, type);
				reply.rcode = rest.rcode;
				reply.answers.push(...rest.answers);
			}
			return finish(reply);
		}
		const local = this.options.local?.(name);
		if (local !== undefined) {
			const reply = dnsReply(query, DNS_RCODE.NOERROR);
			reply.authoritative = true;
			for (const address of local) {
				const own = address.family === 4 ? DNS_TYPE.A : DNS_TYPE.AAAA;
				if (type === own || type === DNS_TYPE.ANY)
					reply.answers.push({ name, type: own, class: 1, ttl: 0, data: addressBytes(address) });
			}
			return finish(reply);
		}
		const { rcode, answers, authorities } = await this.upstream(guest, name, type);
		return finish({ ...dnsReply(query, rcode), answers, authorities });
	}

	/** Asks upstream under the policy; only what the chain from the question leads to comes back. */
	private async upstream(
		guest: string,
		name: string,
		type: number,
	): Promise<{ rcode: number; answers: DnsRecord[]; authorities: DnsRecord[] }> {
		const nothing = (rcode: number) => ({ rcode, answers: [], authorities: [] });
		const policy = this.options.policy();
		const verdict = policy.nameAllowed(name);
		this.options.onQuery?.(guest, name, type, verdict.allowed, verdict.reason);
		// A denied name is still resolved when a default of "allow" would let its addresses through otherwise.
		const bindOnly = !verdict.allowed && policy.fallback === "allow" && (type === DNS_TYPE.A || type === DNS_TYPE.AAAA);
		if (!verdict.allowed && !bindOnly) return nothing(DNS_RCODE.NXDOMAIN);
		if (policy.hasNames && SERVICE_TYPES.has(type)) return nothing(DNS_RCODE.NOERROR);
		if (this.pending >= MAX_PENDING) return nothing(DNS_RCODE.SERVFAIL);
		this.pending++;
		const asked = dnsQuery(this.host.stack.randomInt() & 0xffff, name, type);
		asked.additionals.push(optRecord(EDNS_SIZE, 0));
		let raw: Uint8Array | undefined;
		try {
			raw = await this.options.query(encodeDns(asked)!);
		} catch {
			raw = undefined;
		} finally {
			this.pending--;
		}
		const reply = raw === undefined ? undefined : parseDns(raw);
		const echoed = reply?.questions[0];
		if (reply?.response !== true || reply.id !== asked.id || echoed?.name !== name || echoed.type !== type)
			return nothing(DNS_RCODE.SERVFAIL);
		const { now } = this.host.stack;
		const answers: DnsRecord[] = [];
		for (const record of chainOf(reply.answers, name)) {
			const address = recordAddress(record);
			if (address !== undefined) {
				// Private addresses in public names are the classic rebinding: they are taken out.
				if (isClosed(address) && !policy.opensNetwork(address)) continue;
				this.options.bindings.bind(guest, name, address, record.ttl, now);
			}
			answers.push(record);
		}
		if (!verdict.allowed) return nothing(DNS_RCODE.NXDOMAIN);
		return {
			rcode: reply.rcode,
			answers,
			authorities: reply.authorities.filter((record) => record.type === DNS_TYPE.SOA),
		};
	}
}

function optOf(query: DnsMessage): DnsRecord | undefined {
	return query.additionals.find((record) => record.type === DNS_TYPE.OPT);
}

/** The records whose owner the question's chain of aliases leads to. */
function chainOf(records: readonly DnsRecord[], name: string): DnsRecord[] {
	const owners = new Set([name]);
	let owner = name;
	for (let i = 0; i < MAX_CHAIN; i++) {
		const alias = records.find((record) => record.type === DNS_TYPE.CNAME && record.name === owner);
		const target = alias === undefined ? undefined : recordName(alias);
		if (target === undefined || owners.has(target)) break;
		owners.add(target);
		owner = target;
	}
	return records.filter((record) => owners.has(record.name));
}

/** The answer without its records, so that the client asks again by TCP. */
function truncated(answer: DnsMessage): DnsMessage {
	return {
		...answer,
		truncated: true,
		answers: [],
		authorities: [],
		additionals: answer.additionals.filter((record) => record.type === DNS_TYPE.OPT),
	};
}
