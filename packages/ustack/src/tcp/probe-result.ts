import type { TcpConnection } from "./connection.ts";
import { syncMss } from "./mss.ts";

/** The probe arrived: segments are as large from now on. */
export function probeArrived(c: TcpConnection): void {
	const before = c.mss;
	c.probedMss = c.probeSize;
	c.probeSize = 0;
	syncMss(c);
	c.cwnd = Math.max(1, Math.floor((c.cwnd * before) / c.mss));
}

/** The probe did not arrive: nothing as large is tried again for a while. */
export function probeLost(c: TcpConnection): void {
	c.probeHigh = c.probeSize - 1;
	c.probeSize = 0;
	c.cwnd++;
}
