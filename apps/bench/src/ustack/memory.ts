import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { TcpConnection } from "@x/ustack";
import type { Report } from "../suite.ts";
import { pair } from "./pair.ts";

const LIVE = 20_000;
const LONG_BYTES = 1_000_000_000;
const BLOCK = 65_536;

/** The heap that an idle connection holds. */
export async function liveConnections(report: Report): Promise<void> {
	const hosts = pair();
	const kept: unknown[] = [];
	hosts.b.tcp.listen({
		port: 80,
		backlog: 4096,
		onConnection: (c) => {
			kept.push(c);
			return {};
		},
	});
	const collect = collector();
	collect();
	const before = process.memoryUsage();
	for (let i = 0; i < LIVE; i++) {
		await new Promise<void>((resolve) => {
			kept.push(hosts.a.tcp.connect("10.0.0.2", 80, { onConnect: () => resolve() }));
		});
	}
	await new Promise((resolve) => setTimeout(resolve, 200));
	collect();
	const after = process.memoryUsage();
	// Both ends are in this process.
	const each = (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / (LIVE * 2);
	report.table("Live connections", [
		{
			connections: LIVE,
			"heap bytes each": Math.round(each),
			most: 4096,
			kept: kept.length,
		},
	]);
	hosts.close();
}

/** A full collection on demand, whatever flags the process was started with. */
function collector(): () => void {
	setFlagsFromString("--expose-gc");
	return runInNewContext("gc") as () => void;
}

/** How much more memory is held at the end of a gigabyte through one connection than near its beginning. */
export async function longTransfer(report: Report): Promise<void> {
	const hosts = pair();
	const collect = collector();
	const held = () => {
		collect();
		const { heapUsed, arrayBuffers } = process.memoryUsage();
		return heapUsed + arrayBuffers;
	};
	let received = 0;
	let before = 0;
	let after = 0;
	await new Promise<void>((resolve) => {
		hosts.b.tcp.listen({
			port: 80,
			onConnection: () => ({
				onReadable: (c) => {
					while (c.readable > 0) {
						const { length } = c.peek();
						received += length;
						c.consume(length);
					}
					if (before === 0 && received > 50_000_000) before = held();
					if (received < LONG_BYTES || after > 0) return;
					after = held();
					resolve();
				},
			}),
		});
		const block = new Uint8Array(BLOCK);
		let sent = 0;
		const push = (c: TcpConnection) => {
			while (sent < LONG_BYTES) {
				const count = c.write(block.subarray(0, Math.min(BLOCK, LONG_BYTES - sent)));
				sent += count;
				if (count === 0) return;
			}
		};
		hosts.a.tcp.connect("10.0.0.2", 80, { onConnect: push, onWritable: push });
	});
	hosts.close();
	report.table("A long transfer", [
		{
			"MB moved": Math.round(received / 1e6),
			"MiB more held": Number(((after - before) / 2 ** 20).toFixed(1)),
			most: 16,
		},
	]);
}
