import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { NetSocket } from "../../node/socket.node.ts";
import type { FirstBytes } from "../first-bytes.ts";
import type { InterceptedConnection, Interceptor } from "../interceptor.ts";
import type { EgressRequest } from "../options.ts";
import { type PolicyRule, parseRule, ruleNames } from "../rule.ts";
import { CertificateAuthority } from "./authority.node.ts";
import { Exchange } from "./exchange.node.ts";
import type { HttpHooks } from "./hooks.ts";
import { type Secret, SecretStore } from "./secrets.ts";
import { UpstreamAgent } from "./upstream.node.ts";

/** Options of {@link createHttpInterceptor}. */
export interface HttpInterceptorOptions {
	/**
	 * Whose connections are taken over: host names, `*.suffix` or `*`. Others' TLS goes through untouched.
	 *
	 * @default `*` with hooks, else the secrets' hosts
	 */
	readonly hosts?: readonly string[];
	/** Never taken over, whatever `hosts` says: for programs that pin certificates. */
	readonly passthrough?: readonly string[];
	readonly hooks?: HttpHooks;
	readonly secrets?: readonly Secret[];
	/** What becomes of a request with a placeholder where its secret may not go. @default "block" */
	readonly misplaced?: "block" | "pass";
	/** Vouches towards the guest. @default a new one */
	readonly authority?: CertificateAuthority;
	/** PEM certificates that servers are verified against, besides the system's. There is no way not to verify. */
	readonly serverAuthorities?: readonly string[];
	/** Ports whose connections are looked at; `any` makes clients that speak first wait for a whole line. @default [80, 443] */
	readonly ports?: readonly number[] | "any";
}

/** What one guest connection has; every request on it uses it. */
export interface GuestConnection {
	readonly guest: InterceptedConnection;
	/** The TLS server name, undefined for plain HTTP. */
	readonly name: string | undefined;
	readonly secure: boolean;
	readonly agent: UpstreamAgent;
}

const DEFAULT_PORTS: readonly number[] = [80, 443];
const HANDSHAKE_MS = 30_000;
const HEADERS_MS = 60_000;

/**
 * Ends guests' HTTP and HTTPS at the gateway and carries it on: HTTP/1.1 on both sides (offered by ALPN), bodies stream
 * with back-pressure, WebSockets pass. Servers' certificates are always verified.
 *
 * A request's Host must be the TLS server name (421 otherwise), so that what was allowed for one name does not reach
 * another. Secrets are put in towards servers that have proved the name, and what comes back is cleaned of them; hooks
 * and the audit see placeholders only.
 */
export class HttpInterceptor implements Interceptor {
	/** Its certificate is what the guest is to trust. */
	readonly authority: CertificateAuthority;
	readonly options: HttpInterceptorOptions;
	/** @internal */
	secrets: SecretStore;
	private readonly hosts: readonly PolicyRule[] | "*" | undefined;
	private readonly passthrough: readonly PolicyRule[];
	private readonly server: Server;
	private readonly connections = new WeakMap<Duplex, GuestConnection>();
	private readonly sockets = new Set<Duplex>();
	private nextRequest = 1;

	/**
	 * @throws StackError `ERR_BAD_RULE` for a host that is no name, `ERR_BAD_OPTION` for a secret
	 */
	constructor(options: HttpInterceptorOptions = {}) {
		this.options = options;
		this.authority = options.authority ?? new CertificateAuthority();
		this.secrets = new SecretStore(options.secrets ?? []);
		const hosts = options.hosts ?? (options.hooks === undefined ? undefined : ["*"]);
		this.hosts = hosts?.includes("*") ? "*" : hosts?.map(parseRule);
		this.passthrough = (options.passthrough ?? []).map(parseRule);
		this.server = createServer({ keepAliveTimeout: 0, headersTimeout: HEADERS_MS, requestTimeout: 0 });
		// A guest that has no more to ask still wants its answer.
		Object.assign(this.server, { httpAllowHalfOpen: true });
		this.server.on("request", (request, response) => this.exchange(request, response)?.start());
		this.server.on("upgrade", (request, socket, head) => this.exchange(request, undefined)?.upgrade(socket, head));
		this.server.on("connect", (_request, socket) =>
			socket.end("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n"),
		);
		this.server.on("clientError", (error: Error & { code?: string }, socket) => {
			const known = this.connections.get(socket);
			known?.guest.audit({ action: "deny", protocol: "http", reason: error.code ?? "malformed request" });
			if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
		});
	}

	/** Changes the secrets for requests that come from now on. */
	setSecrets(secrets: readonly Secret[]): void {
		this.secrets = new SecretStore(secrets);
	}

	/** Ends every connection it has. */
	close(): void {
		for (const socket of this.sockets) socket.destroy();
	}

	listens(request: EgressRequest): boolean {
		const { ports = DEFAULT_PORTS } = this.options;
		return request.protocol === "tcp" && (ports === "any" || ports.includes(request.port));
	}

	wants(request: EgressRequest, first: FirstBytes): boolean {
		// Plain HTTP shows its host with every request only: hooks are asked for the hosts that are theirs.
		if (first.kind === "http") return this.hosts !== undefined || request.names.some((name) => this.covers(name));
		if (first.kind !== "tls") return false;
		return this.covers(first.name ?? request.names[0] ?? request.address);
	}

	/** Whether a host's exchanges are the owner's to see. */
	covers(name: string): boolean {
		if (this.passthrough.some((rule) => ruleNames(rule, name))) return false;
		if (this.hosts === undefined) return this.secrets.concerns(name);
		return this.hosts === "*" || this.hosts.some((rule) => ruleNames(rule, name));
	}

	take(guest: InterceptedConnection): void {
		const { first, host, connection } = guest;
		const plain = new NetSocket(host, { allowHalfOpen: true });
		plain.on("error", () => undefined);
		const secure = first.kind === "tls";
		const name = first.kind === "tls" ? (first.name ?? guest.request.address) : undefined;
		const agent = new UpstreamAgent(guest, name, this.options.serverAuthorities);
		this.sockets.add(plain);
		const close = () => {
			this.sockets.delete(plain);
			agent.destroy();
			guest.done();
		};
		plain.once("close", close);
		plain.adopt(connection);
		if (!secure) {
			this.serve(plain, { guest, name, secure, agent });
			return;
		}
		const socket = new TLSSocket(plain as never, {
			isServer: true,
			secureContext: this.authority.contextFor(name!),
			ALPNProtocols: ["http/1.1"],
		});
		const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
		timer.unref();
		socket.once("secure", () => {
			clearTimeout(timer);
			this.serve(socket, { guest, name, secure, agent });
		});
		socket.on("error", (error: Error & { code?: string }) => {
			// Most often the guest does not trust the authority.
			guest.audit({ action: "close", protocol: "http", reason: error.code ?? "TLS failed", destination: name! });
			plain.destroy();
		});
		socket.once("close", () => {
			clearTimeout(timer);
			plain.destroy();
		});
	}

	private serve(socket: Duplex, connection: GuestConnection): void {
		this.connections.set(socket, connection);
		this.server.emit("connection", socket);
	}

	private exchange(request: IncomingMessage, response: ServerResponse | undefined): Exchange | undefined {
		const connection = this.connections.get(request.socket);
		if (connection === undefined) {
			request.socket.destroy();
			return undefined;
		}
		return new Exchange(this, this.nextRequest++, connection, request, response);
	}
}

/** Makes an interceptor for {@link GatewayOptions.interceptor}. */
export function createHttpInterceptor(options: HttpInterceptorOptions = {}): HttpInterceptor {
	return new HttpInterceptor(options);
}
