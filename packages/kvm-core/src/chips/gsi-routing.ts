import type { IrqRoute } from "../kvm/types.ts";

/** GSIs a table can have; KVM's own limit. */
export const MAX_GSIS = 4096;

/** Which pins and messages each GSI leads to. */
export class GsiRouting {
	#routes: readonly IrqRoute[] = [];
	#byGsi: (readonly IrqRoute[])[] = [];

	constructor() {
		this.set(defaultRoutes());
	}

	/** Replaces the table. */
	set(routes: readonly IrqRoute[]): void {
		const byGsi: IrqRoute[][] = [];
		for (const route of routes) (byGsi[route.gsi] ??= []).push(route);
		this.#routes = structuredClone(routes);
		this.#byGsi = byGsi;
	}

	/** Routes of one GSI, or undefined. */
	of(gsi: number): readonly IrqRoute[] | undefined {
		return this.#byGsi[gsi];
	}

	/** The whole table. */
	get all(): readonly IrqRoute[] {
		return this.#routes;
	}
}

/** What KVM starts with: GSI n leads to I/O APIC pin n, and below 16 to the PICs' line n also. */
function defaultRoutes(): IrqRoute[] {
	const routes: IrqRoute[] = [];
	for (let gsi = 0; gsi < 24; gsi++) {
		routes.push({ gsi, type: "irqchip", chip: "ioapic", pin: gsi });
		if (gsi < 8) routes.push({ gsi, type: "irqchip", chip: "pic-master", pin: gsi });
		else if (gsi < 16) routes.push({ gsi, type: "irqchip", chip: "pic-slave", pin: gsi - 8 });
	}
	return routes;
}
