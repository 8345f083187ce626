import { classifierCost } from "../netchannel/classifier.ts";
import { nativeParts } from "../netchannel/native.ts";
import { buildPeer } from "../netchannel/peer.ts";
import { ringRoundTrip, ringThroughput } from "../netchannel/ring.ts";
import type { Report, Suite } from "../suite.ts";

type Part = (report: Report, peer: string | undefined) => Promise<void>;

const PARTS: Record<string, readonly Part[]> = {
	classifier: [classifierCost],
	ring: [ringThroughput, ringRoundTrip],
	...nativeParts,
};

/** `--only=ring,tap` runs these parts; without it all of them. */
function wanted(): string[] {
	const only = process.argv.find((word) => word.startsWith("--only="))?.slice("--only=".length);
	if (only === undefined) return Object.keys(PARTS);
	const names = only.split(",");
	const unknown = names.filter((name) => !Object.hasOwn(PARTS, name));
	if (unknown.length > 0) throw new Error(`--only=${only}: expected some of ${Object.keys(PARTS).join(",")}`);
	return names;
}

const suite: Suite = async (report) => {
	const names = wanted();
	const peer = buildPeer(report);
	try {
		for (const name of names) {
			for (const part of PARTS[name]!) {
				try {
					await part(report, peer.path);
				} catch (error) {
					report.note(`skipped ${part.name}: ${(error as Error).message}`);
				}
			}
		}
	} finally {
		peer.remove();
	}
};

export default suite;
