import { put32 } from "../wire/bytes.ts";
import type { TcpConnection } from "./connection.ts";
import { after, before } from "./seq.ts";
import { CLOSE_WAIT, CLOSING, LAST_ACK } from "./state.ts";

const MAX_BLOCKS = 4;

/** Writes the SACK option, a duplicate's block first (RFC 2018, RFC 2883); returns its length. */
export function putSack(c: TcpConnection, tx: Uint8Array, start: number): number {
	const dsack = c.hasDsack ? 1 : 0;
	const count = Math.min((c.sackBlocks.length >> 1) + dsack, c.tsOk ? 3 : 4);
	put32(tx, start, 0x01010500 | (2 + count * 8));
	let at = start + 4;
	if (dsack) {
		put32(tx, at, c.dsackStart);
		put32(tx, at + 4, c.dsackEnd);
		at += 8;
	}
	for (let i = 0; i < count - dsack; i++) {
		put32(tx, at, c.sackBlocks[i * 2]!);
		put32(tx, at + 4, c.sackBlocks[i * 2 + 1]!);
		at += 8;
	}
	return at - start;
}

/** Moves a range to the front of the SACK blocks, swallowing what it covers (RFC 2018 section 4). */
export function touchBlock(c: TcpConnection, start: number, end: number): void {
	const blocks = c.sackBlocks;
	// A FIN behind the data is told with it.
	if (c.finAhead && end === c.finSeq) end = (end + 1) | 0;
	for (let i = blocks.length - 2; i >= 0; i -= 2) {
		if (!after(blocks[i]!, end) && !before(blocks[i + 1]!, start)) blocks.splice(i, 2);
	}
	blocks.unshift(start, end);
	if (blocks.length > MAX_BLOCKS * 2) blocks.length = MAX_BLOCKS * 2;
}

/** Takes out the blocks that arrived in order by now. */
export function pruneBlocks(c: TcpConnection): void {
	const blocks = c.sackBlocks;
	for (let i = blocks.length - 2; i >= 0; i -= 2) if (!after(blocks[i + 1]!, c.rcvNxt)) blocks.splice(i, 2);
}

/** The next acknowledgement reports a duplicate (RFC 2883). */
export function duplicate(c: TcpConnection, start: number, end: number): void {
	if (!c.sackOk || !c.layer.config.dsack) return;
	c.hasDsack = true;
	c.dsackStart = start;
	c.dsackEnd = end;
}

/** What of `start..end` is in the range ahead at `i` is a duplicate. */
export function duplicateAhead(c: TcpConnection, start: number, end: number, i: number): void {
	const from = after(start, c.ahead[i]!) ? start : c.ahead[i]!;
	const to = before(end, c.ahead[i + 1]!) ? end : c.ahead[i + 1]!;
	if (before(from, to)) duplicate(c, from, to);
}

/** RFC 5961 3.2 as Linux extends it: a reset behind the last block, or before the FIN that was taken already. */
export function endsAt(c: TcpConnection, seq: number): boolean {
	if (c.sackOk && c.ahead.at(-1) === seq) return true;
	return ((seq + 1) | 0) === c.rcvNxt && (c.state === CLOSE_WAIT || c.state === LAST_ACK || c.state === CLOSING);
}
