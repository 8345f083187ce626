import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { UdpSocket } from "../udp/layer.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import {
	addressRecord,
	DNS_RCODE,
	DNS_TYPE,
	type DnsMessage,
	dnsReply,
	encodeDns,
	parseDns,
	recordAddress,
} from "../wire/dns.ts";
import { type EgressPolicy, isClosed } from "./policy.ts";

/** Options of {@link DnsForwarder}. */
export interface DnsForwarderOptions {
	/** Names answered here: `name` or `*.suffix` to addresses. */
	zones?: Readonly<Record<string, readonly string[]>>;
	policy: EgressPolicy;
	/** Sends a query to the upstream resolver. */
	query: (message: Uint8Array) => Promise<Uint8Array | undefined>;
	onQuery?: (name: string, type: number, allowed: boolean, reason: string) => void;
}

const ZONE_TTL = 60;
const MAX_PENDING = 256;
const MAX_TCP_MESSAGE = 65_535;
const UDP_LIMIT = 512;
/** TCP queries of one connection under way at once. */
const MAX_PIPELINED = 16;

/**
 * Answers guests' queries from zones or from upstream, as far as the policy lets names out, and binds what they resolve
 * to for the policy's name rules. UDP and TCP.
 */
export class DnsForwarder {
	private readonly host: Host;
	private readonly options: DnsForwarderOptions;
	private readonly zones = new Map<string, IpAddress[]>();
	private pending = 0;

	constructor(host: Host, options: DnsForwarderOptions) {
		this.host = host;
		this.options = options;
		for (const [name, addresses] of Object.entries(options.zones ?? {})) this.setZone(name, addresses);
	}

	/** Adds or replaces a name; no addresses remove it. */
	setZone(name: string, addresses: readonly string[]): void {
		const parsed = addresses.map((text) => parseAddress(text)).filter((address) => address !== undefined);
		if (parsed.length === 0) this.zones.delete(name.toLowerCase());
		else this.zones.set(name.toLowerCase(), parsed);
	}

	/** Answers a datagram through `reply`. */
	datagram(data: Uint8Array, reply: (bytes: Uint8Array) => void): void {
		const query = parseDns(data);
		if (query === undefined || query.response) return;
		const size = query.additionals.find((record) => record.type === DNS_TYPE.OPT)?.class ?? UDP_LIMIT;
		void this.answer(data, query).then((answer) => {
			if (answer === undefined) return;
			reply(answer.length <= Math.max(UDP_LIMIT, Math.min(size, 4096)) ? answer : truncated(answer));
		});
	}

	/** Listens on a UDP socket of the host's stack. */
	bind(address: IpAddress): UdpSocket {
		return this.host.udp.open({
			address,
			port: 53,
			onMessage: (data, from, socket) => {
				const { address: to, port } = from;
				this.datagram(data, (bytes) => {
					if (!socket.closed) socket.send(bytes, to, port);
				});
			},
		});
	}

	/** Serves one TCP connection (RFC 7766): length-prefixed queries, answered as they come. */
	serve(c: TcpConnection): void {
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
				void this.answer(message, query).then((answer) => {
					running--;
					if (answer !== undefined && c.established && c.writable >= answer.length + 2) {
						c.write(Uint8Array.of(answer.length >>> 8, answer.length & 255));
						c.write(answer);
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

	private lookupZone(name: string): IpAddress[] | undefined {
		const exact = this.zones.get(name);
		if (exact !== undefined) return exact;
		for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
			const wild = this.zones.get(`*${name.slice(dot)}`);
			if (wild !== undefined) return wild;
		}
		return undefined;
	}

	private async answer(bytes: Uint8Array, query: DnsMessage): Promise<Uint8Array | undefined> {
		if (query.opcode !== 0) return encodeDns(dnsReply(query, DNS_RCODE.NOTIMP));
		const question = query.questions[0];
		if (query.questions.length !== 1 || question === undefined) return encodeDns(dnsReply(query, DNS_RCODE.FORMERR));
		const { name, type } = question;
		const local = this.lookupZone(name);
		if (local !== undefined) {
			const reply = dnsReply(query, DNS_RCODE.NOERROR);
			reply.authoritative = true;
			for (const address of local) {
				const fits = type === DNS_TYPE.ANY || type === (address.family === 4 ? DNS_TYPE.A : DNS_TYPE.AAAA);
				if (fits) reply.answers.push(addressRecord(name, address, ZONE_TTL));
			}
			return encodeDns(reply);
		}
		const { policy } = this.options;
		const verdict = policy.nameAllowed(name);
		this.options.onQuery?.(name, type, verdict.allowed, verdict.reason);
		// A denied name is still resolved when a default of "allow" would let its addresses through otherwise.
		const bindOnly = !verdict.allowed && policy.fallback === "allow" && (type === DNS_TYPE.A || type === DNS_TYPE.AAAA);
		if (!verdict.allowed && !bindOnly) return encodeDns(dnsReply(query, DNS_RCODE.NXDOMAIN));
		if (this.pending >= MAX_PENDING) return encodeDns(dnsReply(query, DNS_RCODE.SERVFAIL));
		this.pending++;
		let raw: Uint8Array | undefined;
		try {
			raw = await this.options.query(bytes);
		} catch {
			raw = undefined;
		} finally {
			this.pending--;
		}
		const reply = raw === undefined ? undefined : parseDns(raw);
		if (reply === undefined || !reply.response || reply.id !== query.id)
			return encodeDns(dnsReply(query, DNS_RCODE.SERVFAIL));
		const { now } = this.host.stack;
		for (const record of reply.answers) {
			const address = recordAddress(record);
			if (address !== undefined) policy.bind(name, address, record.ttl, now);
		}
		if (!verdict.allowed) return encodeDns(dnsReply(query, DNS_RCODE.NXDOMAIN));
		// Private addresses in public names are the classic rebinding: they are taken out.
		const clean = reply.answers.filter((record) => {
			const address = recordAddress(record);
			return (
				address === undefined || !isClosed(address) || policy.allow.some((rule) => rule.network?.contains(address))
			);
		});
		return encodeDns({ ...reply, answers: clean });
	}
}

/** The answer without its records, so that the client asks again by TCP. */
function truncated(answer: Uint8Array): Uint8Array {
	const message = parseDns(answer)!;
	return encodeDns({ ...message, truncated: true, answers: [], authorities: [], additionals: [] })!;
}
