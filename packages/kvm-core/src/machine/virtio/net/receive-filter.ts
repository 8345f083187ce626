/** Addresses of each kind a table holds; a driver with more gets everything of the kind. */
const TABLE_LIMIT = 64;
const MAC_BYTES = 6;

/** Plain state of a {@link ReceiveFilter}. */
export interface ReceiveFilterState {
	mac: number[];
	promiscuous: boolean;
	allMulticast: boolean;
	allUnicast: boolean;
	noMulticast: boolean;
	noUnicast: boolean;
	noBroadcast: boolean;
	unicast: MacTable;
	multicast: MacTable;
}

interface MacTable {
	/** Addresses as 48-bit numbers. */
	addresses: number[];
	/** There were more than a table holds. */
	overflow: boolean;
}

/**
 * Which frames a driver wants to see, as its control queue said it. Until it says anything it gets everything, as QEMU's
 * device does it too.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 5.1.6.5.1 and 5.1.6.5.2
 */
export class ReceiveFilter {
	readonly mac: Uint8Array;
	promiscuous = true;
	allMulticast = false;
	allUnicast = false;
	noMulticast = false;
	noUnicast = false;
	noBroadcast = false;
	readonly #permanent: Uint8Array;
	#unicast: MacTable = { addresses: [], overflow: false };
	#multicast: MacTable = { addresses: [], overflow: false };

	/**
	 * @param mac - the card's own address
	 */
	constructor(mac: Uint8Array) {
		this.#permanent = mac.slice();
		this.mac = mac.slice();
	}

	/** Whether a frame, at least an Ethernet header long, is for this card. */
	accepts(frame: Uint8Array): boolean {
		if (this.promiscuous) return true;
		const address = toNumber(frame, 0);
		if ((frame[0] & 1) === 0) {
			if (this.noUnicast) return false;
			return this.allUnicast || address === toNumber(this.mac, 0) || has(this.#unicast, address);
		}
		if (address === 0xffff_ffff_ffff) return !this.noBroadcast;
		return !this.noMulticast && (this.allMulticast || has(this.#multicast, address));
	}

	/**
	 * Sets both tables from the body of VIRTIO_NET_CTRL_MAC_TABLE_SET: twice a count and as many addresses.
	 *
	 * @param bytes - its whole length
	 * @param read - copies bytes of the body from an offset on
	 * @returns false when the counts do not fit the body
	 */
	setTables(bytes: number, read: (offset: number, target: Uint8Array) => void): boolean {
		const tables: MacTable[] = [];
		let at = 0;
		for (let i = 0; i < 2; i++) {
			if (at + 4 > bytes) return false;
			const head = new Uint8Array(4);
			read(at, head);
			const count = new DataView(head.buffer).getUint32(0, true);
			at += 4;
			if (count * MAC_BYTES > bytes - at) return false;
			const kept = new Uint8Array(Math.min(count, TABLE_LIMIT) * MAC_BYTES);
			read(at, kept);
			const addresses = Array.from({ length: kept.length / MAC_BYTES }, (_, k) => toNumber(kept, k * MAC_BYTES));
			tables.push({ addresses, overflow: count > TABLE_LIMIT });
			at += count * MAC_BYTES;
		}
		[this.#unicast, this.#multicast] = tables as [MacTable, MacTable];
		return true;
	}

	/** As before any driver. */
	reset(): void {
		this.mac.set(this.#permanent);
		this.promiscuous = true;
		this.allMulticast = this.allUnicast = this.noMulticast = this.noUnicast = this.noBroadcast = false;
		this.#unicast = { addresses: [], overflow: false };
		this.#multicast = { addresses: [], overflow: false };
	}

	save(): ReceiveFilterState {
		const { promiscuous, allMulticast, allUnicast, noMulticast, noUnicast, noBroadcast } = this;
		return {
			mac: Array.from(this.mac),
			...{ promiscuous, allMulticast, allUnicast, noMulticast, noUnicast, noBroadcast },
			unicast: structuredClone(this.#unicast),
			multicast: structuredClone(this.#multicast),
		};
	}

	restore(state: ReceiveFilterState): void {
		this.mac.set(state.mac.slice(0, MAC_BYTES));
		this.promiscuous = state.promiscuous;
		this.allMulticast = state.allMulticast;
		this.allUnicast = state.allUnicast;
		this.noMulticast = state.noMulticast;
		this.noUnicast = state.noUnicast;
		this.noBroadcast = state.noBroadcast;
		this.#unicast = structuredClone(state.unicast);
		this.#multicast = structuredClone(state.multicast);
	}
}

function toNumber(bytes: Uint8Array, at: number): number {
	let value = 0;
	for (let i = 0; i < MAC_BYTES; i++) value = value * 256 + bytes[at + i];
	return value;
}

function has(table: MacTable, address: number): boolean {
	return table.overflow || table.addresses.includes(address);
}
