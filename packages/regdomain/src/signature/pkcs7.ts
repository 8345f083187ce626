import { RegdomainError } from "../errors.ts";
import {
	type DerNode,
	DerTag,
	derChildren,
	derExpect,
	derOid,
	derRoot,
	derWrite,
	derWriteOid,
	sameBytes,
} from "./der.ts";
import {
	algorithm,
	type Certificate,
	type DigestName,
	importPrivateKey,
	Oid,
	owned,
	parseCertificate,
	type TrustedKey,
	verifyRsa,
} from "./keys.ts";

const digests: Partial<Record<string, DigestName>> = {
	[Oid.SHA1]: "SHA-1",
	[Oid.SHA256]: "SHA-256",
	[Oid.SHA384]: "SHA-384",
	[Oid.SHA512]: "SHA-512",
};
const signatureAlgorithms = new Set<string>([Oid.RSA, Oid.SHA1_RSA, Oid.SHA256_RSA, Oid.SHA384_RSA, Oid.SHA512_RSA]);

/** One signer of a detached PKCS #7 signature. */
export interface Signer {
	/** Issuer's name of its certificate, DER. */
	issuer: Uint8Array;
	/** Serial number of its certificate. */
	serial: Uint8Array;
	/** Digest. */
	digest: DigestName;
	/** Signed attributes as they are hashed, if there are any. */
	attributes?: Uint8Array;
	/** The message digest among the signed attributes. */
	messageDigest?: Uint8Array;
	/** RSA signature. */
	signature: Uint8Array;
}

/** A detached PKCS #7 signature taken apart. */
export interface DetachedSignature {
	/** Certificates that came with it. */
	certificates: Certificate[];
	/** Who signed. */
	signers: Signer[];
}

const unsupported = (message: string, value: unknown): RegdomainError =>
	new RegdomainError("SIGNATURE_FORMAT", message, value);

function readAlgorithm(node: DerNode | undefined, what: string): string {
	return derOid(derChildren(derExpect(node, DerTag.SEQUENCE, what).content)[0], what);
}

function readSigner(node: DerNode): Signer {
	const fields = derChildren(derExpect(node, DerTag.SEQUENCE, "signer").content);
	const [, identity, digestNode, next] = fields;
	if (identity?.tag !== DerTag.SEQUENCE)
		throw unsupported("the signer must be named by issuer and serial number", identity?.tag);
	const [issuer, serial] = derChildren(identity.content);
	const digestOid = readAlgorithm(digestNode, "digest algorithm");
	const digest = digests[digestOid];
	if (digest === undefined) throw unsupported(`unknown digest algorithm ${digestOid}`, digestOid);
	const attributes = next?.tag === DerTag.CONTEXT_0 ? next : undefined;
	const [algorithmNode, signature] = fields.slice(attributes === undefined ? 3 : 4);
	const algorithmOid = readAlgorithm(algorithmNode, "signature algorithm");
	if (!signatureAlgorithms.has(algorithmOid))
		throw unsupported(`unknown signature algorithm ${algorithmOid}; only RSA is`, algorithmOid);
	const signer: Signer = {
		issuer: derExpect(issuer, DerTag.SEQUENCE, "issuer").bytes,
		serial: derExpect(serial, DerTag.INTEGER, "serial number").content,
		digest,
		signature: derExpect(signature, DerTag.OCTET_STRING, "signature").content,
	};
	if (attributes === undefined) return signer;
	signer.attributes = derWrite(DerTag.SET, attributes.content);
	for (const attribute of derChildren(attributes.content)) {
		const [type, values] = derChildren(attribute.content);
		if (derOid(type, "attribute") !== Oid.MESSAGE_DIGEST) continue;
		const value = derChildren(derExpect(values, DerTag.SET, "message digest").content)[0];
		signer.messageDigest = derExpect(value, DerTag.OCTET_STRING, "message digest").content;
	}
	if (signer.messageDigest === undefined) throw unsupported("the signed attributes have no message digest", undefined);
	return signer;
}

/**
 * Reads a detached PKCS #7 (CMS) signature, such as `regulatory.db.p7s`.
 *
 * @throws RegdomainError `DER_SYNTAX` or `SIGNATURE_FORMAT`
 */
export function parseDetachedSignature(der: Uint8Array): DetachedSignature {
	const [type, body] = derChildren(derExpect(derRoot(der), DerTag.SEQUENCE, "PKCS #7").content);
	const oid = derOid(type, "content type");
	if (oid !== Oid.SIGNED_DATA) throw unsupported(`content type ${oid}: expected PKCS #7 signed data`, oid);
	const signedData = derRoot(derExpect(body, DerTag.CONTEXT_0, "signed data").content);
	const fields = derChildren(derExpect(signedData, DerTag.SEQUENCE, "signed data").content);
	const content = derChildren(derExpect(fields[2], DerTag.SEQUENCE, "content").content);
	if (content.length !== 1)
		throw unsupported("the signature is not detached: it holds its own content", content.length);
	const certificates = fields[3]?.tag === DerTag.CONTEXT_0 ? derChildren(fields[3].content) : [];
	const signers = derExpect(fields.at(-1), DerTag.SET, "signers");
	return {
		certificates: certificates.map(({ bytes }) => parseCertificate(bytes)),
		signers: derChildren(signers.content).map(readSigner),
	};
}

/** Outcome of a verification. */
export interface Verification {
	/** Whether a trusted key signed exactly these bytes. */
	valid: boolean;
	/** The key that did. */
	signedBy?: TrustedKey;
	/** Why not, or how, in words for a person. */
	reason: string;
}

async function signerHolds(signer: Signer, key: TrustedKey, data: Uint8Array): Promise<boolean> {
	if (signer.attributes === undefined) return verifyRsa(key.publicKey, signer.digest, signer.signature, data);
	const digest = new Uint8Array(await crypto.subtle.digest(signer.digest, owned(data)));
	if (!sameBytes(digest, signer.messageDigest!)) return false;
	return verifyRsa(key.publicKey, signer.digest, signer.signature, signer.attributes);
}

/**
 * Verifies a detached PKCS #7 signature over a file, as the kernel does when it loads regulatory.db: a trusted certificate
 * is found by issuer and serial number and its key checks the signature. Certificates inside the signature are not trusted.
 *
 * @throws RegdomainError `DER_SYNTAX` or `SIGNATURE_FORMAT` when the signature cannot be read
 */
export async function verifyDetached(
	data: Uint8Array,
	signature: Uint8Array,
	trusted: readonly TrustedKey[],
): Promise<Verification> {
	const { signers } = parseDetachedSignature(signature);
	let reason = "nobody signed";
	for (const signer of signers) {
		const key = trusted.find(
			({ certificate }) =>
				certificate !== undefined &&
				sameBytes(certificate.issuer, signer.issuer) &&
				sameBytes(certificate.serial, signer.serial),
		);
		if (key === undefined) {
			const serial = Array.from(signer.serial, (byte) => byte.toString(16).padStart(2, "0")).join("");
			reason = `no trusted certificate has the signer's issuer and serial number ${serial}`;
		} else if (await signerHolds(signer, key, data)) {
			return { valid: true, signedBy: key, reason: `signed by ${key.name} (RSA, ${signer.digest})` };
		} else {
			reason = `the signature names ${key.name}, but does not fit these bytes`;
		}
	}
	return { valid: false, reason };
}

/**
 * Signs a file as wireless-regdb signs regulatory.db: detached PKCS #7, SHA-256, no signed attributes, with the signer's
 * certificate inside.
 *
 * @param privateKeyPem - RSA private key, PKCS #8 or PKCS #1
 * @returns DER
 * @throws RegdomainError `SIGNATURE_FORMAT` or `SIGNATURE_KEY`
 */
export async function signDetached(
	data: Uint8Array,
	privateKeyPem: string,
	certificate: Certificate,
): Promise<Uint8Array> {
	const key = await importPrivateKey(privateKeyPem, "SHA-256");
	const signature = new Uint8Array(await crypto.subtle.sign("RSASSA-PKCS1-v1_5", key, owned(data)));
	const one = derWrite(DerTag.INTEGER, Uint8Array.of(1));
	const signer = derWrite(
		DerTag.SEQUENCE,
		one,
		derWrite(DerTag.SEQUENCE, certificate.issuer, derWrite(DerTag.INTEGER, certificate.serial)),
		algorithm(Oid.SHA256),
		algorithm(Oid.RSA),
		derWrite(DerTag.OCTET_STRING, signature),
	);
	const signedData = derWrite(
		DerTag.SEQUENCE,
		one,
		derWrite(DerTag.SET, algorithm(Oid.SHA256)),
		derWrite(DerTag.SEQUENCE, derWriteOid(Oid.DATA)),
		derWrite(DerTag.CONTEXT_0, certificate.der),
		derWrite(DerTag.SET, signer),
	);
	return derWrite(DerTag.SEQUENCE, derWriteOid(Oid.SIGNED_DATA), derWrite(DerTag.CONTEXT_0, signedData));
}
