/** The worker of `netchannel bench`: sends as fast as it can, through a ring or a port. */
import { type MessagePort, workerData } from "node:worker_threads";
import type { RingHandle } from "../ring/layout.ts";
import { openProducer } from "../ring/ring.ts";

const { ring, port, bytes, messages, batch } = workerData as {
	ring?: RingHandle;
	port?: MessagePort;
	bytes: number;
	messages: number;
	batch: number;
};

if (ring !== undefined) {
	const producer = openProducer(ring, { overflow: "block" });
	for (let sent = 0; sent < messages; sent++) {
		producer.pushScratch(0, bytes);
		if (sent % batch === batch - 1) producer.publish();
	}
	producer.publish();
} else if (port !== undefined) {
	const payload = new Uint8Array(bytes);
	for (let sent = 0; sent < messages; sent++) port.postMessage(payload);
	port.close();
}
