/** What waits for a reader, up to a number of bytes; what comes when it is full is dropped and counted. */
export class ByteBoundQueue<T extends { readonly data: Uint8Array }> {
	private entries: T[] = [];
	private head = 0;
	private bytes = 0;
	readonly limit: number;
	dropped = 0;

	constructor(limit: number) {
		this.limit = limit;
	}

	get length(): number {
		return this.entries.length - this.head;
	}

	/** Whether so many bytes more would be taken; one entry always is, as with the kernel's sockets. */
	fits(bytes: number): boolean {
		if (this.length === 0 || this.bytes + bytes + OVERHEAD <= this.limit) return true;
		this.dropped++;
		return false;
	}

	push(entry: T): void {
		this.entries.push(entry);
		this.bytes += entry.data.length + OVERHEAD;
	}

	shift(): T | undefined {
		if (this.head === this.entries.length) return undefined;
		const entry = this.entries[this.head++]!;
		this.bytes -= entry.data.length + OVERHEAD;
		if (this.head > 64 && this.head * 2 > this.entries.length) {
			this.entries = this.entries.slice(this.head);
			this.head = 0;
		}
		return entry;
	}

	clear(): void {
		this.entries = [];
		this.head = this.bytes = 0;
	}
}

/** What an entry weighs beyond its data, so that empty ones are bounded too. */
const OVERHEAD = 128;
/** net.core.rmem_default. */
export const DEFAULT_QUEUE_BYTES = 212_992;
