import { get16 } from "../wire/bytes.ts";

/** What a TLS ClientHello says in the clear (RFC 8446 4.1.2, RFC 6066 3, RFC 7301). */
export interface ClientHello {
	/** The server name, lower case; undefined without the extension. */
	readonly name: string | undefined;
	/** An encrypted inner hello is there (RFC 9849), real or as grease. */
	readonly encrypted: boolean;
	readonly alpn: readonly string[];
}

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
const LONGEST_RECORD = 16_384;
const LONGEST_HELLO = 65_536;
const SERVER_NAME = 0;
const ALPN = 16;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;
/** Cloudflare's old draft, which some servers still take. */
const ENCRYPTED_SERVER_NAME = 0xffce;

/**
 * Reads the hello at the start of a connection, put together from its records; `more` while it is not whole, undefined
 * when it is none.
 */
export function readClientHello(bytes: Uint8Array): ClientHello | "more" | undefined {
	const message = readMessage(bytes);
	if (message === "more" || message === undefined) return message;
	const reader = new Reader(message);
	// legacy_version, random
	if (!reader.skip(34)) return undefined;
	// legacy_session_id, cipher_suites, legacy_compression_methods
	if (reader.vector(1) === undefined || reader.vector(2) === undefined || reader.vector(1) === undefined)
		return undefined;
	let name: string | undefined;
	let encrypted = false;
	let alpn: string[] = [];
	if (reader.left === 0) return { name, encrypted, alpn };
	const extensions = reader.vector(2);
	if (extensions === undefined || reader.left !== 0) return undefined;
	const seen = new Set<number>();
	while (extensions.left > 0) {
		const type = extensions.number(2);
		const body = extensions.vector(2);
		// RFC 8446 4.2: no extension twice; which of two a server believes is not to be guessed.
		if (type === undefined || body === undefined || seen.has(type)) return undefined;
		seen.add(type);
		if (type === SERVER_NAME) {
			const list = body.vector(2);
			const kind = list?.number(1);
			const host = list?.vector(2);
			if (host === undefined || kind !== 0 || list?.left !== 0 || body.left !== 0) return undefined;
			name = hostName(host.rest());
			if (name === undefined) return undefined;
		} else if (type === ALPN) {
			const list = body.vector(2);
			if (list === undefined || body.left !== 0) return undefined;
			alpn = [];
			while (list.left > 0) {
				const protocol = list.vector(1);
				if (protocol === undefined) return undefined;
				alpn.push(String.fromCharCode(...protocol.rest()));
			}
		} else if (type === ENCRYPTED_CLIENT_HELLO || type === ENCRYPTED_SERVER_NAME) encrypted = true;
	}
	return { name, encrypted, alpn };
}

/** The handshake message of type ClientHello without its header. */
function readMessage(bytes: Uint8Array): Uint8Array | "more" | undefined {
	const parts: Uint8Array[] = [];
	let have = 0;
	let wanted = 4;
	let at = 0;
	while (have < wanted) {
		if (bytes.length - at < RECORD_HEADER) {
			// Even a beginning must look like a record.
			if (at < bytes.length && bytes[at] !== HANDSHAKE) return undefined;
			if (at + 1 < bytes.length && bytes[at + 1] !== 3) return undefined;
			return "more";
		}
		if (bytes[at] !== HANDSHAKE || bytes[at + 1] !== 3) return undefined;
		const length = get16(bytes, at + 3);
		if (length === 0 || length > LONGEST_RECORD) return undefined;
		const part = bytes.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length);
		parts.push(part);
		have += part.length;
		if (wanted === 4 && have >= 4) {
			const head = parts.length === 1 ? part : joined(parts, have);
			if (head[0] !== CLIENT_HELLO) return undefined;
			wanted = 4 + ((head[1]! << 16) | (head[2]! << 8) | head[3]!);
			if (wanted > LONGEST_HELLO) return undefined;
		}
		if (part.length < length && have < wanted) return "more";
		at += RECORD_HEADER + length;
	}
	return joined(parts, have).subarray(4, wanted);
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
	if (parts.length === 1) return parts[0]!;
	const all = new Uint8Array(length);
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

function hostName(bytes: Uint8Array): string | undefined {
	if (bytes.length === 0 || bytes.length > 255) return undefined;
	for (const byte of bytes) if (byte <= 32 || byte >= 127) return undefined;
	return String.fromCharCode(...bytes)
		.toLowerCase()
		.replace(/\.$/, "");
}

class Reader {
	private readonly bytes: Uint8Array;
	private at = 0;

	constructor(bytes: Uint8Array) {
		this.bytes = bytes;
	}

	get left(): number {
		return this.bytes.length - this.at;
	}

	rest(): Uint8Array {
		return this.bytes.subarray(this.at);
	}

	skip(count: number): boolean {
		if (this.left < count) return false;
		this.at += count;
		return true;
	}

	number(size: 1 | 2): number | undefined {
		if (this.left < size) return undefined;
		const value = size === 1 ? this.bytes[this.at]! : get16(this.bytes, this.at);
		this.at += size;
		return value;
	}

	/** What a length of `size` bytes is in front of. */
	vector(size: 1 | 2): Reader | undefined {
		const length = this.number(size);
		if (length === undefined || this.left < length) return undefined;
		const part = new Reader(this.bytes.subarray(this.at, this.at + length));
		this.at += length;
		return part;
	}
}
