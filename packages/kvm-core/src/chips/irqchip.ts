import type { IrqRoute, Msi } from "../kvm/types.ts";
import { ApicBus, type ApicEvents } from "./apic-bus.ts";
import { GsiRouting } from "./gsi-routing.ts";
import { IOAPIC_PINS, IoApic, type IoApicState } from "./ioapic.ts";
import { LocalApic } from "./local-apic.ts";
import { PicPair, type PicState } from "./pic.ts";

/** Who drives a line. A pin is high while any of its sources is. */
export const IRQ_SOURCE = { user: 1, pit: 2 } as const;

/** Plain state of an {@link IrqChip}; the local APICs' is saved with their vCPUs. */
export interface IrqChipState {
	pic: PicState;
	ioapic: IoApicState;
	routes: IrqRoute[];
	/** Sources that hold each PIC line (0 to 15) high. */
	picSources: number[];
	/** Sources that hold each I/O APIC pin high. */
	ioapicSources: number[];
}

/**
 * Everything KVM_CREATE_IRQCHIP makes: two PICs, the I/O APIC, a local APIC per vCPU, and GSI routing.
 *
 * For a vCPU: when `events.interrupt(id)` was called, ask `hasInterrupt(id)`; when it can take one, `takeInterrupt(id)`
 * gives the vector. Ports 20h, 21h, a0h, a1h, 4d0h, 4d1h go to `pic`; the page at IOAPIC_ADDRESS to `ioapic`; the
 * page at `LocalApic.pageAddress` and the x2APIC MSRs to the vCPU's own `LocalApic`.
 */
export class IrqChip {
	readonly bus: ApicBus;
	/** Local APICs in order of creation. */
	readonly apics: LocalApic[] = [];
	readonly pic: PicPair;
	readonly ioapic: IoApic;
	readonly routing: GsiRouting = new GsiRouting();
	readonly #picSources = new Uint8Array(16);
	readonly #ioapicSources = new Uint8Array(IOAPIC_PINS);

	constructor(events: ApicEvents) {
		this.bus = new ApicBus(events);
		this.ioapic = new IoApic(this.bus);
		this.bus.onLevelEoi = (vector) => this.ioapic.eoi(vector);
		this.pic = new PicPair(() => {
			if (!this.pic.pending) return;
			for (const apic of this.apics) if (apic.acceptsExtInt) events.interrupt(apic.id);
		});
	}

	/**
	 * Makes the local APIC of a vCPU.
	 *
	 * @param tscToTime - the time in nanoseconds at which that vCPU's TSC reaches a value
	 */
	addLocalApic(id: number, tscToTime: (tsc: number) => number, physicalAddressBits = 40): LocalApic {
		const apic = new LocalApic({ id, bus: this.bus, physicalAddressBits, tscToTime });
		this.bus.apics.push(apic);
		this.apics.push(apic);
		return apic;
	}

	/** Whether a vCPU has a maskable interrupt to take. */
	hasInterrupt(apic: LocalApic): boolean {
		return (apic.acceptsExtInt && this.pic.pending) || apic.pendingVector() >= 0;
	}

	/** Acknowledges the interrupt to deliver and gives its vector, or -1: the PIC's first, as KVM does. */
	takeInterrupt(apic: LocalApic): number {
		if (apic.acceptsExtInt && this.pic.pending) return this.pic.acknowledge();
		return apic.acknowledge();
	}

	/** KVM_IRQ_LINE: the level of all a GSI leads to; a message is sent when the level is high. */
	setIrqLine(gsi: number, level: boolean, source: number = IRQ_SOURCE.user): void {
		const routes = this.routing.of(gsi);
		if (routes === undefined) return;
		for (const route of routes) {
			if (route.type === "msi") {
				if (level) this.signalMsi(route.msi);
			} else if (route.chip === "ioapic") {
				this.ioapic.setLine(route.pin, hold(this.#ioapicSources, route.pin, source, level));
			} else {
				const irq = route.chip === "pic-slave" ? route.pin + 8 : route.pin;
				this.pic.setLine(irq, hold(this.#picSources, irq, source, level));
			}
		}
	}

	/**
	 * KVM_SIGNAL_MSI.
	 *
	 * @returns how many local APICs took it
	 */
	signalMsi(msi: Msi): number {
		return this.sendMsi(Number(msi.address & 0xffff_ffffn), Number((msi.address >> 32n) & 0xffff_ffffn), msi.data);
	}

	/** {@link IrqChip.signalMsi} on halves of the address, which allocates nothing. */
	sendMsi(addressLow: number, addressHigh: number, data: number): number {
		// Bits 8 to 31 of an x2APIC id stand in the high half, as KVM's x2APIC format has them.
		const destination = ((addressLow >>> 12) & 0xff) | (addressHigh & 0xffff_ff00);
		return this.bus.deliver(
			undefined,
			destination >>> 0,
			(addressLow & 4) !== 0,
			(data >>> 8) & 7,
			data & 0xff,
			(data & 0x8000) !== 0,
			true,
		);
	}

	/** The earliest deadline of the local APICs' timers. */
	nextDeadline(): number {
		let first = Number.POSITIVE_INFINITY;
		for (const apic of this.apics) first = Math.min(first, apic.nextDeadline());
		return first;
	}

	/** Runs the local APICs' timers up to `now`. */
	advanceTo(now: number): void {
		for (const apic of this.apics) apic.advanceTo(now);
	}

	save(): IrqChipState {
		return {
			pic: this.pic.save(),
			ioapic: this.ioapic.save(),
			routes: structuredClone(this.routing.all) as IrqRoute[],
			picSources: Array.from(this.#picSources),
			ioapicSources: Array.from(this.#ioapicSources),
		};
	}

	restore(state: IrqChipState): void {
		this.routing.set(state.routes);
		this.#picSources.set(state.picSources);
		this.#ioapicSources.set(state.ioapicSources);
		this.ioapic.restore(state.ioapic);
		this.pic.restore(state.pic);
	}
}

function hold(sources: Uint8Array, pin: number, source: number, level: boolean): boolean {
	if (level) sources[pin] |= source;
	else sources[pin] &= ~source;
	return sources[pin] !== 0;
}
