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
		const stats = vcpus.map((vcpu) => vcpu.getStats());
		const sum = (name: string): number => stats.reduce((total, one) => total + Number(one[name] ?? 0n), 0);
		const { exits, io, mmio, signal, window } = this.#counts;
		return {
			pf_fixed: sum("pf_fixed"),
			pf_guest: sum("pf_guest"),
			tlb_flush: sum("tlb_flush"),
			invlpg: sum("invlpg"),
			exits,
			io_exits: io,
			mmio_exits: mmio,
			signal_exits: signal,
			irq_exits: sum("irq_exits"),
			irq_window: window,
		};
	}
}
