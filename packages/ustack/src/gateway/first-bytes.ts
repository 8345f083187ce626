import { readClientHello } from "./client-hello.ts";

/** What a client's first bytes are. */
export type FirstBytes =
	| {
			readonly kind: "tls";
			/** The server name asked for, lower case; undefined without the extension. */
			readonly name: string | undefined;
			/** The hello has an encrypted inner hello (or pretends to). */
			readonly encrypted: boolean;
			readonly alpn: readonly string[];
	  }
	/** TLS by its first record, with a hello that is too long or that two readers may read in two ways. */
	| { readonly kind: "unreadable" }
	| { readonly kind: "http" }
	/** HTTP/2 without TLS, by prior knowledge. */
	| { readonly kind: "http2" }
	| { readonly kind: "other" };

/** A hello with many key shares and a long session ticket stays below. */
export const MAX_FIRST_BYTES = 32_768;

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LONGEST_METHOD = 32;
const LONGEST_LINE = 8_192;
const CR = 13;
const LF = 10;

/**
 * Tells what a client speaks from its first bytes; undefined while there are too few to tell.
 *
 * @param ended - no more bytes will come
 */
export function readFirstBytes(bytes: Uint8Array, ended: boolean): FirstBytes | undefined {
	if (bytes.length === 0) return ended ? { kind: "other" } : undefined;
	if (bytes[0] === 0x16) {
		const hello = readClientHello(bytes);
		if (hello === "more" && !ended && bytes.length < MAX_FIRST_BYTES) return undefined;
		if (typeof hello === "object") return { kind: "tls", ...hello };
		return { kind: bytes[1] === 3 ? "unreadable" : "other" };
	}
	const head = startsWith(bytes, PREFACE);
	if (head === true) return { kind: "http2" };
	const line = requestLine(bytes);
	if (line === "more" && !ended) return undefined;
	if (line === true && head === undefined && !ended) return undefined;
	return { kind: line === true ? "http" : "other" };
}

/** Whether it begins with `text`; undefined while it may still. */
function startsWith(bytes: Uint8Array, text: string): boolean | undefined {
	const count = Math.min(bytes.length, text.length);
	for (let i = 0; i < count; i++) if (bytes[i] !== text.charCodeAt(i)) return false;
	return bytes.length >= text.length ? true : undefined;
}

/**
 * A line that begins with a method and names HTTP, behind empty lines that servers forgive (RFC 9112 2.2). Other line
 * protocols have words in front as well: the version tells them apart.
 */
function requestLine(bytes: Uint8Array): boolean | "more" {
	let at = 0;
	while (at < bytes.length && (bytes[at] === CR || bytes[at] === LF)) at++;
	const from = at;
	while (at < bytes.length && isToken(bytes[at]!)) at++;
	if (at - from > LONGEST_METHOD) return false;
	if (at === bytes.length) return "more";
	if (at === from || (bytes[at] !== 32 && bytes[at] !== 9)) return false;
	const end = bytes.indexOf(LF, at);
	// A target this long is no other protocol's command.
	if (end < 0) return bytes.length - from > LONGEST_LINE ? true : "more";
	return / HTTP\//i.test(String.fromCharCode(...bytes.subarray(at, end)).replaceAll("\t", " "));
}

/** Letters only: registered methods and WebDAV's have nothing else but a dash. */
function isToken(byte: number): boolean {
	return (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122) || byte === 45 || byte === 95;
}
