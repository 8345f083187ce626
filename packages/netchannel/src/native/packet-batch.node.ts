import { DatagramBatch } from "./datagrams.node.ts";
import type { Libc } from "./libc.node.ts";

/** Bytes of the control message with a packet's auxiliary data: its header and `struct tpacket_auxdata`. */
const CONTROL_BYTES = 40;
const STATUS_VLAN = 0x10;
const STATUS_VLAN_TPID = 0x40;
const SLOTS = 64;

/** A packet socket read by recvmmsg(2): nothing is mapped, so nothing is left behind. */
export class PacketBatch {
	private readonly batch: DatagramBatch;
	private readonly tagged: Uint8Array;

	constructor(libc: Libc, longest: number) {
		this.batch = new DatagramBatch(libc, SLOTS, longest + 1, { controlBytes: CONTROL_BYTES });
		this.tagged = new Uint8Array(longest + 8);
	}

	/** Delivers what waits, at most one batch. */
	drain(fd: number, deliver: (frame: Uint8Array) => void, _budget: number, open: () => boolean): void {
		const count = this.batch.receive(fd);
		for (let slot = 0; slot < count && open(); slot++) deliver(this.frame(slot));
	}

	close(): void {}

	/** The packet, with the VLAN tag that the kernel took out. */
	private frame(slot: number): Uint8Array {
		const { batch, tagged } = this;
		const bytes = batch.received(slot);
		const about = batch.controlOf(slot);
		if (about.byteLength < 36 || bytes.length < 12) return bytes;
		const status = about.getUint32(16, true);
		if ((status & STATUS_VLAN) === 0) return bytes;
		const tci = about.getUint16(32, true);
		const type = (status & STATUS_VLAN_TPID) !== 0 ? about.getUint16(34, true) : 0x8100;
		tagged.set(bytes.subarray(0, 12));
		tagged.set([type >> 8, type & 255, tci >> 8, tci & 255], 12);
		tagged.set(bytes.subarray(12), 16);
		return tagged.subarray(0, bytes.length + 4);
	}
}
