import type { TcpConnection } from "./connection.ts";

/** RFC 9293 section 3.3.2's states, in an order that makes the tests below ranges. */
export const CLOSED = 0;
export const LISTEN = 1;
export const SYN_SENT = 2;
export const SYN_RECEIVED = 3;
export const ESTABLISHED = 4;
export const CLOSE_WAIT = 5;
export const FIN_WAIT_1 = 6;
export const FIN_WAIT_2 = 7;
export const CLOSING = 8;
export const LAST_ACK = 9;
export const TIME_WAIT = 10;

export type TcpState =
	| "CLOSED"
	| "LISTEN"
	| "SYN-SENT"
	| "SYN-RECEIVED"
	| "ESTABLISHED"
	| "CLOSE-WAIT"
	| "FIN-WAIT-1"
	| "FIN-WAIT-2"
	| "CLOSING"
	| "LAST-ACK"
	| "TIME-WAIT";

export const STATE_NAMES: readonly TcpState[] = [
	"CLOSED",
	"LISTEN",
	"SYN-SENT",
	"SYN-RECEIVED",
	"ESTABLISHED",
	"CLOSE-WAIT",
	"FIN-WAIT-1",
	"FIN-WAIT-2",
	"CLOSING",
	"LAST-ACK",
	"TIME-WAIT",
];

/** Loss-recovery states, by Linux's names. */
export const CA_OPEN = 0;
export const CA_DISORDER = 1;
export const CA_CWR = 2;
export const CA_RECOVERY = 3;
export const CA_LOSS = 4;

export const CA_NAMES: readonly string[] = ["open", "disorder", "cwr", "recovery", "loss"];

export function setState(c: TcpConnection, state: number): void {
	const { stack } = c.layer;
	if (c.state === SYN_RECEIVED && c.listener !== undefined) c.listener.halfOpen--;
	c.state = state;
	if (stack.onEvent !== undefined) stack.trace("tcp-state", `${c.localPort}->${c.remotePort} ${STATE_NAMES[state]}`);
}
