import type { Vcpu, VcpuExit } from "../kvm/types.ts";

/** Counters under the names of the 2006 debugfs files (drivers/kvm/kvm_main.c, `debugfs_entries`). */
export interface ExitStatistics {
	/** Translations fixed up out of the guest's sight. */
	pf_fixed: number;
	/** Page faults delivered to the guest. */
	pf_guest: number;
	tlb_flush: number;
	invlpg: number;
	exits: number;
	io_exits: number;
	mmio_exits: number;
	/** Runs that ended because somebody outside wanted attention. */
	signal_exits: number;
	/** External interrupts. */
	irq_exits: number;
	irq_window: number;
}

/** Counts exits: give every exit to `count`. */
export class ExitCounter {
	readonly #counts = { exits: 0, io: 0, mmio: 0, signal: 0, window: 0 };

	count(exit: VcpuExit): void {
		const counts = this.#counts;
		counts.exits++;
		if (exit.reason === "io") counts.io++;
		else if (exit.reason === "mmio") counts.mmio++;
		else if (exit.reason === "intr") counts.signal++;
		else if (exit.reason === "irq-window-open") counts.window++;
	}

	/** The counters, with what the vCPUs' engine counts itself; 0 where it does not. */
	read(vcpus: readonly Vcpu[]): ExitStatistics {
		const sum = (name: keyof NonNullable<Vcpu["counters"]>): number =>
			vcpus.reduce((total, { counters }) => total + (counters?.[name] ?? 0), 0);
		const { exits, io, mmio, signal, window } = this.#counts;
		const walks = sum("pageWalks");
		const faults = sum("pageFaults");
		return {
			pf_fixed: Math.max(0, walks - faults),
			pf_guest: faults,
			tlb_flush: sum("tlbFlushes"),
			invlpg: sum("pageFlushes"),
			exits,
			io_exits: io,
			mmio_exits: mmio,
			signal_exits: signal,
			irq_exits: sum("interrupts"),
			irq_window: window,
		};
	}
}
