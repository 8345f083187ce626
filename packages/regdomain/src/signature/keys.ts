import { RegdomainError } from "../errors.ts";
import { DerTag, derChildren, derExpect, derOid, derRoot, derWrite, derWriteOid } from "./der.ts";

/** Object identifiers of algorithms and content types. */
export const Oid = {
	RSA: "1.2.840.113549.1.1.1",
	SHA1_RSA: "1.2.840.113549.1.1.5",
	SHA256_RSA: "1.2.840.113549.1.1.11",
	SHA384_RSA: "1.2.840.113549.1.1.12",
	SHA512_RSA: "1.2.840.113549.1.1.13",
	SHA1: "1.3.14.3.2.26",
	SHA256: "2.16.840.1.101.3.4.2.1",
	SHA384: "2.16.840.1.101.3.4.2.2",
	SHA512: "2.16.840.1.101.3.4.2.3",
	DATA: "1.2.840.113549.1.7.1",
	SIGNED_DATA: "1.2.840.113549.1.7.2",
	MESSAGE_DIGEST: "1.2.840.113549.1.9.4",
	COMMON_NAME: "2.5.4.3",
} as const;

/** A digest, as Web Crypto names it. */
export type DigestName = "SHA-1" | "SHA-256" | "SHA-384" | "SHA-512";

/** An X.509 certificate, as far as signatures need it. */
export interface Certificate {
	/** The whole certificate, DER. */
	der: Uint8Array;
	/** Issuer's name, DER. */
	issuer: Uint8Array;
	/** Serial number, the content of its INTEGER. */
	serial: Uint8Array;
	/** Common name of the subject. */
	subject: string;
	/** SubjectPublicKeyInfo, DER. */
	publicKey: Uint8Array;
}

/** A key that may vouch for a database. */
export interface TrustedKey {
	/** Who it belongs to. */
	name: string;
	/** SubjectPublicKeyInfo, DER. */
	publicKey: Uint8Array;
	/** The certificate, where there is one; PKCS #7 signatures name theirs by issuer and serial. */
	certificate?: Certificate;
}

/** The bytes in memory of their own, which Web Crypto's types ask for. */
export const owned = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);

/** Bytes of base64 text. */
export function fromBase64(text: string): Uint8Array {
	let binary: string;
	try {
		binary = atob(text.replaceAll(/\s+/g, ""));
	} catch {
		throw new RegdomainError("SIGNATURE_FORMAT", "the text is not base64", text.slice(0, 40));
	}
	return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** Base64 text of bytes. */
export function toBase64(bytes: Uint8Array): string {
	let binary = "";
	for (const byte of bytes) binary += String.fromCharCode(byte);
	return btoa(binary);
}

/**
 * Takes an X.509 certificate apart.
 *
 * @throws RegdomainError `DER_SYNTAX`
 */
export function parseCertificate(der: Uint8Array): Certificate {
	const root = derExpect(derRoot(der), DerTag.SEQUENCE, "certificate");
	const [tbs] = derChildren(root.content);
	const fields = derChildren(derExpect(tbs, DerTag.SEQUENCE, "certificate body").content);
	if (fields[0]?.tag === DerTag.CONTEXT_0) fields.shift();
	const [serial, , issuer, , subject, publicKey] = fields;
	return {
		der: root.bytes,
		serial: derExpect(serial, DerTag.INTEGER, "serial number").content,
		issuer: derExpect(issuer, DerTag.SEQUENCE, "issuer").bytes,
		subject: commonName(derExpect(subject, DerTag.SEQUENCE, "subject").content),
		publicKey: derExpect(publicKey, DerTag.SEQUENCE, "public key").bytes,
	};
}

function commonName(name: Uint8Array): string {
	for (const set of derChildren(name)) {
		for (const attribute of derChildren(set.content)) {
			const [type, value] = derChildren(attribute.content);
			if (value !== undefined && derOid(type, "name attribute") === Oid.COMMON_NAME)
				return new TextDecoder().decode(value.content);
		}
	}
	return "(no common name)";
}

interface PemBlock {
	label: string;
	bytes: Uint8Array;
}

function pemBlocks(text: string): PemBlock[] {
	const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----/g)];
	if (blocks.length === 0)
		throw new RegdomainError("SIGNATURE_FORMAT", "the text holds no PEM block (-----BEGIN …-----)", text.slice(0, 40));
	return blocks.map(([, label, body]) => ({ label: label!, bytes: fromBase64(body!) }));
}

const nothing = derWrite(DerTag.NULL);

/** AlgorithmIdentifier with NULL parameters. */
export const algorithm = (oid: string): Uint8Array => derWrite(DerTag.SEQUENCE, derWriteOid(oid), nothing);

/**
 * Reads the certificates and public keys of a PEM text, or one DER certificate.
 *
 * @param name - whom to credit keys without a certificate to
 * @throws RegdomainError `SIGNATURE_FORMAT` when there is none
 */
export function readTrustedKeys(input: Uint8Array | string, name = "given key"): TrustedKey[] {
	const text = typeof input === "string" ? input : new TextDecoder("latin1").decode(input);
	if (typeof input !== "string" && input[0] === DerTag.SEQUENCE && !text.includes("-----BEGIN"))
		return [certified(input)];
	return pemBlocks(text).map(({ label, bytes }) => {
		if (label === "CERTIFICATE" || label === "X509 CERTIFICATE") return certified(bytes);
		if (label === "PUBLIC KEY") return { name, publicKey: bytes };
		if (label === "RSA PUBLIC KEY") {
			const bits = derWrite(DerTag.BIT_STRING, Uint8Array.of(0), bytes);
			return { name, publicKey: derWrite(DerTag.SEQUENCE, algorithm(Oid.RSA), bits) };
		}
		throw new RegdomainError("SIGNATURE_FORMAT", `PEM block ${label}: expected a certificate or a public key`, label);
	});
}

function certified(der: Uint8Array): TrustedKey {
	const certificate = parseCertificate(der);
	return { name: certificate.subject, publicKey: certificate.publicKey, certificate };
}

/**
 * Reads an RSA private key (PKCS #8 or PKCS #1, PEM) for signing.
 *
 * @throws RegdomainError `SIGNATURE_FORMAT` for other contents, `SIGNATURE_KEY` for a key Web Crypto does not take
 */
export async function importPrivateKey(pem: string, hash: DigestName): Promise<CryptoKey> {
	const block = pemBlocks(pem).find(({ label }) => label === "PRIVATE KEY" || label === "RSA PRIVATE KEY");
	if (block === undefined)
		throw new RegdomainError("SIGNATURE_FORMAT", "the PEM text holds no unencrypted RSA private key", undefined);
	const version = derWrite(DerTag.INTEGER, Uint8Array.of(0));
	const pkcs8 =
		block.label === "PRIVATE KEY"
			? block.bytes
			: derWrite(DerTag.SEQUENCE, version, algorithm(Oid.RSA), derWrite(DerTag.OCTET_STRING, block.bytes));
	try {
		return await crypto.subtle.importKey("pkcs8", owned(pkcs8), { name: "RSASSA-PKCS1-v1_5", hash }, false, ["sign"]);
	} catch (cause) {
		throw new RegdomainError("SIGNATURE_KEY", `Web Crypto does not take the private key: ${String(cause)}`, undefined);
	}
}

/** Whether a PKCS #1 v1.5 signature over some bytes is right. A key Web Crypto does not take counts as wrong. */
export async function verifyRsa(
	publicKey: Uint8Array,
	hash: DigestName,
	signature: Uint8Array,
	data: Uint8Array,
): Promise<boolean> {
	try {
		const scheme = { name: "RSASSA-PKCS1-v1_5", hash };
		const key = await crypto.subtle.importKey("spki", owned(publicKey), scheme, false, ["verify"]);
		return await crypto.subtle.verify(scheme, key, owned(signature), owned(data));
	} catch {
		return false;
	}
}

/** Hexadecimal SHA-256 of some bytes, in pairs parted by colons. */
export async function fingerprint(bytes: Uint8Array): Promise<string> {
	const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", owned(bytes)));
	return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(":");
}
