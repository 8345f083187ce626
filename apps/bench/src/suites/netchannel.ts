import { classifierCost } from "../netchannel/classifier.ts";
import { nativeLinks } from "../netchannel/native.ts";
import { buildPeer } from "../netchannel/peer.ts";
import { ringRoundTrip, ringThroughput } from "../netchannel/ring.ts";
import type { Suite } from "../suite.ts";

const suite: Suite = async (report) => {
	const peer = buildPeer(report);
	try {
		await classifierCost(report);
		await ringThroughput(report, peer.path);
		await ringRoundTrip(report, peer.path);
		await nativeLinks(report, peer.path);
	} finally {
		peer.remove();
	}
};

export default suite;
