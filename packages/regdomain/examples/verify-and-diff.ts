// Verify two releases of the database and tell what changed between them.
// Usage: verify-and-diff OLD.db OLD.p7s NEW.db NEW.p7s
import { readFileSync } from "node:fs";
import { diffDatabases, readRegulatoryDb } from "@x/regdomain/formats";
import { knownSigners, verifyDetached } from "@x/regdomain/signature";

const [oldDb, oldSignature, newDb, newSignature] = process.argv.slice(2).map((path) => readFileSync(path));
if (newSignature === undefined) throw new Error("give OLD.db OLD.p7s NEW.db NEW.p7s");

for (const [file, signature] of [
	[oldDb!, oldSignature!],
	[newDb!, newSignature],
] as const) {
	const { valid, reason } = await verifyDetached(file, signature, knownSigners());
	console.log(`${valid ? "valid" : "INVALID"}: ${reason}`);
}

for (const { alpha2, kind, channels } of diffDatabases(readRegulatoryDb(oldDb!), readRegulatoryDb(newDb!))) {
	console.log(`${alpha2} ${kind}, ${channels.length} channels decided differently`);
	for (const { band, channel, changes } of channels.slice(0, 3))
		console.log(`  ${band} GHz ${channel}: ${changes.join(", ")}`);
}
