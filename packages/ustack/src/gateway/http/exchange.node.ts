import { type ClientRequest, request as httpRequest, type IncomingMessage, ServerResponse } from "node:http";
import { type Duplex, pipeline, Readable, Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { hostOf } from "../http-guard.ts";
import type { BodyInit, BodyStream, HeaderList, HttpAnswer, HttpForward, HttpHooks, HttpRequestInfo } from "./hooks.ts";
import type { GuestConnection, HttpInterceptor } from "./interceptor.node.ts";
import type { StreamReplacer } from "./replace.ts";
import type { HostSecrets } from "./secrets.ts";

/** Between two hops only (RFC 9110 7.6.1, RFC 9112 9.6). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
	"connection",
	"keep-alive",
	"proxy-connection",
	"proxy-authenticate",
	"proxy-authorization",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
]);
const FORBIDDEN = 403;
const MISDIRECTED = 421;
const BAD_GATEWAY = 502;

/** Refused on purpose, with the audit's reason. */
class Refusal extends Error {
	readonly status: number;

	constructor(status: number, reason: string) {
		super(reason);
		this.status = status;
	}
}

/** One request of a guest and its response. */
export class Exchange {
	private readonly owner: HttpInterceptor;
	private readonly id: number;
	private readonly connection: GuestConnection;
	private readonly request: IncomingMessage;
	private response: ServerResponse | undefined;
	private url = "";
	private path = "";
	private secrets!: HostSecrets;
	private hooks: HttpHooks | undefined;
	private upstream: ClientRequest | undefined;

	constructor(
		owner: HttpInterceptor,
		id: number,
		connection: GuestConnection,
		request: IncomingMessage,
		response: ServerResponse | undefined,
	) {
		this.owner = owner;
		this.id = id;
		this.connection = connection;
		this.request = request;
		this.response = response;
	}

	/** Carries a request and its response. */
	start(): void {
		void this.carry(undefined).catch((error: Error) => this.fail(error));
	}

	/** Carries a request to change the protocol: to WebSocket, or as if it had not asked. */
	upgrade(socket: Duplex, head: Buffer): void {
		const response = new ServerResponse(this.request);
		response.shouldKeepAlive = false;
		response.assignSocket(socket as never);
		response.once("finish", () => socket.end());
		socket.on("error", () => this.upstream?.destroy());
		this.response = response;
		const webSocket = /^websocket$/i.test(this.request.headers.upgrade ?? "");
		void this.carry(webSocket ? { socket, head } : undefined).catch((error: Error) => this.fail(error));
	}

	private async carry(upgrade: { socket: Duplex; head: Buffer } | undefined): Promise<void> {
		const { request, connection, owner } = this;
		const host = this.checkHost();
		// TLS proves the server's name; without it the address must be what the gateway's resolver gave for the name.
		const proven = connection.secure || connection.guest.request.names.includes(host);
		this.secrets = owner.secrets.forHost(host, connection.secure, proven);
		this.hooks = owner.covers(host) ? owner.options.hooks : undefined;
		let headers = pairsOf(request.rawHeaders);
		const info: HttpRequestInfo = {
			id: this.id,
			flow: connection.guest.request.flow,
			guest: connection.guest.request.guest,
			method: request.method!,
			url: this.url,
			headers,
		};
		let body: BodyStream = request;
		let method = request.method!;
		let replaced = false;
		const said = await this.hooks?.onRequest?.(info, request);
		if (said?.action === "block") throw new Refusal(said.status ?? FORBIDDEN, said.reason ?? "hook");
		if (said?.action === "answer") {
			await this.answer(said);
			return;
		}
		if (said !== undefined) {
			({ method, headers } = this.changed(said, method, headers));
			if (said.body !== undefined) {
				body = streamOf(said.body);
				replaced = true;
			}
		}
		if (owner.options.misplaced !== "pass") {
			const name = this.secrets.misplaced(this.path, headers);
			if (name !== undefined) throw new Refusal(FORBIDDEN, `secret ${name} misplaced`);
		}
		const filler = this.secrets.inBody ? this.secrets.bodyFiller() : undefined;
		const bodyLength = replaced || filler !== undefined ? undefined : request.headers["content-length"];
		const hasBody =
			replaced ||
			bodyLength !== undefined ||
			request.headers["transfer-encoding"] !== undefined ||
			(filler !== undefined && request.headers["content-length"] !== undefined);
		const fields = this.outgoing(headers, hasBody, bodyLength, upgrade !== undefined);
		const upstream = httpRequest({
			agent: connection.agent,
			method,
			path: this.secrets.path(this.path),
			headers: fields.flat(),
			setHost: false,
		});
		this.upstream = upstream;
		this.response!.once("close", () => {
			if (!this.response!.writableFinished) upstream.destroy();
		});
		const answered = new Promise<void>((resolve, reject) => {
			upstream.once("error", reject);
			upstream.once("response", (message) => this.answered(info, message).then(resolve, reject));
			if (upgrade !== undefined)
				upstream.once("upgrade", (message, socket, head) => {
					this.join(upgrade, message, socket, head);
					resolve();
				});
		});
		if (hasBody) {
			const source = body === request ? request : Readable.from(body, { objectMode: false });
			const done = (error?: Error | null) => {
				if (error) upstream.destroy(error);
			};
			if (filler === undefined) pipeline(source, upstream, done);
			else pipeline(source, replacing(filler), upstream, done);
		} else upstream.end();
		await answered;
	}

	/** The host a request is for: one name for the Host field, the target and TLS, and one that may be. */
	private checkHost(): string {
		const { request, connection } = this;
		const { secure, name, guest } = connection;
		const field = request.headers.host ?? name ?? "";
		const scheme = secure ? "https" : "http";
		const absolute = /^(https?):\/\/([^/?#]*)(.*)$/is.exec(request.url!);
		this.path = absolute === null ? request.url! : absolute[3]!.startsWith("/") ? absolute[3]! : `/${absolute[3]!}`;
		this.url = `${scheme}://${field}${this.path}`;
		const host = hostOf(field);
		const hosts = Object.entries(request.headersDistinct).find(([key]) => key === "host")?.[1]?.length ?? 0;
		if (host === undefined || hosts > 1) throw new Refusal(400, "no host");
		if (absolute !== null && (absolute[1]!.toLowerCase() !== scheme || hostOf(absolute[2]) !== host))
			throw new Refusal(400, "target is not the host");
		if (secure && host !== name) throw new Refusal(MISDIRECTED, `host ${host} is not ${name}`);
		const verdict = guest.decideName(host);
		if (!verdict.allowed) throw new Refusal(FORBIDDEN, `name ${host}`);
		return host;
	}

	private changed(
		said: HttpForward,
		method: string,
		headers: HeaderList,
	): { method: string; headers: [string, string][] } {
		if (said.path !== undefined) {
			if (!/^\/[\x21-\x7e]*$/.test(said.path)) throw new Error(`a hook's path "${said.path}" is no path`);
			this.path = said.path;
		}
		// The host stays: another would be another server.
		const list = (said.headers ?? headers).filter(([name]) => !/^host$/i.test(name));
		const host = headers.find(([name]) => /^host$/i.test(name));
		return {
			method: said.method ?? method,
			headers: [...(host === undefined ? [] : [host]), ...list] as [string, string][],
		};
	}

	/** Fields as they go to the server. */
	private outgoing(
		headers: HeaderList,
		hasBody: boolean,
		length: string | undefined,
		upgrade: boolean,
	): [string, string][] {
		const { connection, request } = this;
		const named = new Set((request.headers.connection ?? "").toLowerCase().split(/ *, */));
		const cleans = this.secrets.any;
		const kept = headers.filter(([name]) => {
			const lower = name.toLowerCase();
			if (lower === "content-length" || (HOP_BY_HOP.has(lower) && !(upgrade && lower === "upgrade"))) return false;
			if (named.has(lower) && lower !== "upgrade" && lower !== "host") return false;
			// What comes back is to be read: no coding we do not know, no compressed frames.
			if (cleans && (lower === "accept-encoding" || lower === "sec-websocket-extensions")) return false;
			return true;
		});
		const list = this.secrets.headers(kept);
		if (!list.some(([name]) => /^host$/i.test(name))) list.unshift(["Host", connection.name ?? ""]);
		if (cleans) list.push(["Accept-Encoding", "identity"]);
		list.push(["Connection", upgrade ? "Upgrade" : "keep-alive"]);
		if (length !== undefined) list.push(["Content-Length", length]);
		else if (hasBody) list.push(["Transfer-Encoding", "chunked"]);
		return list;
	}

	/** The server's response, on its way to the guest. */
	private async answered(info: HttpRequestInfo, message: IncomingMessage): Promise<void> {
		const { secrets } = this;
		const cleans = secrets.any;
		let status = message.statusCode!;
		let headers = pairsOf(message.rawHeaders).filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()));
		let body: Readable = message;
		let changed = false;
		if (cleans) {
			headers = headers.map(([name, value]) => [name, secrets.redact(value)]);
			const plain = decoded(message);
			if (plain === undefined)
				throw new Refusal(BAD_GATEWAY, `content-encoding ${message.headers["content-encoding"]} cannot be read`);
			if (plain !== message) headers = headers.filter(([name]) => !/^content-encoding$/i.test(name));
			body = chain(plain, replacing(secrets.redactor()));
			changed = true;
		}
		const said = await this.hooks?.onResponse?.({ request: info, status, headers }, body);
		if (said?.action === "block") {
			message.destroy();
			throw new Refusal(said.status ?? FORBIDDEN, said.reason ?? "hook");
		}
		if (said !== undefined) {
			status = said.status ?? status;
			headers = (said.headers ?? headers).filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase())) as [string, string][];
			if (said.body !== undefined) {
				body = Readable.from(streamOf(said.body), { objectMode: false });
				changed = true;
			}
		}
		const empty = info.method === "HEAD" || status === 204 || status === 304;
		if (changed && !empty) headers = headers.filter(([name]) => !/^content-length$/i.test(name));
		const response = this.response!;
		response.writeHead(status, message.statusMessage, headers.flat());
		this.tell("allow", status, "done");
		await new Promise<void>((resolve) => {
			pipeline(body, response, (error) => {
				// The head is out: all that can be said now is that the body is not whole.
				if (error) this.request.socket.destroy();
				resolve();
			});
		});
	}

	/** Both ends speak WebSocket from here on. */
	private join(guest: { socket: Duplex; head: Buffer }, message: IncomingMessage, server: Duplex, head: Buffer): void {
		const { secrets } = this;
		const cleans = secrets.any;
		this.response!.detachSocket(guest.socket as never);
		const lines = pairsOf(message.rawHeaders).map(
			([name, value]) => `${name}: ${cleans ? secrets.redact(value) : value}`,
		);
		guest.socket.write(
			`HTTP/1.1 ${message.statusCode} ${message.statusMessage ?? ""}\r\n${lines.join("\r\n")}\r\n\r\n`,
		);
		if (head.length > 0) server.unshift(head);
		if (guest.head.length > 0) guest.socket.unshift(guest.head);
		this.tell("allow", message.statusCode!, "upgraded");
		const over = () => {
			server.destroy();
			guest.socket.destroy();
		};
		pipeline(guest.socket, server, over);
		// A frame's length counts its bytes, so they must not become more or fewer.
		if (cleans) pipeline(server, replacing(secrets.redactor(true)), guest.socket, over);
		else pipeline(server, guest.socket, over);
	}

	private async answer(said: HttpAnswer): Promise<void> {
		const response = this.response!;
		this.request.resume();
		const headers = (said.headers ?? []).filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()));
		response.writeHead(said.status, headers.flat());
		this.tell("allow", said.status, "answered");
		await new Promise<void>((resolve) => {
			pipeline(Readable.from(streamOf(said.body ?? ""), { objectMode: false }), response, () => resolve());
		});
	}

	private fail(error: Error & { code?: string }): void {
		const response = this.response!;
		const refused = error instanceof Refusal;
		const status = refused ? error.status : BAD_GATEWAY;
		const reason = refused ? error.message : (error.code ?? error.message);
		this.tell("deny", status, reason);
		this.upstream?.destroy();
		if (response.headersSent) {
			this.request.socket.destroy();
			return;
		}
		const text = `${status === BAD_GATEWAY ? "The server could not be reached" : "Refused by the gateway"}: ${reason}\n`;
		// What is left of the request is not read: the connection cannot go on.
		response.writeHead(status, {
			"Content-Type": "text/plain",
			"Content-Length": Buffer.byteLength(text),
			Connection: "close",
		});
		response.end(text);
		this.request.resume();
	}

	private tell(action: "allow" | "deny", status: number, reason: string): void {
		const clean = (text: string) => this.secrets?.redact(text) ?? text;
		this.connection.guest.audit({
			action,
			protocol: "http",
			reason: clean(reason),
			method: this.request.method ?? "",
			url: clean(this.url),
			status,
		});
	}
}

function pairsOf(raw: readonly string[]): [string, string][] {
	const pairs: [string, string][] = [];
	for (let i = 0; i + 1 < raw.length; i += 2) pairs.push([raw[i]!, raw[i + 1]!]);
	return pairs;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
	if (bytes.length > 0) yield bytes;
}

function streamOf(body: BodyInit): BodyStream {
	if (typeof body === "string") return once(new TextEncoder().encode(body));
	return body instanceof Uint8Array ? once(body) : body;
}

function replacing(replacer: StreamReplacer): Transform {
	return new Transform({
		transform(chunk: Buffer, _encoding, callback) {
			const bytes = replacer.push(chunk);
			callback(null, bytes.length > 0 ? bytes : undefined);
		},
		flush(callback) {
			const bytes = replacer.end();
			callback(null, bytes.length > 0 ? bytes : undefined);
		},
	});
}

function chain(source: Readable, through: Transform): Readable {
	pipeline(source, through, () => undefined);
	return through;
}

/** The body without its coding; undefined for one that is not known. */
function decoded(message: IncomingMessage): Readable | undefined {
	let body: Readable = message;
	const codings = (message.headers["content-encoding"] ?? "identity").toLowerCase().split(/ *, */).reverse();
	for (const coding of codings) {
		if (coding === "identity" || coding === "") continue;
		const through =
			coding === "gzip" || coding === "x-gzip"
				? createGunzip()
				: coding === "deflate"
					? createInflate()
					: coding === "br"
						? createBrotliDecompress()
						: undefined;
		if (through === undefined) return undefined;
		body = chain(body, through);
	}
	return body;
}
