import type { VcpuExit } from "../kvm/types.ts";
import { EXIT, RUN } from "./ioctls.ts";

/** struct kvm_debug_exit_arch, and the sub-error of an instruction that KVM cannot emulate. */
const EMULATION_FAILURE = 1;
const HAS_INSTRUCTION_BYTES = 1n;

/** Reads an exit from the run page. What it returns has `data` in place, for the embedder to fill. */
export function readExit(view: DataView, page: Uint8Array): VcpuExit {
	const at = RUN.exit;
	const reason = view.getUint32(RUN.exitReason, true);
	switch (reason) {
		case EXIT.IO: {
			const size = view.getUint8(at + 1) as 1 | 2 | 4;
			const count = view.getUint32(at + 4, true);
			const offset = Number(view.getBigUint64(at + 8, true));
			return {
				reason: "io",
				direction: view.getUint8(at) === 1 ? "out" : "in",
				port: view.getUint16(at + 2, true),
				size,
				count,
				data: page.subarray(offset, offset + size * count),
			};
		}
		case EXIT.MMIO:
			return {
				reason: "mmio",
				physAddr: Number(view.getBigUint64(at, true)),
				isWrite: view.getUint8(at + 20) !== 0,
				data: page.subarray(at + 8, at + 8 + view.getUint32(at + 16, true)),
			};
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
