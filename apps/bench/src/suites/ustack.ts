import type { Suite } from "../suite.ts";
import { bulk } from "../ustack/bulk.ts";
import { liveConnections, longTransfer } from "../ustack/memory.ts";
import { modelledPaths } from "../ustack/modelled.ts";
import { besideTheKernel } from "../ustack/paths.ts";
import { rates } from "../ustack/rates.ts";

/** Everything; each part has a suite of its own as well. */
const suite: Suite = async (report) => {
	await bulk(report);
	await rates(report);
	await liveConnections(report);
	await longTransfer(report);
	modelledPaths(report);
	await besideTheKernel(report);
};

export default suite;
