import { RegdomainError } from "../errors.ts";
import { readRegulatoryBin } from "../formats/regulatory-bin.ts";
import { importPrivateKey, owned, type TrustedKey, verifyRsa } from "./keys.ts";
import type { Verification } from "./pkcs7.ts";

const SIGNATURE_LENGTH_FIELD = 16;

/**
 * Verifies the RSA PKCS #1 v1.5 SHA-1 signature at the end of a regulatory.bin (version 19), as crda did.
 *
 * @throws RegdomainError a `BIN_` code when the file is malformed
 */
export async function verifyRegulatoryBin(bytes: Uint8Array, trusted: readonly TrustedKey[]): Promise<Verification> {
	const { signedBytes, signature } = readRegulatoryBin(bytes);
	if (signature.length === 0) return { valid: false, reason: "the file is not signed" };
	for (const key of trusted) {
		if (await verifyRsa(key.publicKey, "SHA-1", signature, signedBytes)) {
			return { valid: true, signedBy: key, reason: `signed by ${key.name} (RSA, SHA-1)` };
		}
	}
	return { valid: false, reason: "no trusted key fits the signature" };
}

/**
 * Signs a regulatory.bin (version 19) as db2bin.py does: the signature's length goes into the header, then everything is
 * signed with RSA PKCS #1 v1.5 and SHA-1. An earlier signature is replaced.
 *
 * @param privateKeyPem - RSA private key, PKCS #8 or PKCS #1
 * @throws RegdomainError a `BIN_` code, `SIGNATURE_FORMAT` or `SIGNATURE_KEY`
 */
export async function signRegulatoryBin(bytes: Uint8Array, privateKeyPem: string): Promise<Uint8Array> {
	const { signedBytes } = readRegulatoryBin(bytes);
	const key = await importPrivateKey(privateKeyPem, "SHA-1");
	const length = (key.algorithm as RsaHashedKeyAlgorithm).modulusLength / 8;
	const covered = owned(signedBytes);
	new DataView(covered.buffer).setUint32(SIGNATURE_LENGTH_FIELD, length);
	const signature = new Uint8Array(await crypto.subtle.sign("RSASSA-PKCS1-v1_5", key, covered));
	if (signature.length !== length) {
		throw new RegdomainError(
			"SIGNATURE_KEY",
			`the key gave ${signature.length} bytes, not ${length}`,
			signature.length,
		);
	}
	const signed = new Uint8Array(covered.length + length);
	signed.set(covered);
	signed.set(signature, covered.length);
	return signed;
}
