/** One 8259A. */
interface Chip8259 {
	irr: number;
	isr: number;
	imr: number;
	/** Levels of the input lines. */
	lines: number;
	/** Edge/level control: bit set = level. */
	elcr: number;
	/** Upper five bits of the vectors. */
	vectorBase: number;
	/** Which command word comes next on the data port; 0 = none, the port is IMR. */
	initStep: number;
	needsIcw4: boolean;
	singleMode: boolean;
	autoEoi: boolean;
	rotateOnAutoEoi: boolean;
	specialFullyNested: boolean;
	specialMask: boolean;
	readIsr: boolean;
	poll: boolean;
	/** The line with the highest priority. */
	highest: number;
}

/** Plain state of a {@link PicPair}. */
export interface PicState {
	master: Chip8259;
	slave: Chip8259;
}

/** Lines whose trigger mode ELCR cannot change: 0, 1, 2 of the master, 8 and 13 of the slave. */
const ELCR_MASK = [0xf8, 0xde] as const;
const CASCADE = 2;

/**
 * The cascaded 8259A pair of a PC: ports 20h/21h, a0h/a1h and the ELCR at 4d0h/4d1h.
 *
 * @see Intel 8259A data sheet
 */
export class PicPair {
	readonly #chips: [Chip8259, Chip8259] = [powerOn(), powerOn()];
	readonly #onChange: () => void;

	/**
	 * @param onChange - called after every change of the INTR output's inputs; look at `pending`
	 */
	constructor(onChange: () => void) {
		this.#onChange = onChange;
	}

	/** INTR: an interrupt waits to be acknowledged. */
	get pending(): boolean {
		return winner(this.#chips[0]) >= 0;
	}

	/** Level of line 0 to 15. */
	setLine(irq: number, level: boolean): void {
		const slave = irq >> 3;
		const chip = this.#chips[slave];
		const bit = 1 << (irq & 7);
		if ((chip.elcr & bit) !== 0) {
			if (level) chip.irr |= bit;
			else chip.irr &= ~bit;
		} else if (level && (chip.lines & bit) === 0) {
			// The request outlives the line, unlike on the chip: pulses have no length here.
			chip.irr |= bit;
		}
		if (level) chip.lines |= bit;
		else chip.lines &= ~bit;
		this.#settle();
	}

	/** The INTA cycle: the vector to deliver; the spurious one of line 7 when nothing is pending any more. */
	acknowledge(): number {
		const [master, slave] = this.#chips;
		let line = winner(master);
		let vector: number;
		if (line === CASCADE) {
			let slaveLine = winner(slave);
			if (slaveLine >= 0) take(slave, slaveLine);
			else slaveLine = 7;
			vector = slave.vectorBase + slaveLine;
			take(master, CASCADE);
		} else {
			if (line >= 0) take(master, line);
			else line = 7;
			vector = master.vectorBase + line;
		}
		this.#settle();
		return vector;
	}

	/** Byte read from one of the chip's ports. */
	read(port: number): number {
		switch (port) {
			case 0x20:
			case 0xa0:
				return this.#readCommand(this.#chips[port >> 7]);
			case 0x21:
			case 0xa1: {
				const chip = this.#chips[port >> 7];
				return chip.poll ? this.#readCommand(chip) : chip.imr;
			}
			case 0x4d0:
			case 0x4d1:
				return this.#chips[port & 1].elcr;
			default:
				return 0xff;
		}
	}

	/** Byte written to one of the chip's ports. */
	write(port: number, value: number): void {
		value &= 0xff;
		switch (port) {
			case 0x20:
			case 0xa0:
				writeCommand(this.#chips[port >> 7], value);
				break;
			case 0x21:
			case 0xa1:
				writeData(this.#chips[port >> 7], value);
				break;
			case 0x4d0:
			case 0x4d1:
				this.#chips[port & 1].elcr = value & ELCR_MASK[port & 1];
				break;
			default:
		}
		this.#settle();
	}

	/** Power-on state; lines keep their levels. */
	reset(): void {
		for (const chip of this.#chips) {
			const { lines } = chip;
			Object.assign(chip, powerOn());
			chip.lines = lines;
		}
		this.#settle();
	}

	save(): PicState {
		return { master: { ...this.#chips[0] }, slave: { ...this.#chips[1] } };
	}

	restore(state: PicState): void {
		Object.assign(this.#chips[0], state.master);
		Object.assign(this.#chips[1], state.slave);
		this.#onChange();
	}

	#readCommand(chip: Chip8259): number {
		if (!chip.poll) return chip.readIsr ? chip.isr : chip.irr;
		chip.poll = false;
		const line = winner(chip);
		if (line < 0) return 0;
		take(chip, line);
		this.#settle();
		return 0x80 | line;
	}

	/** Carries the slave's output to the master's cascade line. */
	#settle(): void {
		const [master, slave] = this.#chips;
		if (winner(slave) >= 0) {
			master.irr |= 1 << CASCADE;
			master.lines |= 1 << CASCADE;
		} else {
			master.irr &= ~(1 << CASCADE);
			master.lines &= ~(1 << CASCADE);
		}
		this.#onChange();
	}
}

function powerOn(): Chip8259 {
	return {
		irr: 0,
		isr: 0,
		imr: 0,
		lines: 0,
		elcr: 0,
		vectorBase: 0,
		initStep: 0,
		needsIcw4: false,
		singleMode: false,
		autoEoi: false,
		rotateOnAutoEoi: false,
		specialFullyNested: false,
		specialMask: false,
		readIsr: false,
		poll: false,
		highest: 0,
	};
}

/** Distance of the most important set line from `highest`, 8 when none is set. */
function priority(chip: Chip8259, lines: number): number {
	for (let i = 0; i < 8; i++) {
		if ((lines & (1 << ((chip.highest + i) & 7))) !== 0) return i;
	}
	return 8;
}

/** The line to acknowledge next, or -1. */
function winner(chip: Chip8259): number {
	const wanted = priority(chip, chip.irr & ~chip.imr);
	if (wanted === 8) return -1;
	let inService = chip.isr;
	if (chip.specialMask) inService &= ~chip.imr;
	// The slave may interrupt itself again when its master nests fully.
	if (chip.specialFullyNested) inService &= ~(1 << CASCADE);
	return wanted < priority(chip, inService) ? (chip.highest + wanted) & 7 : -1;
}

function take(chip: Chip8259, line: number): void {
	const bit = 1 << line;
	if ((chip.elcr & bit) === 0) chip.irr &= ~bit;
	if (chip.autoEoi) {
		if (chip.rotateOnAutoEoi) chip.highest = (line + 1) & 7;
	} else {
		chip.isr |= bit;
	}
}

function writeCommand(chip: Chip8259, value: number): void {
	if ((value & 0x10) !== 0) {
		// ICW1. Edge detection starts anew; lines keep their levels.
		chip.irr &= chip.elcr;
		chip.imr = 0;
		chip.isr = 0;
		chip.highest = 0;
		chip.specialMask = false;
		chip.readIsr = false;
		chip.poll = false;
		chip.autoEoi = false;
		chip.rotateOnAutoEoi = false;
		chip.specialFullyNested = false;
		chip.needsIcw4 = (value & 1) !== 0;
		chip.singleMode = (value & 2) !== 0;
		chip.initStep = 2;
		return;
	}
	if ((value & 0x08) !== 0) {
		// OCW3.
		if ((value & 0x04) !== 0) chip.poll = true;
		if ((value & 0x02) !== 0) chip.readIsr = (value & 1) !== 0;
		if ((value & 0x40) !== 0) chip.specialMask = (value & 0x20) !== 0;
		return;
	}
	// OCW2.
	const line = value & 7;
	switch (value >> 5) {
		case 0:
		case 4:
			chip.rotateOnAutoEoi = value >> 5 === 4;
			break;
		case 1:
		case 5: {
			const first = priority(chip, chip.isr);
			if (first === 8) break;
			const done = (chip.highest + first) & 7;
			chip.isr &= ~(1 << done);
			if (value >> 5 === 5) chip.highest = (done + 1) & 7;
			break;
		}
		case 3:
			chip.isr &= ~(1 << line);
			break;
		case 6:
			chip.highest = (line + 1) & 7;
			break;
		case 7:
			chip.isr &= ~(1 << line);
			chip.highest = (line + 1) & 7;
			break;
		default:
	}
}

function writeData(chip: Chip8259, value: number): void {
	switch (chip.initStep) {
		case 2:
			chip.vectorBase = value & 0xf8;
			chip.initStep = chip.singleMode ? (chip.needsIcw4 ? 4 : 0) : 3;
			break;
		case 3:
			chip.initStep = chip.needsIcw4 ? 4 : 0;
			break;
		case 4:
			chip.specialFullyNested = (value & 0x10) !== 0;
			chip.autoEoi = (value & 0x02) !== 0;
			chip.initStep = 0;
			break;
		default:
			chip.imr = value;
	}
}
