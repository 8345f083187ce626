/** The classifier against a Map of strings. */
import { createClassifier, PacketKey, parsePacket } from "@x/netchannel";
import { median, pairedRatio, type Report, type Row } from "../suite.ts";

/** Frames a link hands over at a time, in memory it uses again: what is classified was just written, as by a read. */
const BATCH = 64;
/** Bytes from one to the next: an Ethernet frame with a tag, and one more to see what is longer. */
const STRIDE = 1519;
/** Batches until it is the other side's turn, turns a round and rounds; the first round is the compiler's. */
const SLICE = 30;
const ROUND = 100;
const ROUNDS = 5;

// biome-ignore format: headers
const FRAME = Uint8Array.of(
	2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0,
	0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 0, 10, 0, 0, 1,
	0, 0, 0, 53, 0, 26, 0, 0, ...new Uint8Array(18),
);

/** Nanoseconds a packet for exact five-tuples, parsing included on both sides. */
export async function classifierCost(report: Report): Promise<void> {
	const rows: Row[] = [];
	const memory = new Uint8Array(BATCH * STRIDE);
	const frames = Array.from({ length: BATCH }, (_, slot) => {
		memory.set(FRAME, slot * STRIDE);
		return memory.subarray(slot * STRIDE, slot * STRIDE + FRAME.length);
	});
	for (const flows of [64, 1000, 60_000]) {
		const classifier = createClassifier({ seed: 12345 });
		const map = new Map<string, number>();
		for (let flow = 0; flow < flows; flow++) {
			const remote = `10.1.${flow >> 8}.${flow & 255}`;
			classifier.add({ local: "10.0.0.1", remote, protocol: 17, localPort: 53, remotePort: 1024 + flow });
			map.set(`${0x0a000001},${(10 << 24) | (1 << 16) | flow},17,${(53 << 16) | (1024 + flow)}`, flow);
		}
		const key = new PacketKey();
		// Each side has a loop of its own: in a shared one the compiler, having seen two callees, inlines neither, and what
		// is measured is that: it halved the speed of the classifier.
		const ours = (): number => {
			let found = 0;
			for (let slot = 0; slot < BATCH; slot++) if (classifier.classify(frames[slot]!, "ethernet") >= 0) found++;
			return found;
		};
		const theirs = (): number => {
			let found = 0;
			for (let slot = 0; slot < BATCH; slot++) {
				parsePacket(key, frames[slot]!, "ethernet");
				const { address, protocol, ports } = key;
				if (map.get(`${address[0]},${address[1]},${protocol},${ports}`) !== undefined) found++;
			}
			return found;
		};
		const costs: [ours: number[], theirs: number[]] = [[], []];
		let packet = 0;
		for (let slice = 0; slice < (ROUNDS + 1) * ROUND; slice++) {
			for (const [side, find] of [ours, theirs].entries()) {
				let spent = 0;
				let found = 0;
				for (let batch = 0; batch < SLICE; batch++) {
					for (let slot = 0; slot < BATCH; slot++, packet++) {
						const flow = ((packet * 40503) >>> 3) % flows;
						const at = slot * STRIDE;
						memory[at + 28] = flow >> 8;
						memory[at + 29] = flow;
						memory[at + 34] = (1024 + flow) >> 8;
						memory[at + 35] = 1024 + flow;
					}
					const started = performance.now();
					found += find();
					spent += performance.now() - started;
				}
				if (found !== SLICE * BATCH) throw new Error(`${SLICE * BATCH - found} packets were not found`);
				if (slice >= ROUND) costs[side]!.push((spent * 1e6) / (SLICE * BATCH));
			}
		}
		rows.push({
			flows,
			"ours, ns": Number(median(costs[0]).toFixed(1)),
			"aim, ns": flows > 1000 ? "-" : "60 or less",
			"x Map<string>": Number(pairedRatio(costs[1], costs[0], ROUND).toFixed(1)),
			"aim, x": flows > 1000 ? "-" : "8 or more",
		});
	}
	report.table("Classifier, a packet", rows);
}
