import type { StackCore } from "../ip/core.ts";
import type { TcpConfig } from "./config.ts";
import type { Congestion } from "./congestion.ts";
import { TcpCore } from "./core.ts";
import { Cubic } from "./cubic.ts";
import { FastOpen } from "./fastopen.ts";
import { HyStartClassic, HyStartPlusPlus } from "./hystart.ts";
import { tcpInfo } from "./info.ts";
import { KEEP_ALIVE } from "./keepalive.ts";
import { LIMIT_METER } from "./limits.ts";
import { PATH_PROBE } from "./probe.ts";
import { LINUX_PUSH } from "./push.ts";
import { SACK_RECOVERY } from "./recovery.ts";
import { SynCookies } from "./syncookie.ts";
import { AUTOTUNING } from "./tune.ts";

/** CUBIC as a configuration wants it. */
export function cubicOf(config: TcpConfig): Congestion {
	const linux = config.cubicStyle === "linux";
	if (!config.hystart) return new Cubic(undefined, linux);
	return new Cubic(linux ? new HyStartClassic() : new HyStartPlusPlus(), linux);
}

/** The whole of TCP: the core with SACK and RACK-TLP, CUBIC, Fast Open, SYN cookies and `info()`. */
export class TcpLayer extends TcpCore {
	declare readonly fastOpen: FastOpen;

	constructor(stack: StackCore, config: Partial<TcpConfig> = {}) {
		super(stack, config, {
			recovery: SACK_RECOVERY,
			cubic: cubicOf,
			fastOpen: (settings, secret) => new FastOpen(settings, secret),
			cookies: (key) => new SynCookies(key),
			probe: PATH_PROBE,
			tuning: AUTOTUNING,
			push: LINUX_PUSH,
			keepAlive: KEEP_ALIVE,
			meter: LIMIT_METER,
			info: tcpInfo,
		});
	}
}
