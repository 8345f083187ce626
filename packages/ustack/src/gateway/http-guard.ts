/** A request's head is bounded, as servers bound it. */
const MAX_HEAD = 65_536;
const MAX_LINE = 1_024;

const STATUS = "HTTP/1.1 101";

type State = "head" | "body" | "chunk-size" | "chunk" | "chunk-end" | "trailers" | "upgrade" | "opaque";

/**
 * Follows the requests of one plain HTTP/1 connection as they go out and asks about every one's Host. What two readers
 * may read in two ways is refused: obsolete folding, bare line ends, two lengths, two hosts (RFC 9112 2.2, 5.2, 6.3).
 */
export class HttpGuard {
	private readonly allow: (host: string) => boolean;
	private state: State = "head";
	private left = 0;
	private head = "";
	private upgrading = false;
	private status = "";
	/** Why it was refused, for the audit. */
	reason = "";

	/**
	 * @param allow - whether a request may go to `host` (without its port)
	 */
	constructor(allow: (host: string) => boolean) {
		this.allow = allow;
	}

	/**
	 * Sees bytes before they go out and returns how many may; -1 ends the connection. Behind a request to change the
	 * protocol the rest waits for {@link answer}.
	 */
	pass(bytes: Uint8Array): number {
		let at = 0;
		while (at < bytes.length) {
			switch (this.state) {
				case "opaque":
					return bytes.length;
				case "upgrade":
					return at;
				case "head":
				case "trailers":
				case "chunk-size": {
					const lf = bytes.indexOf(10, at);
					const end = lf < 0 ? bytes.length : lf + 1;
					this.head += ascii(bytes, at, end);
					at = end;
					const limit = this.state === "chunk-size" ? MAX_LINE : MAX_HEAD;
					if (this.head.length > limit) return this.refuse("head too long");
					if (lf >= 0 && this.line() < 0) return -1;
					break;
				}
				case "body":
				case "chunk":
				case "chunk-end": {
					const count = Math.min(this.left, bytes.length - at);
					if (this.state === "chunk-end") {
						for (let i = 0; i < count; i++)
							if (bytes[at + i] !== (this.left - i === 2 ? 13 : 10)) return this.refuse("chunk without its end");
					}
					this.left -= count;
					at += count;
					if (this.left > 0) break;
					if (this.state === "chunk") {
						this.state = "chunk-end";
						this.left = 2;
					} else if (this.state === "body") this.finish();
					else this.state = "chunk-size";
					break;
				}
			}
		}
		return bytes.length;
	}

	/** Sees the outside's bytes: whether it changed the protocol, behind which nothing is HTTP any more. */
	answer(bytes: Uint8Array): void {
		if (this.state !== "upgrade") return;
		this.status += ascii(bytes, 0, Math.min(bytes.length, STATUS.length - this.status.length));
		if (this.status === STATUS) this.state = "opaque";
		else if (!STATUS.startsWith(this.status)) this.state = "head";
		else return;
		this.status = "";
	}

	private refuse(reason: string): -1 {
		this.reason = reason;
		return -1;
	}

	private line(): 0 | -1 {
		const { head } = this;
		if (!head.endsWith("\r\n")) return this.refuse("bare line end");
		if (this.state === "chunk-size") {
			this.head = "";
			const match = /^([0-9a-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n$/i.exec(head);
			if (match === null) return this.refuse("chunk without a size");
			this.left = Number.parseInt(match[1]!, 16);
			this.state = this.left === 0 ? "trailers" : "chunk";
			return 0;
		}
		if (head === "\r\n") {
			// Before a request line an empty line is forgiven; behind a chunked body it is the end.
			this.head = "";
			if (this.state === "trailers") this.finish();
			return 0;
		}
		if (!head.endsWith("\r\n\r\n")) return 0;
		this.head = "";
		if (this.state === "trailers") {
			this.finish();
			return 0;
		}
		return this.request(head);
	}

	private request(head: string): 0 | -1 {
		const [first, ...lines] = head.slice(0, -4).split("\r\n");
		const request = /^([A-Za-z_-]{1,32}) ([^\s\0]+) HTTP\/1\.[01]$/.exec(first!);
		if (request === null) return this.refuse("no HTTP/1 request line");
		const fields = new Map<string, string>();
		for (const line of lines) {
			const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*$/.exec(line);
			if (field === null) return this.refuse("malformed header field");
			const name = field[1]!.toLowerCase();
			if (fields.has(name) && (name === "host" || name === "content-length" || name === "transfer-encoding"))
				return this.refuse(`two ${name} fields`);
			fields.set(name, field[2]!);
		}
		const host = hostOf(fields.get("host"));
		if (host === undefined) return this.refuse("no host");
		const [, method, target] = request;
		if (method!.toUpperCase() === "CONNECT") return this.refuse("CONNECT");
		if (target!.startsWith("/") || target === "*") {
			if (!this.allow(host)) return this.refuse(host);
		} else {
			const authority = hostOf(/^https?:\/\/([^/?#]*)/i.exec(target!)?.[1]);
			if (authority !== host) return this.refuse("target is not the host");
			if (!this.allow(host)) return this.refuse(host);
		}
		this.upgrading = fields.has("upgrade");
		const length = fields.get("content-length");
		const coding = fields.get("transfer-encoding");
		if (coding !== undefined) {
			if (length !== undefined || coding.toLowerCase() !== "chunked") return this.refuse("unclear body length");
			this.state = "chunk-size";
			return 0;
		}
		if (length !== undefined && !/^\d{1,15}$/.test(length)) return this.refuse("unclear body length");
		this.left = Number(length ?? 0);
		if (this.left > 0) this.state = "body";
		else this.finish();
		return 0;
	}
	/** A request is whole. */
	private finish(): void {
		this.state = this.upgrading ? "upgrade" : "head";
	}
}

/** The host of a Host field or an authority, lower case and without its port; undefined when it is none. */
export function hostOf(field: string | undefined): string | undefined {
	const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{0,5})?$/.exec(field ?? "");
	return match === null ? undefined : (match[1] ?? match[2]!).toLowerCase().replace(/\.$/, "");
}

function ascii(bytes: Uint8Array, from: number, to: number): string {
	let text = "";
	for (let i = from; i < to; i += 4096) text += String.fromCharCode(...bytes.subarray(i, Math.min(to, i + 4096)));
	return text;
}
