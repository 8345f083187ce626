/**
 * Signatures of regulatory databases, verified and made with Web Crypto.
 *
 * @packageDocumentation
 */
export { type Certificate, fingerprint, parseCertificate, readTrustedKeys, type TrustedKey } from "./keys.ts";
export * from "./pkcs7.ts";
export * from "./regulatory-bin.ts";
export { knownSigners } from "./signers.ts";
