import { RegdomainError } from "../../errors.ts";
import { readTrustedKeys, type TrustedKey } from "../../signature/keys.ts";
import { signDetached, type Verification, verifyDetached } from "../../signature/pkcs7.ts";
import { signRegulatoryBin, verifyRegulatoryBin } from "../../signature/regulatory-bin.ts";
import { knownSigners } from "../../signature/signers.ts";
import {
	type Command,
	type Context,
	decodeText,
	emit,
	outputOption,
	positionals,
	printJson,
	textOption,
} from "../command.ts";
import { Exit, UsageError } from "../io.ts";

async function trusted(context: Context): Promise<TrustedKey[]> {
	const path = textOption(context, "cert");
	const own = path === undefined ? [] : readTrustedKeys(await context.io.read(path), path);
	return context.args.values["only"] === true ? own : [...own, ...knownSigners()];
}

export const verify: Command = {
	name: "verify",
	usage: "FILE --signature P7S [--cert PEM] [--only]",
	summary: "check regulatory.db with its .p7s, or regulatory.bin with the signature inside",
	options: {
		signature: { type: "string", value: "P7S", help: "detached PKCS #7 signature of a regulatory.db" },
		cert: { type: "string", value: "PEM", help: "certificates or public keys to trust too" },
		only: { type: "boolean", help: "trust --cert alone, not wens, sforshee and benh@debian.org" },
	},
	async run(context) {
		const [path] = positionals(context, "FILE");
		const bytes = await context.io.read(path!);
		const signature = textOption(context, "signature");
		const keys = await trusted(context);
		let result: Verification;
		if (signature !== undefined) result = await verifyDetached(bytes, await context.io.read(signature), keys);
		else if (bytes[7] === 19) result = await verifyRegulatoryBin(bytes, keys);
		else throw new UsageError("--signature P7S is needed: a regulatory.db holds no signature itself");
		if (context.json) {
			printJson(context, {
				valid: result.valid,
				...(result.signedBy === undefined ? {} : { signedBy: result.signedBy.name }),
				reason: result.reason,
			});
		} else {
			context.io.stdout(
				`${context.io.style(result.valid ? "green" : "red", result.valid ? "valid" : "INVALID")}: ${result.reason}\n`,
			);
		}
		return result.valid ? Exit.OK : Exit.FAILED;
	},
};

export const sign: Command = {
	name: "sign",
	usage: "FILE --key PEM [--cert PEM] -o OUT",
	summary: "a .p7s for a regulatory.db, or a signed copy of a regulatory.bin",
	options: {
		...outputOption,
		key: { type: "string", value: "PEM", help: "RSA private key" },
		cert: { type: "string", value: "PEM", help: "its certificate, for regulatory.db" },
	},
	async run(context) {
		const [path] = positionals(context, "FILE");
		const keyPath = textOption(context, "key");
		if (keyPath === undefined) throw new UsageError("--key PEM is needed");
		const bytes = await context.io.read(path!);
		const key = decodeText(await context.io.read(keyPath));
		let signed: Uint8Array;
		if (bytes[7] === 19) {
			signed = await signRegulatoryBin(bytes, key);
		} else {
			const certPath = textOption(context, "cert");
			if (certPath === undefined) throw new UsageError("--cert PEM is needed to sign a regulatory.db");
			const certificate = readTrustedKeys(await context.io.read(certPath)).find(
				(one) => one.certificate !== undefined,
			)?.certificate;
			if (certificate === undefined)
				throw new RegdomainError("SIGNATURE_FORMAT", `${certPath} holds no certificate`, certPath);
			signed = await signDetached(bytes, key, certificate);
		}
		if (context.json && textOption(context, "output") === undefined) throw new UsageError("sign --json needs -o OUT");
		await emit(context, signed);
		if (context.json) printJson(context, { file: textOption(context, "output"), bytes: signed.length });
		return Exit.OK;
	},
};
