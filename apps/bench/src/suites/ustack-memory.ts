import type { Suite } from "../suite.ts";
import { liveConnections, longTransfer } from "../ustack/memory.ts";

/** A part of the suite `ustack`, alone: what connections hold. */
const suite: Suite = async (report) => {
	await liveConnections(report);
	await longTransfer(report);
};

export default suite;
