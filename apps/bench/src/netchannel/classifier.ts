/** The classifier against a Map of strings. */
import { createClassifier, PacketKey, parsePacket } from "@x/netchannel";
import { interleave, median, type Report, type Row } from "../suite.ts";

function frameOf(flow: number): Uint8Array {
	const frame = new Uint8Array(60);
	frame.set([
		2,
		0,
		0,
		0,
		0,
		1,
		2,
		0,
		0,
		0,
		0,
		2,
		8,
		0,
		0x45,
		0,
		0,
		46,
		0,
		0,
		0,
		0,
		64,
		17,
		0,
		0,
		10,
		1,
		flow >> 8,
		flow & 255,
		10,
		0,
		0,
		1,
	]);
	frame.set([(1024 + flow) >> 8, (1024 + flow) & 255, 0, 53], 34);
	return frame;
}

const PACKETS = 600_000;
/** Packets between two looks at the clock: so few that most slices are undisturbed on a busy machine too. */
const SLICE = 2000;

/** Nanoseconds a packet for exact five-tuples, parsing included on both sides. */
export async function classifierCost(report: Report): Promise<void> {
	const rows: Row[] = [];
	for (const flows of [64, 1000, 60_000]) {
		const frames = Array.from({ length: flows }, (_, flow) => frameOf(flow));
		const order = Uint16Array.from({ length: 65536 }, (_, index) => ((index * 40503) >>> 3) % flows);
		const classifier = createClassifier({ seed: 12345 });
		const map = new Map<string, number>();
		for (let flow = 0; flow < flows; flow++) {
			const remote = `10.1.${flow >> 8}.${flow & 255}`;
			classifier.add({ local: "10.0.0.1", remote, protocol: 17, localPort: 53, remotePort: 1024 + flow });
			map.set(`${0x0a000001},${(10 << 24) | (1 << 16) | flow},17,${(53 << 16) | (1024 + flow)}`, flow);
		}
		const key = new PacketKey();
		const measure = (found: (from: number, to: number) => number) => (): number => {
			let all = 0;
			const slices: number[] = [];
			for (let packet = 0; packet < PACKETS; packet += SLICE) {
				const started = performance.now();
				all += found(packet, packet + SLICE);
				slices.push(((performance.now() - started) * 1e6) / SLICE);
			}
			if (all !== PACKETS) throw new Error(`${PACKETS - all} packets were not found`);
			return median(slices);
		};
		// Each side has a loop of its own: in a shared one the compiler, having seen two callees, inlines neither, and what
		// is measured is that: it halved the speed of the classifier.
		const figures = await interleave([
			{
				name: "ours",
				run: measure((from, to) => {
					let found = 0;
					for (let packet = from; packet < to; packet++) {
						if (classifier.classify(frames[order[packet & 65535]!]!, "ethernet") >= 0) found++;
					}
					return found;
				}),
			},
			{
				name: "map",
				run: measure((from, to) => {
					let found = 0;
					for (let packet = from; packet < to; packet++) {
						parsePacket(key, frames[order[packet & 65535]!]!, "ethernet");
						const { address, protocol, ports } = key;
						if (map.get(`${address[0]},${address[1]},${protocol},${ports}`) !== undefined) found++;
					}
					return found;
				}),
			},
		]);
		const ours = figures.get("ours")!;
		rows.push({
			flows,
			"ours, ns": Number(ours.toFixed(1)),
			"aim, ns": flows > 1000 ? "-" : "60 or less",
			"x Map<string>": Number((figures.get("map")! / ours).toFixed(1)),
			"aim, x": flows > 1000 ? "-" : "8 or more",
		});
	}
	report.table("Classifier, a packet", rows);
}
