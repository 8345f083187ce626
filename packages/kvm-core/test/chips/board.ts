import { IrqChip } from "../../src/chips/irqchip.ts";

/** An IrqChip whose events are kept as text, and vCPUs whose TSC runs at 1 GHz from 0. */
export function makeBoard(cpus = 1): { chip: IrqChip; events: string[] } {
	const events: string[] = [];
	const chip = new IrqChip({
		interrupt: () => undefined,
		nmi: (id) => events.push(`nmi ${id}`),
		init: (id) => {
			events.push(`init ${id}`);
			chip.apics[id].reset(true);
		},
		startUp: (id, vector) => events.push(`sipi ${id} ${vector.toString(16)}`),
		smi: (id) => events.push(`smi ${id}`),
	});
	for (let id = 0; id < cpus; id++) chip.addLocalApic(id, (tsc) => tsc).write(0xf0, 0x1ff, 0);
	return { chip, events };
}
