import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { writeRegulatoryBin, writeRegulatoryDb } from "../../src/formats/index.ts";
import {
	fingerprint,
	knownSigners,
	parseDetachedSignature,
	readTrustedKeys,
	signDetached,
	signRegulatoryBin,
	verifyDetached,
	verifyRegulatoryBin,
} from "../../src/signature/index.ts";

const firmware = "/lib/firmware/regulatory.db";
const packaged = ["debian", "upstream"].filter((kind) => existsSync(`${firmware}-${kind}`));
const haveOpenssl = ((): boolean => {
	try {
		execFileSync("openssl", ["version"], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
})();

test("the embedded certificates have the published fingerprints", async () => {
	const prints = await Promise.all(knownSigners().map(({ certificate }) => fingerprint(certificate!.der)));
	const ends = prints.map((print) => [print.slice(0, 11), print.slice(-5)]);
	expect(ends).toEqual([
		["EE:B0:49:59", "0B:CF"],
		["CA:D3:DD:C5", "F6:B0"],
		["AD:11:BB:00", "B9:36"],
	]);
});

describe.skipIf(packaged.length === 0)("Debian's wireless-regdb (skipped where the package is not installed)", () => {
	test.each(packaged)("regulatory.db-%s verifies with its own .p7s and fails with one byte flipped", async (kind) => {
		const data = readFileSync(`${firmware}-${kind}`);
		const signature = readFileSync(`${firmware}.p7s-${kind}`);
		const result = await verifyDetached(data, signature, knownSigners());
		expect(result).toMatchObject({ valid: true, signedBy: { name: kind === "debian" ? "benh@debian.org" : "wens" } });
		for (const at of [0, 777, data.length - 1]) {
			const flipped = Uint8Array.from(data);
			flipped[at]! ^= 1;
			expect(await verifyDetached(flipped, signature, knownSigners())).toMatchObject({ valid: false });
		}
		expect(await verifyDetached(data, signature, [])).toMatchObject({ valid: false });
	});
});

describe.skipIf(!haveOpenssl)("own keys, against openssl (skipped where it is not installed)", () => {
	let folder: string;
	const file = (name: string): string => join(folder, name);
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "regdomain-"));
		const subject = ["-subj", "/CN=tester", "-days", "3650", "-keyout", file("key.pem"), "-out", file("cert.pem")];
		execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...subject], { stdio: "ignore" });
	});
	afterAll(() => rmSync(folder, { recursive: true, force: true }));

	test("makes the same PKCS #7 as openssl, and each verifies the other's", async () => {
		const data = writeRegulatoryDb(bundledDatabase());
		writeFileSync(file("db"), data);
		const pem = readFileSync(file("key.pem"), "utf8");
		const [trusted] = readTrustedKeys(readFileSync(file("cert.pem")));
		const made = await signDetached(data, pem, trusted!.certificate!);
		const options = ["-sign", "-nosmimecap", "-binary", "-noattr", "-outform", "DER", "-md", "sha256"];
		const keys = ["-signer", file("cert.pem"), "-inkey", file("key.pem")];
		execFileSync("openssl", ["smime", ...options, ...keys, "-in", file("db"), "-out", file("p7s")]);
		expect(Buffer.from(made).equals(readFileSync(file("p7s")))).toBe(true);
		expect(await verifyDetached(data, made, [trusted!])).toMatchObject({ valid: true });
		expect(await verifyDetached(data, made, knownSigners())).toMatchObject({ valid: false });
	});

	test("verifies signed attributes too", async () => {
		const data = writeRegulatoryDb(bundledDatabase());
		writeFileSync(file("db"), data);
		const keys = ["-signer", file("cert.pem"), "-inkey", file("key.pem")];
		const options = ["-sign", "-binary", "-outform", "DER", "-md", "sha256"];
		execFileSync("openssl", ["smime", ...options, ...keys, "-in", file("db"), "-out", file("p7s")]);
		const signature = readFileSync(file("p7s"));
		expect(parseDetachedSignature(signature).signers[0]!.attributes).toBeDefined();
		const trusted = readTrustedKeys(readFileSync(file("cert.pem")));
		expect(await verifyDetached(data, signature, trusted)).toMatchObject({ valid: true });
		expect(await verifyDetached(data.subarray(1), signature, trusted)).toMatchObject({ valid: false });
	});

	test("signs regulatory.bin with RSA and SHA-1, as openssl checks", async () => {
		const signed = await signRegulatoryBin(
			writeRegulatoryBin(bundledDatabase()),
			readFileSync(file("key.pem"), "utf8"),
		);
		const trusted = readTrustedKeys(readFileSync(file("cert.pem")));
		expect(await verifyRegulatoryBin(signed, trusted)).toMatchObject({ valid: true });
		writeFileSync(file("body"), signed.subarray(0, -256));
		writeFileSync(file("signature"), signed.subarray(-256));
		const key = execFileSync("openssl", ["x509", "-in", file("cert.pem"), "-pubkey", "-noout"]);
		writeFileSync(file("public.pem"), key);
		const check = ["dgst", "-sha1", "-verify", file("public.pem"), "-signature", file("signature"), file("body")];
		expect(execFileSync("openssl", check, { encoding: "utf8" })).toContain("Verified OK");
		signed[30]! ^= 1;
		expect(await verifyRegulatoryBin(signed, trusted)).toMatchObject({ valid: false });
	});
});
