import type { Link } from "../link/link.ts";
import { openLink } from "../link/open.node.ts";
import { forward, type PortStats } from "../switch/forward.ts";
import { type CommandIo, EXIT } from "./io.ts";

/** Joins two links until one fails, both have nothing more to give, or the command is interrupted. */
export async function bridge(urls: readonly [string, string], json: boolean, io: CommandIo): Promise<number> {
	const first = await openLink(urls[0], { signal: io.signal });
	let second: Link;
	try {
		second = await openLink(urls[1], { signal: io.signal });
	} catch (error) {
		first.close();
		throw error;
	}
	const stats: [PortStats, PortStats] = [
		{ received: 0, sent: 0, dropped: 0 },
		{ received: 0, sent: 0, dropped: 0 },
	];
	io.err(`bridging ${urls[0]} and ${urls[1]}`);
	const join = (from: Link, to: Link, received: PortStats, sent: PortStats): void => {
		from.onFrame = (frame, offload) => {
			received.received++;
			forward(to, frame, offload, sent);
		};
	};
	const failure = await new Promise<Error | undefined>((resolve) => {
		first.onError = resolve;
		second.onError = resolve;
		io.signal.addEventListener("abort", () => resolve(undefined), { once: true });
		// A capture file has an end; a listening link, whose peer may come again, has none.
		for (const [index, link] of [first, second].entries()) {
			if (urls[index]!.startsWith("pcap:")) link.onCarrier = () => resolve(undefined);
		}
		join(first, second, stats[0], stats[1]);
		join(second, first, stats[1], stats[0]);
	});
	first.close();
	second.close();
	const report = urls.map((url, index) => ({ link: url, ...stats[index]! }));
	if (json) io.out(`${JSON.stringify({ schemaVersion: 1, links: report })}\n`);
	else
		for (const { link, received, sent, dropped } of report)
			io.err(`${link}: ${received} received, ${sent} sent, ${dropped} dropped`);
	if (failure !== undefined) throw failure;
	return io.signal.aborted ? EXIT.interrupted : EXIT.ok;
}
