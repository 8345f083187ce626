import { StackError } from "../errors.ts";
import type { TcpConfig } from "./config.ts";
import type { Congestion } from "./congestion.ts";
import type { TcpConnection } from "./connection.ts";
import type { FastOpen } from "./fastopen.ts";
import type { TcpInfo } from "./info.ts";
import type { KeepAlive } from "./keepalive.ts";
import type { LimitMeter } from "./limits.ts";
import type { LossRecovery } from "./loss.ts";
import type { PathProbe } from "./probe.ts";
import type { PushMarks } from "./push.ts";
import type { SynCookies } from "./syncookie.ts";
import type { BufferTuning } from "./tune.ts";

/** Parts of TCP beyond RFC 9293 and NewReno, each made for one layer; what is left out costs nothing in a bundle. */
export interface TcpModules {
	/** CUBIC for {@link TcpConfig.congestion}; without it NewReno stands in. */
	cubic?: (config: TcpConfig) => Congestion;
	/**
	 * SACK, RACK-TLP, F-RTO, PRR and undo; without it losses are found and repaired by NewReno (RFC 6582) and the RTO, and
	 * SACK is not offered.
	 */
	recovery?: LossRecovery;
	fastOpen?: (config: TcpConfig, secret: Uint8Array) => FastOpen;
	/** SYN cookies; without them a full backlog drops SYNs. */
	cookies?: (key: Uint8Array) => SynCookies;
	/** The search for the path's MTU where ICMP does not tell it ({@link TcpConfig.mtuProbing}). Needs `recovery`. */
	probe?: PathProbe;
	/** Buffers that grow with the window; without it they stay as {@link TcpConfig.receiveBuffer} and `sendBuffer` say. */
	tuning?: BufferTuning;
	/** {@link TcpConnection.setKeepAlive}. */
	keepAlive?: KeepAlive;
	/** Where segments ask to be handed on (PSH) as Linux does it; without it where the send buffer empties. */
	push?: PushMarks;
	/** Keeps the times {@link TcpInfo} tells of. */
	meter?: LimitMeter;
	/** What {@link TcpConnection.info} tells. */
	info?: (connection: TcpConnection) => TcpInfo;
}

/** What a call gets that needs a part its layer was made without. */
export function missing(part: keyof TcpModules): StackError {
	return new StackError("ENOPROTOOPT", `this TCP was made without its ${part} module`);
}
