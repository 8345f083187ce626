/** Delivery modes of ICR, LVT, I/O APIC redirection entries and MSI data (SDM vol. 3, 11.6.1). */
export const DELIVERY = {
	fixed: 0,
	lowestPriority: 1,
	smi: 2,
	nmi: 4,
	init: 5,
	startUp: 6,
	extInt: 7,
} as const;

/** What the bus and the local APICs ask of the vCPUs they belong to. Each is called with the vCPU's APIC id. */
export interface ApicEvents {
	/** A vector may have become deliverable: look at `pendingVector` again, and wake the vCPU out of HLT. */
	interrupt(apicId: number): void;
	/** An NMI is to be delivered. */
	nmi(apicId: number): void;
	/** INIT was asserted: reset the vCPU and its APIC with `reset(true)`, then wait for a start-up vector. */
	init(apicId: number): void;
	/** A start-up IPI: execution begins at `vector << 12` when the vCPU waits for it, and is ignored otherwise. */
	startUp(apicId: number, vector: number): void;
	/** An SMI. */
	smi(apicId: number): void;
}

/** What the bus needs to know of a local APIC. */
export interface ApicTarget {
	readonly id: number;
	readonly hardwareEnabled: boolean;
	readonly softwareEnabled: boolean;
	readonly x2apic: boolean;
	readonly logicalDestination: number;
	readonly flatModel: boolean;
	arbitrationPriority: number;
	accept(mode: number, vector: number, level: boolean, assert: boolean): boolean;
}

/** The interconnect between I/O APIC, MSI writers and the local APICs: destination matching and arbitration. */
export class ApicBus {
	readonly apics: ApicTarget[] = [];
	/** Called with the vector of every EOI that was level-triggered. */
	onLevelEoi: (vector: number) => void = () => undefined;
	readonly events: ApicEvents;

	constructor(events: ApicEvents) {
		this.events = events;
	}

	/**
	 * Sends one message and says how many APICs took it.
	 *
	 * @param source - the APIC whose ICR was written; undefined for the I/O APIC and MSIs, whose destinations have 8 bits
	 * @param destination - APIC id, or logical destination
	 */
	deliver(
		source: ApicTarget | undefined,
		destination: number,
		logical: boolean,
		mode: number,
		vector: number,
		level: boolean,
		assert: boolean,
	): number {
		if (mode === DELIVERY.lowestPriority) {
			let chosen: ApicTarget | undefined;
			for (const apic of this.apics) {
				if (!matches(apic, source, destination, logical) || !apic.softwareEnabled) continue;
				if (chosen === undefined || apic.arbitrationPriority < chosen.arbitrationPriority) chosen = apic;
			}
			if (chosen === undefined) return 0;
			chosen.arbitrationPriority++;
			return chosen.accept(DELIVERY.fixed, vector, level, assert) ? 1 : 0;
		}
		let taken = 0;
		for (const apic of this.apics) {
			if (matches(apic, source, destination, logical) && apic.accept(mode, vector, level, assert)) taken++;
		}
		return taken;
	}
}

function matches(apic: ApicTarget, source: ApicTarget | undefined, destination: number, logical: boolean): boolean {
	if (!apic.hardwareEnabled) return false;
	const x2 = apic.x2apic;
	// An 8-bit broadcast of the I/O APIC or an MSI reaches x2APICs too, as KVM has it.
	if (x2 ? destination === 0xffff_ffff || (source === undefined && destination === 0xff) : destination === 0xff) {
		return true;
	}
	if (!logical) return destination === apic.id;
	const own = apic.logicalDestination;
	if (x2) return own >>> 16 === destination >>> 16 && (own & destination & 0xffff) !== 0;
	if (apic.flatModel) return (own & destination) !== 0;
	return own >>> 4 === destination >>> 4 && (own & destination & 0xf) !== 0;
}
