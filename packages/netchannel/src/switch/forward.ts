import { LinkError } from "../link/errors.ts";
import type { Link, Offload } from "../link/link.ts";
import { segmentFrame } from "./segment.ts";

/** Counters of a switch's port. */
export interface PortStats {
	/** Frames that came in. */
	received: number;
	/** Frames that went out. */
	sent: number;
	/** Frames that could not go out: no room, over the MTU, or the link failed. */
	dropped: number;
}

/**
 * Sends a frame on a link that may take less than the one it came from: what the link cannot segment is segmented here
 * first. Counts in `stats`.
 */
export function forward(link: Link, frame: Uint8Array, offload: Offload | undefined, stats: PortStats): void {
	const pass = (part: Uint8Array, rest: Offload | undefined): void => {
		try {
			if (link.send(part, rest)) stats.sent++;
			else stats.dropped++;
		} catch (error) {
			if (!(error instanceof LinkError)) throw error;
			stats.dropped++;
		}
	};
	if (offload === undefined || offload.gsoType === "none" || takes(link, offload)) pass(frame, offload);
	else if (!segmentFrame(frame, link.medium, offload, (segment) => pass(segment, undefined))) stats.dropped++;
}

function takes(link: Link, offload: Offload): boolean {
	const { tso4, tso6, uso } = link.features;
	return (
		(offload.gsoType === "tcpv4" && tso4) || (offload.gsoType === "tcpv6" && tso6) || (offload.gsoType === "udp" && uso)
	);
}
