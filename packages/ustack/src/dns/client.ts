import { StackError } from "../errors.ts";
import { CallbackTimer } from "../ip/timers.ts";
import type { Host, Lookup } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import { IpAddress, parseAddress } from "../wire/address.ts";
import {
	DNS_RCODE,
	DNS_TYPE,
	type DnsMessage,
	dnsQuery,
	encodeDns,
	parseDns,
	recordAddress,
	recordName,
} from "../wire/dns.ts";

/** Options of {@link DnsClient}. */
export interface DnsClientOptions {
	/** Asked in turn. */
	servers: readonly (IpAddress | string)[];
	/** @default 53 */
	port?: number;
	/** Domains tried behind names with fewer than `ndots` dots. */
	search?: readonly string[];
	/** @default 1 */
	ndots?: number;
	/** Before the next server is asked. @default 2000 */
	timeoutMs?: number;
	/** Rounds over all servers. @default 2 */
	attempts?: number;
	/** Names with their addresses, before anybody is asked. */
	hosts?: Readonly<Record<string, readonly string[]>>;
}

const MAX_CACHE = 1024;
const MAX_TTL_MS = 86_400_000;
const NEGATIVE_TTL_MS = 5_000;
const MAX_CHAIN = 16;

/** A stub resolver over a host's UDP and TCP (RFC 1035, RFC 7766), with a cache. */
export class DnsClient {
	private readonly host: Host;
	private readonly options: DnsClientOptions;
	private readonly cache = new Map<string, { until: number; addresses: IpAddress[] }>();

	constructor(host: Host, options: DnsClientOptions) {
		this.host = host;
		this.options = options;
	}

	/** Resolves for {@link Host.lookup}: AAAA and A together, IPv6 first where both are. */
	readonly lookup: Lookup = async (name, family) => {
		const plain = name.toLowerCase().replace(/\.$/, "");
		const literal = parseAddress(plain);
		if (literal !== undefined) return [literal];
		if (plain === "localhost" || plain.endsWith(".localhost")) {
			return [parseAddress("127.0.0.1")!, parseAddress("::1")!].filter(
				(address) => family === 0 || address.family === family,
			);
		}
		const fixed = this.options.hosts?.[plain];
		if (fixed !== undefined)
			return fixed.map((text) => parseAddress(text)!).filter((address) => family === 0 || address.family === family);
		let failure: StackError | undefined;
		for (const candidate of this.candidates(name, plain)) {
			const types = family === 4 ? [DNS_TYPE.A] : family === 6 ? [DNS_TYPE.AAAA] : [DNS_TYPE.AAAA, DNS_TYPE.A];
			const results = await Promise.allSettled(types.map((type) => this.addresses(candidate, type)));
			const found = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
			if (found.length > 0) return found;
			for (const result of results) {
				if (result.status !== "rejected") continue;
				const error = result.reason as StackError;
				if (failure === undefined || error.code === "EAI_AGAIN") failure = error;
			}
		}
		throw failure ?? new StackError("ENOTFOUND", `getaddrinfo ENOTFOUND ${name}`, "getaddrinfo");
	};

	private candidates(name: string, plain: string): string[] {
		if (name.endsWith(".")) return [plain];
		const dots = plain.split(".").length - 1;
		const searched = (this.options.search ?? []).map((domain) => `${plain}.${domain}`);
		return dots >= (this.options.ndots ?? 1) ? [plain, ...searched] : [...searched, plain];
	}

	private async addresses(name: string, type: number): Promise<IpAddress[]> {
		const key = `${name},${type}`;
		const { now } = this.host.stack;
		const cached = this.cache.get(key);
		if (cached !== undefined && cached.until > now) return cached.addresses;
		const reply = await this.query(name, type);
		const addresses: IpAddress[] = [];
		let ttl = MAX_TTL_MS;
		// Only what the chain of aliases from the question leads to.
		let owner = name;
		for (let i = 0; i < MAX_CHAIN; i++) {
			const alias = reply.answers.find((record) => record.type === DNS_TYPE.CNAME && record.name === owner);
			const target = alias === undefined ? undefined : recordName(alias);
			if (target === undefined) break;
			ttl = Math.min(ttl, alias!.ttl * 1000);
			owner = target;
		}
		for (const record of reply.answers) {
			const address = record.type === type && record.name === owner ? recordAddress(record) : undefined;
			if (address === undefined) continue;
			ttl = Math.min(ttl, record.ttl * 1000);
			addresses.push(address);
		}
		if (this.cache.size >= MAX_CACHE) this.cache.delete(this.cache.keys().next().value!);
		this.cache.set(key, { until: now + (addresses.length > 0 ? ttl : NEGATIVE_TTL_MS), addresses });
		return addresses;
	}

	/**
	 * Asks for one name and type.
	 *
	 * @throws StackError `ENOTFOUND` when it does not exist, `EAI_AGAIN` when no server answered
	 */
	async query(name: string, type: number): Promise<DnsMessage> {
		for (let attempt = 0; attempt < (this.options.attempts ?? 2); attempt++) {
			for (const server of this.options.servers) {
				const address = server instanceof IpAddress ? server : parseAddress(server);
				if (address === undefined) continue;
				const reply = await this.ask(address, name, type);
				if (reply === undefined || reply.rcode === DNS_RCODE.SERVFAIL || reply.rcode === DNS_RCODE.REFUSED) continue;
				if (reply.rcode === DNS_RCODE.NXDOMAIN)
					throw new StackError("ENOTFOUND", `getaddrinfo ENOTFOUND ${name}`, "getaddrinfo");
				return reply;
			}
		}
		throw new StackError("EAI_AGAIN", `getaddrinfo EAI_AGAIN ${name}`, "getaddrinfo");
	}

	private async ask(server: IpAddress, name: string, type: number): Promise<DnsMessage | undefined> {
		const id = this.host.stack.randomInt() & 0xffff;
		const bytes = encodeDns(dnsQuery(id, name, type));
		if (bytes === undefined) throw new StackError("ENOTFOUND", `getaddrinfo ENOTFOUND ${name}`, "getaddrinfo");
		const reply = await this.byUdp(server, bytes, id, name, type);
		return reply?.truncated ? ((await this.byTcp(server, bytes, id)) ?? reply) : reply;
	}

	/** A port of its own per query, and a check of the question, against forged answers (RFC 5452). */
	private byUdp(
		server: IpAddress,
		bytes: Uint8Array,
		id: number,
		name: string,
		type: number,
	): Promise<DnsMessage | undefined> {
		return new Promise((resolve) => {
			const { stack, udp } = this.host;
			const socket = udp.open({
				onMessage: (data) => {
					const reply = parseDns(data);
					const question = reply?.questions[0];
					if (reply?.response !== true || reply.id !== id || question?.name !== name || question.type !== type) return;
					done(reply);
				},
				onError: () => done(undefined),
			});
			const timer = new CallbackTimer(() => done(undefined));
			const done = (reply: DnsMessage | undefined) => {
				stack.timers.cancel(timer);
				socket.close();
				resolve(reply);
			};
			stack.timers.schedule(timer, stack.now + (this.options.timeoutMs ?? 2_000));
			try {
				socket.connect(server, this.options.port ?? 53);
				socket.send(bytes);
				this.host.driver.wake();
			} catch {
				done(undefined);
			}
		});
	}

	private byTcp(server: IpAddress, bytes: Uint8Array, id: number): Promise<DnsMessage | undefined> {
		return new Promise((resolve) => {
			const { stack, tcp } = this.host;
			let c: TcpConnection | undefined;
			let buffered = new Uint8Array(0);
			const timer = new CallbackTimer(() => done(undefined));
			const done = (reply: DnsMessage | undefined) => {
				stack.timers.cancel(timer);
				c?.close();
				resolve(reply);
			};
			stack.timers.schedule(timer, stack.now + (this.options.timeoutMs ?? 2_000));
			try {
				c = tcp.connect(server, this.options.port ?? 53, {
					onConnect: (connection) => {
						connection.write(Uint8Array.of(bytes.length >>> 8, bytes.length & 255));
						connection.write(bytes);
					},
					onReadable: (connection) => {
						const view = connection.peek();
						const joined = new Uint8Array(buffered.length + view.length);
						joined.set(buffered);
						joined.set(view, buffered.length);
						connection.consume(view.length);
						buffered = joined;
						const length = buffered.length < 2 ? 0xffff : (buffered[0]! << 8) | buffered[1]!;
						if (buffered.length < length + 2) return;
						const reply = parseDns(buffered.subarray(2, length + 2));
						done(reply?.id === id && reply.response ? reply : undefined);
					},
					onEnd: () => done(undefined),
					onClose: () => done(undefined),
				});
			} catch {
				done(undefined);
			}
		});
	}
}
