import {
	createHash,
	createPrivateKey,
	createPublicKey,
	generateKeyPairSync,
	type KeyObject,
	randomBytes,
	sign,
	X509Certificate,
} from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { StackError } from "../../errors.ts";
import { addressBytes, parseAddress } from "../../wire/address.ts";
import {
	bitString,
	boolean,
	context,
	contextPrimitive,
	element,
	octetString,
	oid,
	sequence,
	set,
	time,
	unsigned,
	utf8,
} from "./der.ts";

/** A certificate authority's own key and certificate, PEM, to keep for the next run. */
export interface AuthorityKeys {
	readonly key: string;
	readonly certificate: string;
}

/** Options of {@link CertificateAuthority}. */
export interface AuthorityOptions {
	/** Kept from an earlier run; made anew when absent. */
	readonly keys?: AuthorityKeys;
	/** The authority's common name. @default "ustack gateway" */
	readonly name?: string;
	/** @default the present */
	readonly now?: () => Date;
}

const ECDSA_SHA256 = "1.2.840.10045.4.3.2";
const COMMON_NAME = "2.5.4.3";
const EXTENSION = {
	subjectKeyIdentifier: "2.5.29.14",
	keyUsage: "2.5.29.15",
	subjectAltName: "2.5.29.17",
	basicConstraints: "2.5.29.19",
	authorityKeyIdentifier: "2.5.29.35",
	extendedKeyUsage: "2.5.29.37",
} as const;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const DAY_MS = 86_400_000;
/** A guest's clock may be a day behind. */
const BACKDATE_MS = DAY_MS;
const AUTHORITY_DAYS = 3_650;
/** Below what browsers take at most (398 days), and renewed with a day left. */
const LEAF_DAYS = 90;
const MAX_CONTEXTS = 256;
const LONGEST_COMMON_NAME = 64;

/**
 * A certificate authority for one guest: its certificate goes into the guest's trust store, and it vouches for the names
 * whose TLS the gateway ends. X.509 v3 (RFC 5280), P-256, one key for all leaves, which never leaves the process.
 */
export class CertificateAuthority {
	/** PEM: what the guest is to trust. */
	readonly certificate: string;
	private readonly key: KeyObject;
	private readonly issuer: Uint8Array;
	private readonly keyId: Uint8Array;
	private readonly leafKey: KeyObject;
	private readonly now: () => Date;
	private readonly contexts = new Map<string, { context: SecureContext; until: number }>();

	/**
	 * @throws StackError `ERR_BAD_OPTION` when the keys kept do not belong together or are no authority's
	 */
	constructor(options: AuthorityOptions = {}) {
		this.now = options.now ?? (() => new Date());
		if (options.keys === undefined) {
			const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
			this.key = pair.privateKey;
			this.issuer = distinguishedName(options.name ?? "ustack gateway");
			this.keyId = identifierOf(pair.publicKey);
			this.certificate = this.makeAuthority(pair.publicKey);
		} else {
			const { keys } = options;
			const parsed = new X509Certificate(keys.certificate);
			this.key = createPrivateKey(keys.key);
			if (!parsed.ca || !parsed.checkPrivateKey(this.key))
				throw new StackError(
					"ERR_BAD_OPTION",
					`the certificate "${parsed.subject}" is no authority's, or its key is another; make new ones`,
				);
			this.issuer = subjectOf(parsed.raw);
			this.keyId = identifierOf(createPublicKey(this.key));
			this.certificate = keys.certificate;
		}
		this.leafKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
	}

	/** For {@link AuthorityOptions.keys} of a later run: keep them as the secret they are. */
	export(): AuthorityKeys {
		return { key: this.key.export({ type: "pkcs8", format: "pem" }).toString(), certificate: this.certificate };
	}

	private makeAuthority(publicKey: KeyObject): string {
		return this.make(this.issuer, publicKey, AUTHORITY_DAYS, [
			extension(EXTENSION.basicConstraints, true, sequence(boolean(true), unsigned(Uint8Array.of(0)))),
			// keyCertSign and cRLSign.
			extension(EXTENSION.keyUsage, true, bitString(Uint8Array.of(0x06), 1)),
			extension(EXTENSION.subjectKeyIdentifier, false, octetString(this.keyId)),
		]);
	}

	/** The key and certificate chain for a host name or address, PEM. */
	issue(host: string): { key: string; certificate: string } {
		const address = parseAddress(host);
		const publicKey = createPublicKey(this.leafKey);
		const certificate = this.make(distinguishedName(host.slice(0, LONGEST_COMMON_NAME)), publicKey, LEAF_DAYS, [
			extension(EXTENSION.basicConstraints, true, sequence()),
			// digitalSignature.
			extension(EXTENSION.keyUsage, true, bitString(Uint8Array.of(0x80), 7)),
			extension(EXTENSION.extendedKeyUsage, false, sequence(oid(SERVER_AUTH))),
			extension(
				EXTENSION.subjectAltName,
				false,
				sequence(
					address === undefined
						? contextPrimitive(2, new TextEncoder().encode(host))
						: contextPrimitive(7, addressBytes(address)),
				),
			),
			extension(EXTENSION.subjectKeyIdentifier, false, octetString(identifierOf(publicKey))),
			extension(EXTENSION.authorityKeyIdentifier, false, sequence(contextPrimitive(0, this.keyId))),
		]);
		return {
			key: this.leafKey.export({ type: "pkcs8", format: "pem" }).toString(),
			certificate: `${certificate}${this.certificate}`,
		};
	}

	/** What a TLS server shows for a host; kept for the next connection, a bounded number of them. */
	contextFor(host: string): SecureContext {
		const known = this.contexts.get(host);
		const now = this.now().getTime();
		if (known !== undefined && known.until > now) return known.context;
		if (this.contexts.size >= MAX_CONTEXTS) this.contexts.delete(this.contexts.keys().next().value!);
		const { key, certificate } = this.issue(host);
		const made = createSecureContext({ key, cert: certificate, minVersion: "TLSv1.2" });
		this.contexts.set(host, { context: made, until: now + (LEAF_DAYS - 1) * DAY_MS - BACKDATE_MS });
		return made;
	}

	private make(subject: Uint8Array, publicKey: KeyObject, days: number, extensions: readonly Uint8Array[]): string {
		const from = this.now().getTime() - BACKDATE_MS;
		const serial = randomBytes(16);
		serial[0]! &= 0x7f;
		serial[0]! |= 0x40;
		const algorithm = sequence(oid(ECDSA_SHA256));
		const body = sequence(
			context(0, unsigned(Uint8Array.of(2))),
			unsigned(serial),
			algorithm,
			this.issuer,
			sequence(time(new Date(from)), time(new Date(from + days * DAY_MS))),
			subject,
			publicKey.export({ type: "spki", format: "der" }),
			context(3, sequence(...extensions)),
		);
		const signature = sign("sha256", body, this.key);
		return pem(sequence(body, algorithm, bitString(signature)));
	}
}

function distinguishedName(name: string): Uint8Array {
	return sequence(set(sequence(oid(COMMON_NAME), utf8(name))));
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
	return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

/** RFC 7093's first method: 160 bits of the key's SHA-256. */
function identifierOf(key: KeyObject): Uint8Array {
	return createHash("sha256")
		.update(key.export({ type: "spki", format: "der" }))
		.digest()
		.subarray(0, 20);
}

function pem(der: Uint8Array): string {
	const lines = Buffer.from(der)
		.toString("base64")
		.match(/.{1,64}/g)!;
	return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/** The subject of a certificate, as its DER has it: a leaf's issuer must be the same bytes. */
function subjectOf(der: Uint8Array): Uint8Array {
	// Certificate, its body, then version, serial number, algorithm, issuer and validity come before.
	let at = contentAt(der, contentAt(der, 0));
	if (der[at] === 0xa0) at = nextAt(der, at);
	for (let i = 0; i < 4; i++) at = nextAt(der, at);
	return element(der[at]!, der.subarray(contentAt(der, at), nextAt(der, at)));
}

function contentAt(der: Uint8Array, at: number): number {
	const length = der[at + 1]!;
	return at + 2 + (length < 0x80 ? 0 : length & 0x7f);
}

function nextAt(der: Uint8Array, at: number): number {
	let length = der[at + 1]!;
	if (length >= 0x80) {
		const bytes = length & 0x7f;
		length = 0;
		for (let i = 0; i < bytes; i++) length = length * 256 + der[at + 2 + i]!;
	}
	return contentAt(der, at) + length;
}
