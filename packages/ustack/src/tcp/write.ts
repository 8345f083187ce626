import type { TcpConnection } from "./connection.ts";

/** Puts bytes behind the send buffer's. */
export function enqueue(c: TcpConnection, bytes: Uint8Array, count: number, more: boolean, record: boolean): void {
	const { sendRing } = c;
	const start = (c.dataSeq + sendRing.length) | 0;
	sendRing.write(sendRing.length, bytes, 0, count);
	sendRing.length += count;
	const end = (start + count) | 0;
	c.layer.push?.queued(c, start, end, more);
	if (record) c.records.push(end);
	c.more = more;
	c.layer.meter?.queued(c);
}
