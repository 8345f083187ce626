import { StackError } from "../../errors.ts";
import { type PolicyRule, parseRule, ruleNames } from "../rule.ts";
import type { HeaderList } from "./hooks.ts";
import { type Replacement, StreamReplacer } from "./replace.ts";

/** A secret that guests use without having it. Plain data. */
export interface Secret {
	/** For people and the audit. */
	readonly name: string;
	/** What the guest has in its place: 8 to 128 letters, digits, `-` and `_`; what nobody writes by chance. */
	readonly placeholder: string;
	/** Printable, at least 4 characters; a line end would be a header of its own. */
	readonly value: string;
	/** Where it may go: host names or `*.suffix`. */
	readonly hosts: readonly string[];
	/**
	 * Where in a request it is put in: header fields (also inside Basic credentials), the URL's path and query
	 * (percent-encoded), the body (as it is). @default ["header"]
	 */
	readonly parts?: readonly SecretPart[];
	/** Put it in without TLS as well, where anybody on the way reads it. @default false */
	readonly plainHttp?: boolean;
}

/** A part of a request. */
export type SecretPart = "header" | "url" | "body";

interface Entry extends Secret {
	readonly rules: readonly PolicyRule[];
	readonly where: ReadonlySet<SecretPart>;
}

const SHORTEST_VALUE = 4;
const SHORTEST_INSIDE = 12;

/** Secrets by host; puts them in on the way out and takes them out on the way back. */
export class SecretStore {
	private readonly entries: readonly Entry[];

	/**
	 * @throws StackError `ERR_BAD_OPTION` naming the secret (never its value), `ERR_BAD_RULE` for a host
	 */
	constructor(secrets: readonly Secret[]) {
		this.entries = secrets.map((secret) => {
			const fail = (what: string): never => {
				throw new StackError("ERR_BAD_OPTION", `secret "${secret.name}": ${what}`);
			};
			if (!/^[A-Za-z0-9_-]{8,128}$/.test(secret.placeholder))
				fail(`placeholder "${secret.placeholder}" is not 8-128 letters, digits, - and _`);
			if (secret.value.length < SHORTEST_VALUE || !/^[\x20-\x7e]+$/.test(secret.value))
				fail("its value is shorter than 4 characters or has some that are not printable ASCII");
			if (secret.value.includes(secret.placeholder)) fail("its value contains its placeholder");
			const rules = secret.hosts.map(parseRule);
			if (rules.some((rule) => rule.name === undefined)) fail("its hosts are not all names or *.suffix");
			return { ...secret, rules, where: new Set(secret.parts ?? ["header"]) };
		});
		for (const entry of this.entries)
			if (this.entries.some((other) => other !== entry && other.placeholder.includes(entry.placeholder)))
				throw new StackError("ERR_BAD_OPTION", `placeholder "${entry.placeholder}" is part of another secret's`);
	}

	/** Whether some secret may go to a host: its responses are cleaned. */
	concerns(host: string): boolean {
		return this.entries.some((entry) => entry.rules.some((rule) => ruleNames(rule, host)));
	}

	/**
	 * What may be put in towards a host.
	 *
	 * @param proven - the server is the host's, by its certificate or by its address
	 */
	forHost(host: string, secure: boolean, proven: boolean): HostSecrets {
		const allowed = this.entries.filter(
			(entry) => proven && (secure || entry.plainHttp === true) && entry.rules.some((rule) => ruleNames(rule, host)),
		);
		return new HostSecrets(allowed, this.entries);
	}
}

/** The secrets of one host's connection. */
export class HostSecrets {
	private readonly allowed: readonly Entry[];
	private readonly all: readonly Entry[];
	/** Credentials made of secrets on this connection: they are secrets as well. */
	private readonly made = new Map<string, string>();

	constructor(allowed: readonly Entry[], all: readonly Entry[]) {
		this.allowed = allowed;
		this.all = all;
	}

	/** Whether anything may be put in here. */
	get any(): boolean {
		return this.allowed.length > 0;
	}

	/** Whether request bodies are to be looked through. */
	get inBody(): boolean {
		return this.allowed.some((entry) => entry.where.has("body"));
	}

	/** The secret whose placeholder stands where it may not be put in; undefined when none does. */
	misplaced(url: string, headers: HeaderList): string | undefined {
		for (const entry of this.all) {
			const fine = (part: SecretPart) => this.allowed.includes(entry) && entry.where.has(part);
			if (!fine("url") && url.includes(entry.placeholder)) return entry.name;
			if (fine("header")) continue;
			for (const [, value] of headers)
				if (value.includes(entry.placeholder) || basicOf(value)?.includes(entry.placeholder)) return entry.name;
		}
		return undefined;
	}

	/** Fields with their placeholders replaced. */
	headers(list: HeaderList): [string, string][] {
		return list.map(([name, value]) => {
			const credentials = /^authorization$/i.test(name) ? basicOf(value) : undefined;
			if (credentials === undefined) return [name, this.put(value, "header", (text) => text)];
			const filled = this.put(credentials, "header", (text) => text);
			if (filled === credentials) return [name, value];
			const encoded = encodeBase64(filled);
			this.made.set(encoded, encodeBase64(credentials));
			return [name, `Basic ${encoded}`];
		});
	}

	/** Path and query with their placeholders replaced. */
	path(path: string): string {
		return this.put(path, "url", encodeURIComponent);
	}

	private put(text: string, part: SecretPart, encode: (value: string) => string): string {
		let filled = text;
		for (const entry of this.allowed)
			if (entry.where.has(part)) filled = filled.replaceAll(entry.placeholder, () => encode(entry.value));
		return filled;
	}

	/** Puts secrets into a request's body as it streams. */
	bodyFiller(): StreamReplacer {
		return new StreamReplacer(
			this.allowed
				.filter((entry) => entry.where.has("body"))
				.map((entry) => ({ find: bytesOf(entry.placeholder), put: bytesOf(entry.value) })),
		);
	}

	/** What a response may show of secrets, in the ways servers write them. */
	private reflections(): [string, string][] {
		const pairs: [string, string][] = [];
		for (const { value, placeholder } of this.allowed) {
			const forms = new Set([
				value,
				encodeURIComponent(value),
				JSON.stringify(value).slice(1, -1),
				value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;"),
			]);
			for (const form of forms) pairs.push([form, placeholder]);
			for (const form of base64Forms(value)) pairs.push([form, "A".repeat(form.length)]);
		}
		for (const [credentials, harmless] of this.made) pairs.push([credentials, harmless]);
		return pairs;
	}

	/** Text with secrets turned back into placeholders. */
	redact(text: string): string {
		let clean = text;
		for (const [form, placeholder] of this.reflections().sort((x, y) => y[0].length - x[0].length))
			clean = clean.replaceAll(form, () => placeholder);
		return clean;
	}

	/**
	 * Turns secrets in a stream back into placeholders.
	 *
	 * @param keepLength - into as many asterisks, where the bytes around count them (frames of a WebSocket)
	 */
	redactor(keepLength = false): StreamReplacer {
		const replacements: Replacement[] = this.reflections().map(([form, placeholder]) => ({
			find: bytesOf(form),
			put: bytesOf(keepLength ? "*".repeat(form.length) : placeholder),
		}));
		return new StreamReplacer(replacements);
	}
}

/** The user and password of Basic credentials (RFC 7617); undefined when they are none. */
function basicOf(value: string): string | undefined {
	const match = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(value.trim());
	if (match === null) return undefined;
	try {
		return atob(match[1]!);
	} catch {
		return undefined;
	}
}

function encodeBase64(text: string): string {
	return btoa(text);
}

/** What base64 makes of a text inside another one, at each of the three alignments; none for one too short to tell. */
function base64Forms(value: string): string[] {
	if (value.length < SHORTEST_INSIDE) return [encodeBase64(value)];
	return [0, 1, 2].map((offset) => {
		const all = encodeBase64(`${"x".repeat(offset)}${value}`).replace(/=+$/, "");
		const from = Math.ceil((offset * 8) / 6);
		return all.slice(from, Math.floor(((offset + value.length) * 8) / 6));
	});
}

function bytesOf(text: string): Uint8Array {
	return new TextEncoder().encode(text);
}
