import type { VcpuExit } from "../kvm/types.ts";
import { EXIT, RUN } from "./ioctls.ts";

/** struct kvm_debug_exit_arch, and the sub-error of an instruction that KVM cannot emulate. */
const EMULATION_FAILURE = 1;
const HAS_INSTRUCTION_BYTES = 1n;
/** Accesses remembered, by the low bits of their port or address. */
const REMEMBERED = 64;
/** Of struct kvm_run in 32-bit words: an I/O exit's direction, size and port; an MMIO exit's address. */
const WORD = {
	exitReason: RUN.exitReason / 4,
	first: RUN.exit / 4,
	second: RUN.exit / 4 + 1,
	/** I/O: where the data lies. */
	dataOffset: RUN.exit / 4 + 2,
	/** MMIO: bytes. */
	mmioLength: RUN.exit / 4 + 4,
	/** MMIO: in its lowest byte. */
	mmioIsWrite: RUN.exit / 4 + 5,
} as const;
const MMIO_DATA = RUN.exit + 8;

type Io = Extract<VcpuExit, { reason: "io" }>;
type Mmio = Extract<VcpuExit, { reason: "mmio" }>;

interface Remembered<T> {
	readonly first: number;
	readonly second: number;
	readonly third: number;
	readonly exit: T;
}

/**
 * Reads exits from the run page. What they hold in `data` lies on the page, for the embedder to fill. A guest that does
 * the same access again is told of by the same object: to make one each time costs a tenth of an exit.
 */
export class ExitReader {
	readonly #page: Uint8Array;
	readonly #view: DataView;
	readonly #words: Int32Array;
	readonly #io: Remembered<Io>[];
	readonly #mmio: Remembered<Mmio>[];

	constructor(page: Uint8Array) {
		this.#page = page;
		this.#view = new DataView(page.buffer, page.byteOffset, page.byteLength);
		this.#words = new Int32Array(page.buffer, page.byteOffset, page.byteLength >> 2);
		// Filled with what no exit equals, so that every look-up finds an object of one shape.
		const data = page.subarray(0, 0);
		const io: Io = { reason: "io", direction: "in", port: 0, size: 1, count: 0, data };
		const mmio: Mmio = { reason: "mmio", physAddr: 0, isWrite: false, data };
		const blank = { first: -1, second: -1, third: -1 };
		this.#io = Array.from({ length: REMEMBERED }, () => ({ ...blank, exit: io }));
		this.#mmio = Array.from({ length: REMEMBERED }, () => ({ ...blank, exit: mmio }));
	}

	read(): VcpuExit {
		const words = this.#words;
		const reason = words[WORD.exitReason];
		if (reason === EXIT.IO) {
			const first = words[WORD.first]!;
			const known = this.#io[(first >>> 16) % REMEMBERED]!;
			if (known.first === first && known.second === words[WORD.second] && known.third === words[WORD.dataOffset]) {
				return known.exit;
			}
			return this.#newIo();
		}
		if (reason === EXIT.MMIO) {
			const first = words[WORD.first]!;
			const known = this.#mmio[(first >>> 2) % REMEMBERED]!;
			if (known.first === first && known.second === words[WORD.second] && known.third === this.#mmioKind()) {
				return known.exit;
			}
			return this.#newMmio();
		}
		return readOther(this.#view, this.#page);
	}

	#newIo(): Io {
		const words = this.#words;
		const [first, second, third] = [words[WORD.first]!, words[WORD.second]!, words[WORD.dataOffset]!];
		const size = ((first >>> 8) & 0xff) as 1 | 2 | 4;
		const exit: Io = {
			reason: "io",
			direction: (first & 0xff) === 1 ? "out" : "in",
			port: first >>> 16,
			size,
			count: second,
			data: this.#page.subarray(third, third + size * second),
		};
		this.#io[(first >>> 16) % REMEMBERED] = { first, second, third, exit };
		return exit;
	}

	/** Length and direction in one number. */
	#mmioKind(): number {
		return (this.#words[WORD.mmioLength]! & 0xff) * 2 + ((this.#words[WORD.mmioIsWrite]! & 0xff) === 0 ? 0 : 1);
	}

	#newMmio(): Mmio {
		const [first, second] = [this.#words[WORD.first]!, this.#words[WORD.second]!];
		const third = this.#mmioKind();
		const exit: Mmio = {
			reason: "mmio",
			physAddr: (second >>> 0) * 2 ** 32 + (first >>> 0),
			isWrite: (third & 1) === 1,
			data: this.#page.subarray(MMIO_DATA, MMIO_DATA + Math.min(8, third >> 1)),
		};
		this.#mmio[(first >>> 2) % REMEMBERED] = { first, second, third, exit };
		return exit;
	}
}

function readOther(view: DataView, page: Uint8Array): VcpuExit {
	const at = RUN.exit;
	const reason = view.getUint32(RUN.exitReason, true);
	switch (reason) {
		case EXIT.HLT:
			return { reason: "hlt" };
		case EXIT.DEBUG:
			return {
				reason: "debug",
				exception: view.getUint32(at, true),
				pc: view.getBigUint64(at + 8, true),
				dr6: view.getBigUint64(at + 16, true),
				dr7: view.getBigUint64(at + 24, true),
			};
		case EXIT.SHUTDOWN:
		case EXIT.SYSTEM_EVENT:
			return { reason: "shutdown" };
		case EXIT.IRQ_WINDOW_OPEN:
			return { reason: "irq-window-open" };
		case EXIT.FAIL_ENTRY:
			return {
				reason: "fail-entry",
				hardwareEntryFailureReason: view.getBigUint64(at, true),
				cpu: view.getUint32(at + 8, true),
			};
		case EXIT.INTR:
			return { reason: "intr" };
		case EXIT.INTERNAL_ERROR:
			return { reason: "internal-error", suberror: view.getUint32(at, true), data: internalData(view, page) };
		default:
			// An exit that nothing here asked for: its number stands where the sub-error would.
			return { reason: "internal-error", suberror: 0x10000 + reason, data: page.slice(at, at + 32) };
	}
}

function internalData(view: DataView, page: Uint8Array): Uint8Array {
	const at = RUN.exit;
	const suberror = view.getUint32(at, true);
	const words = view.getUint32(at + 4, true);
	if (suberror === EMULATION_FAILURE && words > 0 && (view.getBigUint64(at + 8, true) & HAS_INSTRUCTION_BYTES) !== 0n) {
		const length = Math.min(15, view.getUint8(at + 16));
		return page.slice(at + 17, at + 17 + length);
	}
	return page.slice(at + 8, at + 8 + Math.min(words, 16) * 8);
}
