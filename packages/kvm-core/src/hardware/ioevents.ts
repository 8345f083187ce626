import { KvmError } from "../kvm/errors.ts";
import type { Ioevent, VcpuExit } from "../kvm/types.ts";

interface Watch {
	readonly event: Ioevent;
	readonly notify: (value: number) => void;
}

type Access = Extract<VcpuExit, { reason: "io" | "mmio" }>;

/** The ioevents of a VM. They are matched here and not by eventfds, which do not say what value was written. */
export class Ioevents {
	readonly #watches = new Set<Watch>();
	/** Whether there are none: what is looked at behind every exit. */
	isEmpty = true;

	/** @throws KvmError EEXIST where another one is told of the same writes */
	check(event: Ioevent): void {
		for (const { event: other } of this.#watches) {
			const sameValue =
				other.datamatch === undefined || event.datamatch === undefined || other.datamatch === event.datamatch;
			const sameLength = other.length === 0 || event.length === 0 || other.length === event.length;
			if (other.space === event.space && other.address === event.address && sameLength && sameValue) {
				throw new KvmError(
					"EEXIST",
					"KVM_IOEVENTFD",
					`${event.space} ${event.address.toString(16)} is watched already`,
				);
			}
		}
	}

	/** Returns the end of it. */
	add(event: Ioevent, notify: (value: number) => void): () => void {
		const watch = { event: { ...event }, notify };
		this.#watches.add(watch);
		this.isEmpty = false;
		return () => {
			this.#watches.delete(watch);
			this.isEmpty = this.#watches.size === 0;
		};
	}

	/** Whether an access was for one of them, which is told. */
	take(exit: Access): boolean {
		const isPio = exit.reason === "io" && exit.direction === "out" && exit.count === 1;
		const isMmio = exit.reason === "mmio" && exit.isWrite;
		if (!isPio && !isMmio) return false;
		const space = isPio ? "pio" : "mmio";
		const address = exit.reason === "io" ? exit.port : exit.physAddr;
		let value = 0;
		for (let i = exit.data.length - 1; i >= 0; i--) value = value * 256 + exit.data[i]!;
		for (const { event, notify } of this.#watches) {
			if (event.space !== space || event.address !== address) continue;
			if (event.length !== 0 && event.length !== exit.data.length) continue;
			if (event.datamatch !== undefined && event.datamatch !== value) continue;
			notify(value);
			return true;
		}
		return false;
	}
}
