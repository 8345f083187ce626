import { statSync } from "node:fs";
import { LinkError } from "../link/errors.ts";
import { holdDescriptor, type Libc, loadLibc, releaseDescriptor, systemFailure } from "../native/libc.node.ts";
import { type ConsumerOptions, RingConsumer } from "./consumer.ts";
import { ringBytes } from "./layout.ts";
import { viewMappedRing } from "./memory.ts";
import { type ProducerOptions, RingProducer } from "./producer.ts";
import { formatRing, type RingOptions, requireRingOptions } from "./ring.ts";
import type { Sleeper } from "./sleep.ts";

/** A ring in memory that another process maps too. */
export interface ProcessRing {
	/** What the other process opens it by, while this one has it open: a path under /proc. */
	readonly path: string;
	producer(options?: ProducerOptions): RingProducer;
	consumer(options?: ConsumerOptions): RingConsumer;
	/** Gives the memory back once nothing refers to the ring's ends any more. */
	close(): void;
}

const MFD_CLOEXEC = 1;
const O_RDWR_CLOEXEC = 0x80002;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffffffffffffffffn;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
const PAGE = 4096;
/** Longest a wait may keep a thread of the pool, or hold up the end of a worker. */
const SLICE_MS = 100;

const unmapped = new FinalizationRegistry<{ libc: Libc; address: bigint; length: number }>(
	({ libc, address, length }) => {
		libc.munmap(address, length);
	},
);

/** Futexes of the kernel: `Atomics.wait` works in one process only. */
function createFutexSleeper(libc: Libc, address: bigint, words: Int32Array): Sleeper {
	const timespec = (ms: number): Uint8Array => {
		const bytes = new Uint8Array(16);
		const view = new DataView(bytes.buffer);
		view.setBigInt64(0, BigInt(Math.floor(ms / 1000)), true);
		view.setBigInt64(8, BigInt(Math.floor((ms % 1000) * 1e6)), true);
		return bytes;
	};
	const at = (word: number): bigint => address + BigInt(4 * word);
	const slices = function* (word: number, timeoutMs: number): Generator<Uint8Array> {
		for (let left = timeoutMs; left > 0 && Atomics.load(words, word) === 1; left -= SLICE_MS)
			yield timespec(Math.min(left, SLICE_MS));
	};
	return {
		canBlock: true,
		holdsLoop: false,
		wait(word, timeoutMs) {
			for (const slice of slices(word, timeoutMs)) libc.futex(at(word), FUTEX_WAIT, 1, slice);
		},
		async waitAsync(word, timeoutMs) {
			for (const slice of slices(word, timeoutMs)) await libc.futexAsync(at(word), FUTEX_WAIT, 1, slice);
		},
		wake(word) {
			libc.futex(at(word), FUTEX_WAKE, 2 ** 31 - 1, null);
		},
	};
}

function mapRing(libc: Libc, fd: number, length: number, path: string, options?: Required<RingOptions>): ProcessRing {
	const address = libc.mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
	if (address === MAP_FAILED) throw systemFailure(libc, "mmap", `cannot map ${path}`);
	const buffer = libc.view(address, length);
	unmapped.register(buffer, { libc, address, length });
	const words = new Int32Array(buffer);
	if (options !== undefined) formatRing(words, 0, options);
	const view = viewMappedRing(buffer, 0, createFutexSleeper(libc, address, words));
	let closed = false;
	return {
		path,
		producer: (end) => new RingProducer(view, end),
		consumer: (end) => new RingConsumer(view, end),
		close() {
			if (closed) return;
			closed = true;
			releaseDescriptor(fd);
		},
	};
}

/**
 * Makes a ring between processes, in anonymous memory (memfd). Linux with koffi.
 *
 * @throws LinkError `ERR_LINK_UNSUPPORTED`
 */
export async function createProcessRing(options: RingOptions = {}): Promise<ProcessRing> {
	const libc = await loadLibc();
	const checked = requireRingOptions({ ...options, shared: false });
	const made = libc.memfdCreate("netchannel-ring", MFD_CLOEXEC);
	if (made < 0) throw systemFailure(libc, "memfd_create", "cannot make shared memory");
	const fd = holdDescriptor(libc, made);
	try {
		const length = Math.ceil(ringBytes(checked.capacity, checked.scratch) / PAGE) * PAGE;
		if (libc.ftruncate(fd, length) < 0)
			throw systemFailure(libc, "ftruncate", `cannot make ${length} bytes of shared memory`);
		return mapRing(libc, fd, length, `/proc/${process.pid}/fd/${fd}`, checked);
	} catch (error) {
		releaseDescriptor(fd);
		throw error;
	}
}

/**
 * Opens the ring another process made, by its `path`.
 *
 * @throws LinkError `ERR_LINK_NOT_FOUND`, `ERR_LINK_PERMISSION`; RingError when there is no ring of this version
 */
export async function openProcessRing(path: string): Promise<ProcessRing> {
	const libc = await loadLibc();
	const opened = libc.open(path, O_RDWR_CLOEXEC);
	if (opened < 0) throw systemFailure(libc, "open", `cannot open the ring ${path}`, "the same user or CAP_SYS_PTRACE");
	const fd = holdDescriptor(libc, opened);
	try {
		const { size } = statSync(`/proc/self/fd/${fd}`);
		if (size < PAGE || size > 2 ** 32)
			throw new LinkError("ERR_LINK_OPTION", `${path} has ${size} bytes: that is no ring`);
		return mapRing(libc, fd, size, path);
	} catch (error) {
		releaseDescriptor(fd);
		throw error;
	}
}
