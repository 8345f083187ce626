import { IOAPIC_ADDRESS } from "../chips/ioapic.ts";
import type { IrqChip } from "../chips/irqchip.ts";
import type { LocalApic } from "../chips/local-apic.ts";
import type { Pit } from "../chips/pit.ts";
import type { Ioevent, VcpuExit } from "../kvm/types.ts";
import type { PortIo } from "./cpu/cpu.ts";
import { EXIT_REQUEST, type MmioHandler } from "./translate.ts";

/** An event the embedder registered for writes to an address. */
export interface IoeventEntry {
	readonly event: Ioevent;
	readonly notify: (value: number) => void;
}

/** The engine's own devices, as one vCPU reaches them. */
export interface InternalDevices {
	irqchip: IrqChip | undefined;
	pit: Pit | undefined;
	apic: LocalApic | undefined;
	readonly ioevents: readonly IoeventEntry[];
	now(): number;
}

/** What the execution core tells this side, and is told. */
export interface RequestGate {
	/** Something is to be taken to the embedder before the guest goes on. */
	requestPending: boolean;
	leaveSoon(): void;
	/** Number of the instruction in hand, to tell a restarted one from its next execution. */
	readonly position: number;
	/** The count register, to tell the elements of a repeated instruction apart. */
	readonly element: number;
}

/** What a vCPU leaves to whoever runs it, as it does not have it: it stops in front of such an instruction. */
export interface LeftOver {
	/** System instructions by their row's opcode; `reg` is ModRM's. */
	instruction(opcode: string, reg: number): boolean;
	port(port: number): boolean;
	address(physical: number): boolean;
}

interface Answer {
	readonly kind: "io" | "mmio";
	readonly address: number;
	readonly data: Uint8Array;
	/** The instruction that asked, and the element of it. */
	readonly position: number;
	readonly element: number;
}

/** An instruction asks for more than these many values from the embedder only when it is broken. */
const MOST_ANSWERS = 64;

/**
 * Port and memory-mapped I/O of one vCPU: the engine's own devices answer at once, everything else becomes an exit. A
 * read abandons its instruction, which is executed again with the answer at hand; a write is posted and leaves behind
 * its instruction.
 */
export class ExitPort implements PortIo, MmioHandler {
	private readonly devices: InternalDevices;
	private readonly gate: RequestGate;
	private readonly exits: VcpuExit[] = [];
	private asked: Answer | undefined;
	private answers: Answer[] = [];
	private cursor = 0;
	leftOver: LeftOver | undefined;
	/** The vCPU stands in front of an instruction that is left over. */
	hasLeft = false;

	constructor(devices: InternalDevices, gate: RequestGate) {
		this.devices = devices;
		this.gate = gate;
	}

	/** The next exit for the embedder, if any. */
	take(): VcpuExit | undefined {
		const exit = this.exits.shift();
		this.gate.requestPending = this.exits.length > 0;
		return exit;
	}

	/**
	 * The embedder runs the vCPU again: what it was asked is answered.
	 *
	 * @returns whether there is an answer, for the instruction in hand
	 */
	resume(): boolean {
		const answered = this.asked !== undefined && this.exits.length === 0;
		if (this.asked !== undefined && answered) {
			const { asked } = this;
			this.asked = undefined;
			const first = this.answers[0];
			if (first?.position !== asked.position || first.element !== asked.element) this.answers = [];
			if (this.answers.length < MOST_ANSWERS) this.answers.push(asked);
		}
		this.cursor = 0;
		return answered;
	}

	isLeft(physical: number): boolean {
		const isLeft = this.leftOver?.address(physical) === true;
		this.hasLeft ||= isLeft;
		return isLeft;
	}

	private checkPort(port: number): void {
		if (this.leftOver?.port(port) !== true) return;
		this.hasLeft = true;
		throw EXIT_REQUEST;
	}

	input(port: number, size: 1 | 2 | 4): number {
		this.checkPort(port);
		const inside = this.internalInput(port, size);
		if (inside >= 0) return inside;
		const known = this.answered("io", port, size);
		if (known === undefined) {
			const data = new Uint8Array(size);
			this.ask("io", port, data);
			this.exits.push({ reason: "io", direction: "in", port, size, count: 1, data });
			throw EXIT_REQUEST;
		}
		let value = 0;
		for (let i = 0; i < size; i++) value += known[i]! * 2 ** (8 * i);
		return value;
	}

	output(port: number, size: 1 | 2 | 4, value: number): void {
		this.checkPort(port);
		if (this.internalOutput(port, size, value)) return;
		if (this.notified("pio", port, size, value)) return;
		const data = new Uint8Array(size);
		for (let i = 0; i < size; i++) data[i] = value >>> (8 * i);
		this.exits.push({ reason: "io", direction: "out", port, size, count: 1, data });
		this.post();
	}

	mmioRead(physical: number, into: Uint8Array): boolean {
		if (this.isLeft(physical)) return false;
		if (this.internalRead(physical, into)) return true;
		const known = this.answered("mmio", physical, into.length);
		if (known !== undefined) {
			into.set(known);
			return true;
		}
		const data = new Uint8Array(into.length);
		this.ask("mmio", physical, data);
		this.exits.push({ reason: "mmio", physAddr: physical, isWrite: false, data });
		return false;
	}

	mmioWrite(physical: number, from: Uint8Array): void {
		if (this.internalWrite(physical, from)) return;
		let value = 0;
		for (let i = 0; i < Math.min(from.length, 6); i++) value += from[i]! * 2 ** (8 * i);
		if (this.notified("mmio", physical, from.length, value)) return;
		this.exits.push({ reason: "mmio", physAddr: physical, isWrite: true, data: from.slice() });
		this.post();
	}

	private post(): void {
		this.gate.requestPending = true;
		this.gate.leaveSoon();
	}

	private ask(kind: Answer["kind"], address: number, data: Uint8Array): void {
		const { position, element } = this.gate;
		this.asked = { kind, address, data, position, element };
		this.gate.requestPending = true;
	}

	private answered(kind: Answer["kind"], address: number, size: number): Uint8Array | undefined {
		const answer = this.answers[this.cursor];
		if (answer === undefined) return undefined;
		if (
			answer.kind !== kind ||
			answer.address !== address ||
			answer.data.length !== size ||
			answer.position !== this.gate.position ||
			answer.element !== this.gate.element
		) {
			this.answers = [];
			this.cursor = 0;
			return undefined;
		}
		this.cursor++;
		return answer.data;
	}

	private notified(space: Ioevent["space"], address: number, size: number, value: number): boolean {
		let hit = false;
		for (const { event, notify } of this.devices.ioevents) {
			if (event.space !== space || event.address !== address) continue;
			if (event.length !== 0 && event.length !== size) continue;
			if (event.datamatch !== undefined && event.datamatch !== value) continue;
			hit = true;
			notify(value);
		}
		return hit;
	}

	private internalInput(port: number, size: number): number {
		const { irqchip, pit } = this.devices;
		if (size !== 1) return -1;
		if (irqchip !== undefined && isPicPort(port)) return irqchip.pic.read(port);
		if (pit !== undefined && isPitPort(port)) return pit.read(port, this.devices.now());
		return -1;
	}

	private internalOutput(port: number, size: number, value: number): boolean {
		const { irqchip, pit } = this.devices;
		if (size !== 1) return false;
		if (irqchip !== undefined && isPicPort(port)) {
			irqchip.pic.write(port, value);
			this.gate.leaveSoon();
			return true;
		}
		if (pit !== undefined && isPitPort(port)) {
			pit.write(port, value, this.devices.now());
			this.gate.leaveSoon();
			return true;
		}
		return false;
	}

	private internalRead(physical: number, into: Uint8Array): boolean {
		const { irqchip, apic } = this.devices;
		if (irqchip === undefined) return false;
		let value: number;
		if (physical >= IOAPIC_ADDRESS && physical < IOAPIC_ADDRESS + 0x1000) {
			value = irqchip.ioapic.read(physical - IOAPIC_ADDRESS);
		} else if (apic?.pageVisible === true && physical - (physical % 4096) === apic.pageAddress) {
			value = apic.read(physical % 4096, this.devices.now());
		} else return false;
		for (let i = 0; i < into.length; i++) into[i] = i < 4 ? value >>> (8 * i) : 0;
		return true;
	}

	private internalWrite(physical: number, from: Uint8Array): boolean {
		const { irqchip, apic } = this.devices;
		if (irqchip === undefined) return false;
		let value = 0;
		for (let i = 0; i < Math.min(4, from.length); i++) value |= from[i]! << (8 * i);
		if (physical >= IOAPIC_ADDRESS && physical < IOAPIC_ADDRESS + 0x1000) {
			irqchip.ioapic.write(physical - IOAPIC_ADDRESS, value >>> 0);
		} else if (apic?.pageVisible === true && physical - (physical % 4096) === apic.pageAddress) {
			apic.write(physical % 4096, value >>> 0, this.devices.now());
		} else return false;
		// An interrupt may have become deliverable, or the timer's deadline may have moved.
		this.gate.leaveSoon();
		return true;
	}
}

function isPicPort(port: number): boolean {
	return port === 0x20 || port === 0x21 || port === 0xa0 || port === 0xa1 || port === 0x4d0 || port === 0x4d1;
}

function isPitPort(port: number): boolean {
	return (port >= 0x40 && port <= 0x43) || port === 0x61;
}
