import { createHash } from "node:crypto";
import { Stack, type TcpConfig, TcpLayer } from "@x/ustack";
import { seededBytes, VirtualNetwork, type WireOptions } from "@x/ustack/testing";
import type { Report, Row } from "../suite.ts";

const BLOCK = 65_536;
/** Random loss of a few segments decides a run: the mean of these is told. */
const SEEDS = [1, 2, 3, 4, 5];

/** Virtual time: bytes a second of one transfer over a modelled wire, and what the sender went through. */
function modelled(
	wire: WireOptions,
	config: Partial<TcpConfig>,
	bytes: number,
	seed: number,
): { rate: number; retransmitted: number; timeouts: number; whole: boolean } {
	const network = new VirtualNetwork(seed);
	const ends = network.wire(wire);
	const [a, b] = [0, 1].map((i) => {
		const stack = new Stack({ random: seededBytes(i + 5) });
		network.add(stack);
		const tcp = new TcpLayer(stack, config);
		stack.addAddress(network.attach(stack, ends[i]!), `10.0.0.${i + 1}/24`);
		return tcp;
	}) as [TcpLayer, TcpLayer];
	const sent = createHash("sha1");
	const received = createHash("sha1");
	let ended = false;
	b.listen({
		port: 80,
		onConnection: () => ({
			onReadable: (c) => {
				received.update(c.peek(c.readable).slice());
				c.consume(c.peek(c.readable).length);
				if (c.readable > 0) {
					received.update(c.peek(c.readable).slice());
					c.consume(c.readable);
				}
			},
			onEnd: () => {
				ended = true;
			},
		}),
	});
	const block = seededBlock();
	let offset = 0;
	const push = (c: import("@x/ustack").TcpConnection) => {
		while (offset < bytes) {
			const part = block.subarray(offset % BLOCK, Math.min(BLOCK, (offset % BLOCK) + bytes - offset));
			const count = c.write(part);
			sent.update(part.subarray(0, count));
			offset += count;
			if (count < part.length) return;
		}
		c.end();
	};
	const start = network.now;
	const c = a.connect("10.0.0.2", 80, { onConnect: push, onWritable: push });
	network.run(7_200_000, () => ended);
	return {
		rate: bytes / ((network.now - start) / 1000),
		retransmitted: c.totalRetrans,
		timeouts: c.timeouts,
		whole: ended && sent.digest("hex") === received.digest("hex"),
	};
}

function seededBlock(): Uint8Array {
	const block = new Uint8Array(BLOCK);
	seededBytes(3)(block);
	return block;
}

/** Our TCP over modelled wires. */
export function modelledPaths(report: Report): void {
	const paths: [string, WireOptions, Partial<TcpConfig>, number][] = [
		["40 ms RTT, lossless", { delayMs: 20 }, {}, 20_000_000],
		["40 ms RTT, 1 % loss, NewReno", { delayMs: 20, loss: 0.01 }, { congestion: "reno" }, 20_000_000],
		["40 ms RTT, 1 % loss, CUBIC", { delayMs: 20, loss: 0.01 }, { congestion: "cubic" }, 20_000_000],
		[
			"15 % loss, duplication, reordering, corruption",
			{ delayMs: 5, loss: 0.15, duplicate: 0.15, reorder: 0.15, corrupt: 0.15 },
			{},
			100_000,
		],
		["40 ms RTT, 5 % reordering", { delayMs: 20, reorder: 0.05, reorderMs: 4 }, {}, 10_000_000],
	];
	report.table(
		"Paths in virtual time, means of five seeds; the kernel beside us is the next table",
		paths.map(([path, wire, config, bytes]): Row => {
			const runs = SEEDS.map((seed) => modelled(wire, config, bytes, seed));
			const mean = (of: (run: (typeof runs)[number]) => number) =>
				runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
			return {
				path,
				"KB/s": Math.round(mean((run) => run.rate) / 1000),
				retransmitted: Math.round(mean((run) => run.retransmitted)),
				timeouts: runs.reduce((sum, run) => sum + run.timeouts, 0),
				"every byte right": runs.every((run) => run.whole) ? "yes" : "NO",
			};
		}),
	);
}
