import { type FirstBytes, MAX_FIRST_BYTES, readFirstBytes } from "./first-bytes.ts";
import { HttpGuard } from "./http-guard.ts";
import type { EgressPolicy, Verdict } from "./policy.ts";

/** What is to happen with bytes a guest sends. */
export type Look =
	/** Wait for more. */
	| "more"
	| "deny"
	/** An interceptor takes the connection, with all its bytes. */
	| "take"
	/** So many of them may go out. */
	| number;

/** What a {@link ConnectionCheck} needs to know. */
export interface ConnectionCheckOptions {
	readonly port: number;
	/** As the policy's verdict has it; undefined when only an interceptor listens. */
	readonly check: Verdict["check"];
	readonly policy: () => EgressPolicy;
	/** Whether an interceptor wants a connection that begins so. */
	readonly wants: (first: FirstBytes) => boolean;
}

const HTTPS = 443;
const HTTP = 80;

/**
 * Looks at what a guest's connection says it wants, before and while its bytes go out: TLS's server name at the start,
 * the Host of every request of plain HTTP.
 */
export class ConnectionCheck {
	private readonly options: ConnectionCheckOptions;
	private guard: HttpGuard | undefined;
	private open = false;
	/** What the connection is, once that is known. */
	first: FirstBytes | undefined;
	/** The name it showed and why it was denied, for the audit. */
	reason = "";
	/** The outside spoke first: an interceptor has nothing to do here any more. */
	private spoken = false;

	constructor(options: ConnectionCheckOptions) {
		this.options = options;
	}

	/** Most bytes it wants to see at once. */
	get window(): number {
		return this.first === undefined ? MAX_FIRST_BYTES : 65_536;
	}

	/**
	 * @param bytes - what the guest has sent and nobody has taken
	 * @param ended - no more will come
	 */
	look(bytes: Uint8Array, ended: boolean): Look {
		if (this.open) return bytes.length;
		if (this.guard !== undefined) return this.guarded(bytes);
		if (bytes.length === 0 && !ended) return "more";
		const first = readFirstBytes(bytes, ended);
		if (first === undefined) return "more";
		this.first = first;
		const denial = bytes.length === 0 ? undefined : this.judge(first);
		if (denial !== undefined) {
			this.reason = denial;
			return "deny";
		}
		if (!this.spoken && this.options.wants(first)) return "take";
		if (first.kind === "http" && this.options.check !== undefined) {
			this.guard = new HttpGuard((host) => this.named(host).allowed);
			return this.guarded(bytes);
		}
		this.open = true;
		return bytes.length;
	}

	private guarded(bytes: Uint8Array): Look {
		const count = this.guard!.pass(bytes);
		if (count >= 0) return count === 0 && bytes.length > 0 ? "more" : count;
		this.reason = `name ${this.guard!.reason}`;
		return "deny";
	}

	/** Sees the outside's bytes; true when that may let waiting bytes go. */
	answer(bytes: Uint8Array): boolean {
		const { port } = this.options;
		if (!this.spoken && this.first === undefined && port !== HTTPS && port !== HTTP) {
			// Neither TLS nor HTTP has the server speak first.
			this.open = true;
			this.first = { kind: "other" };
		}
		this.spoken = true;
		if (this.guard === undefined) return this.open;
		this.guard.answer(bytes);
		return true;
	}

	private named(name: string): Verdict {
		return this.options.policy().decideName(name, this.options.port, this.options.check ?? "not-denied");
	}

	/** Why a connection that begins so may not be; undefined when it may. */
	private judge(first: FirstBytes): string | undefined {
		const { check, port } = this.options;
		if (check === undefined) return undefined;
		const strict = check === "allowed";
		switch (first.kind) {
			case "tls": {
				if (first.name === undefined) return strict ? "name missing" : undefined;
				const verdict = this.named(first.name);
				if (!verdict.allowed) return `name ${first.name}`;
				return first.encrypted && strict && !this.options.policy().allowEncryptedHello ? "name encrypted" : undefined;
			}
			case "http":
				return strict && port === HTTPS ? "not TLS" : undefined;
			case "unreadable":
				return "name unreadable";
			case "http2":
				// Its names come with every request, packed; nobody needs it in the clear.
				return "name hidden in HTTP/2 without TLS";
			case "other":
				return strict && (port === HTTPS || port === HTTP) ? "neither TLS nor HTTP" : undefined;
		}
	}
}
