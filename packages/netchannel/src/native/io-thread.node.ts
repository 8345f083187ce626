/** The thread of a threaded link: opens the link, then moves packets until told to stop. See threaded.node.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { pushPacket, recordPacket } from "../channel/channel.ts";
import { LinkError } from "../link/errors.ts";
import type { Link } from "../link/link.ts";
import { openLink } from "../link/open.node.ts";
import { RingConsumer } from "../ring/consumer.ts";
import { viewRing } from "../ring/memory.ts";
import { RingProducer } from "../ring/producer.ts";
import { loadLibc } from "./libc.node.ts";
import { collectWatches } from "./readiness.node.ts";
import type { IoThreadData, IoThreadReply } from "./threaded.node.ts";

const POLLIN = 1;
/** Longest a poll may hold up a process that exits without closing. */
const SLICE_MS = 100;
/** Looks at both sides before the thread sleeps. */
const SPIN = 200;

const port = parentPort!;
const { url, mtu, receive, transmit, doorbell } = workerData as IoThreadData;

async function run(): Promise<void> {
	const libc = await loadLibc();
	const watches = collectWatches();
	const link: Link = await openLink(url, mtu === undefined ? {} : { mtu });
	let failure: Error | undefined;
	link.onError = (error) => {
		failure = error;
	};
	const outgoing = viewRing(transmit);
	const consumer = new RingConsumer(outgoing);
	const producer = new RingProducer(viewRing(receive), { overflow: "drop-newest" });
	let received = 0;
	link.onFrame = (frame, offload) => {
		received++;
		pushPacket(producer, frame, offload);
	};
	const reply: IoThreadReply = { opened: { medium: link.medium, mtu: link.mtu, features: link.features } };
	port.postMessage(reply);
	const set = new Uint8Array(8 * (watches.length + 1));
	const words = new DataView(set.buffer);
	for (const [index, fd] of [doorbell, ...watches.map((watch) => watch.fd)].entries()) {
		words.setInt32(8 * index, fd, true);
		words.setInt16(8 * index + 4, POLLIN, true);
	}
	const counter = new Uint8Array(8);
	/** Moves what waits both ways; true when there was something. */
	const move = (): boolean => {
		const before = received;
		for (const watch of watches) watch.events.readable();
		producer.publish();
		let sent = 0;
		while (sent < 64 && consumer.next()) {
			const { bytes, offload } = recordPacket(consumer);
			try {
				link.send(bytes, offload);
			} catch (error) {
				if (!(error instanceof LinkError)) throw error;
			}
			sent++;
		}
		consumer.release();
		return received !== before || sent > 0;
	};
	let idle = 0;
	while (failure === undefined && !(consumer.peerClosed && !consumer.readable)) {
		if (move()) {
			idle = 0;
			continue;
		}
		if (++idle < SPIN) continue;
		idle = 0;
		Atomics.store(outgoing.words, outgoing.doorbell, 1);
		if (!consumer.readable && !consumer.peerClosed) {
			libc.poll(set, watches.length + 1, SLICE_MS);
			libc.read(doorbell, counter, 8);
		}
		Atomics.store(outgoing.words, outgoing.doorbell, 0);
	}
	producer.close();
	link.close();
	if (failure !== undefined) throw failure;
}

run().then(
	() => port.close(),
	(error: LinkError) => {
		const { code, message, errno, errnoName, syscall } = error;
		const reply: IoThreadReply = { failed: { code, message, errno, errnoName, syscall } };
		port.postMessage(reply);
		port.close();
	},
);
