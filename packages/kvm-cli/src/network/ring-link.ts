import {
	createRing,
	LinkBase,
	type LinkFeatures,
	type Offload,
	openConsumer,
	openProducer,
	type RingConsumer,
	type RingHandle,
	type RingProducer,
	readVnetHeader,
	VNET_HEADER_BYTES,
	writeVnetHeader,
} from "@x/netchannel";

/** Both directions of a cable between two threads, seen from one end. */
export interface RingLinkHandle {
	readonly receive: RingHandle;
	readonly transmit: RingHandle;
	readonly mtu: number;
}

/** Bytes of frames under way in each direction. */
const CAPACITY = 2 ** 22;
/** Marks a record that begins with a virtio-net header. */
const WITH_HEADER = 1;
/** Frames handed on before what waits in this thread has a turn. */
const BATCH = 256;
/** Both ends hand on frames that are not finished yet: nothing on the way needs a checksum. */
const FEATURES: LinkFeatures = { checksum: true, tso4: true, tso6: true, uso: false };

/** Makes a cable between two threads: each opens one of the two handles, once. */
export function createRingCable(mtu: number): [RingLinkHandle, RingLinkHandle] {
	const [one, other] = [createRing({ capacity: CAPACITY }), createRing({ capacity: CAPACITY })];
	return [
		{ receive: one, transmit: other, mtu },
		{ receive: other, transmit: one, mtu },
	];
}

/** One end of a cable between two threads. */
export class RingLink extends LinkBase {
	readonly #consumer: RingConsumer;
	readonly #producer: RingProducer;
	#waits = false;

	constructor({ receive, transmit, mtu }: RingLinkHandle) {
		super({ mtu }, FEATURES);
		this.#consumer = openConsumer(receive);
		this.#producer = openProducer(transmit);
		void this.#pump();
	}

	protected override transmit(frame: Uint8Array, offload: Offload | undefined): boolean {
		const producer = this.#producer;
		const header = offload === undefined ? 0 : VNET_HEADER_BYTES;
		const at = producer.reserve(header + frame.length);
		if (at < 0) {
			void this.#awaitRoom(header + frame.length);
			return false;
		}
		if (offload !== undefined) writeVnetHeader(producer.bytes, at, offload);
		producer.bytes.set(frame, at + header);
		producer.commit(header + frame.length, offload === undefined ? 0 : WITH_HEADER);
		producer.publish();
		return true;
	}

	protected override shutdown(): void {
		this.#producer.close();
		this.#consumer.close();
	}

	async #awaitRoom(bytes: number): Promise<void> {
		if (this.#waits) return;
		this.#waits = true;
		const room = await this.#producer.waitWritableAsync(bytes).catch(() => false);
		this.#waits = false;
		if (room) this.writable();
	}

	async #pump(): Promise<void> {
		const consumer = this.#consumer;
		while (!this.closed) {
			let frames = 0;
			while (frames < BATCH && !this.closed && consumer.next()) {
				frames++;
				const record = consumer.record();
				if ((consumer.meta & WITH_HEADER) === 0) this.deliver(record);
				else if (record.length >= VNET_HEADER_BYTES)
					this.deliver(record.subarray(VNET_HEADER_BYTES), readVnetHeader(record, 0));
			}
			if (this.closed) return;
			if (frames > 0) {
				consumer.release();
				await new Promise((resolve) => setImmediate(resolve));
			} else if (!(await consumer.waitAsync()) && consumer.peerClosed && !consumer.readable) return;
		}
	}
}
