import type { IrqRoute, Msi } from "../kvm/types.ts";
import { acpiFiles, makeAcpi, placeAcpi } from "./acpi/tables.ts";
import { Bus } from "./bus.ts";
import type { GuestRam } from "./guest-ram.ts";
import { DEBUG_CONSOLE_PORT, DebugConsole, DebugExit, TestDevice, type TestDeviceState } from "./legacy/debug-ports.ts";
import { FW_CFG, FW_CFG_PORT, FwCfg, type FwCfgState } from "./legacy/fw-cfg.ts";
import { I8042, type I8042State } from "./legacy/i8042.ts";
import { PM, PowerManagement, type PowerState } from "./legacy/power.ts";
import { Rtc, type RtcState } from "./legacy/rtc.ts";
import { Uart, type UartState } from "./legacy/uart.ts";
import { LAYOUT, planRam } from "./memory-map.ts";
import { PciHost, type PciHostState } from "./pci/host.ts";
import type { VirtioDevice } from "./virtio/device.ts";
import { VirtioPci, type VirtioPciState } from "./virtio/pci-transport.ts";

/** The first serial port. */
const COM1 = 0x3f8;
/** fw_cfg item that says that the PIT's line comes in at I/O APIC pin 2. */
const FW_CFG_IRQ0_OVERRIDE = 0x8002;

/** What a guest can bring the machine to do, other than run. */
export type BoardEvent =
	| { reason: "power-off" }
	| { reason: "reset"; by: "keyboard-controller" | "reset-register" }
	| { reason: "debug-exit"; status: number };

/** Options of a {@link Board}. */
export interface BoardOptions {
	memoryBytes: number;
	cpus: number;
	ram: GuestRam;
	/** The machine's clock: nanoseconds since power-on. */
	now: () => number;
	/** Seconds since 1970 (UTC) at power-on. */
	epochSeconds: number;
	/** Level of a global interrupt line. */
	setIrqLine: (gsi: number, level: boolean) => void;
	signalMsi: (msi: Msi) => void;
	onEvent: (event: BoardEvent) => void;
	/** What the guest sent through COM1; valid during the call only. */
	onSerial: (bytes: Uint8Array) => void;
	/** Room again in COM1's input queue. */
	onSerialDrained?: (() => void) | undefined;
	/** Disks, consoles and others, by slot from 2 on. */
	virtio: readonly VirtioDevice[];
	/** Port of isa-debug-exit. */
	debugExitPort?: number | undefined;
	/** What the guest wrote to the debug console at 402h. */
	onDebug?: ((bytes: Uint8Array) => void) | undefined;
	testDevice?: boolean | undefined;
}

/** Plain, JSON-able state of a {@link Board}. */
export interface BoardState {
	uart: UartState;
	i8042: I8042State;
	rtc: RtcState;
	power: PowerState;
	fwCfg: FwCfgState;
	pci: PciHostState;
	virtio: VirtioPciState[];
	testDevice: TestDeviceState | null;
}

/** The devices around the processors, wired as on a PC. */
export class Board {
	readonly bus: Bus = new Bus();
	readonly serial: Uart;
	readonly i8042: I8042;
	readonly rtc: Rtc;
	readonly power: PowerManagement;
	readonly fwCfg: FwCfg;
	readonly pci: PciHost;
	readonly virtio: readonly VirtioPci[];
	readonly #testDevice: TestDevice | undefined;
	readonly #debugConsole: DebugConsole | undefined;
	readonly #acpi: Uint8Array;

	constructor(options: BoardOptions) {
		const { bus } = this;
		const { setIrqLine, onEvent, ram } = options;
		const line = (gsi: number) => (level: boolean) => setIrqLine(gsi, level);
		this.serial = new Uart({
			irq: line(4),
			output: options.onSerial,
			...(options.onSerialDrained === undefined ? {} : { drained: options.onSerialDrained }),
		});
		bus.addPorts(COM1, 8, this.serial);
		this.i8042 = new I8042(line(1), () => onEvent({ reason: "reset", by: "keyboard-controller" }));
		bus.addPorts(0x60, 1, this.i8042);
		bus.addPorts(0x64, 1, this.i8042);
		bus.addPorts(0x92, 1, this.i8042);
		const ranges = planRam(options.memoryBytes);
		const high = ranges.find((range) => range.start >= LAYOUT.fourGib)?.length ?? 0;
		this.rtc = new Rtc({
			irq: line(8),
			now: options.now,
			epochSeconds: options.epochSeconds,
			memoryBytes: options.memoryBytes - high,
			highMemoryBytes: high,
		});
		this.rtc.setCell(0x5f, options.cpus - 1);
		bus.addPorts(0x70, 2, this.rtc);
		this.power = new PowerManagement({
			irq: line(PM.sciIrq),
			now: options.now,
			onPowerOff: () => onEvent({ reason: "power-off" }),
			onReset: () => onEvent({ reason: "reset", by: "reset-register" }),
		});
		bus.addPorts(PM.event, 12, this.power, false);
		this.fwCfg = new FwCfg(ram);
		bus.addPorts(FW_CFG_PORT, 12, this.fwCfg, false);
		this.pci = new PciHost(bus, setIrqLine, this.power);
		this.virtio = options.virtio.map((device) => {
			const transport = new VirtioPci(device, { bus, ram, signalMsi: options.signalMsi });
			this.pci.add(transport.pci);
			return transport;
		});
		if (options.debugExitPort !== undefined) {
			const debugExit = new DebugExit((status) => onEvent({ reason: "debug-exit", status }));
			bus.addPorts(options.debugExitPort, 4, debugExit, false);
		}
		if (options.onDebug !== undefined) {
			this.#debugConsole = new DebugConsole(options.onDebug);
			bus.addPorts(DEBUG_CONSOLE_PORT, 1, this.#debugConsole);
		}
		if (options.testDevice === true) {
			this.#testDevice = new TestDevice({ setIrqLine });
			this.#testDevice.attach(bus);
		}
		const acpi = makeAcpi(options.cpus);
		this.#acpi = placeAcpi(acpi);
		this.#describe(options.memoryBytes, options.cpus, acpiFiles(acpi));
	}

	/**
	 * What firmware would leave behind, for guests that start without: ACPI tables under 1 MiB, PCI windows placed.
	 *
	 * @returns the RSDP's address
	 */
	prepareWithoutFirmware(ram: GuestRam): number {
		ram.load(LAYOUT.acpi, this.#acpi);
		this.pci.placeAll();
		return LAYOUT.acpi;
	}

	/** When `advance` has something to do. */
	nextDeadline(): number {
		return Math.min(this.rtc.nextDeadline(), this.power.nextDeadline());
	}

	/** Runs timers up to now. */
	advance(): void {
		this.rtc.advance();
		this.power.advance();
	}

	/** Hands collected output on. */
	flush(): void {
		this.serial.flush();
		this.#debugConsole?.flush();
	}

	/** Resolves when no device has anything under way on the host's side. */
	async idle(): Promise<void> {
		for (const { device } of this.virtio) await device.idle();
	}

	/** As after the reset line was pulsed. */
	reset(): void {
		this.serial.reset();
		this.i8042.reset();
		this.rtc.reset();
		this.power.reset();
		this.fwCfg.reset();
		for (const transport of this.virtio) transport.reset();
		this.pci.reset();
	}

	save(): BoardState {
		return {
			uart: this.serial.save(),
			i8042: this.i8042.save(),
			rtc: this.rtc.save(),
			power: this.power.save(),
			fwCfg: this.fwCfg.save(),
			pci: this.pci.save(),
			virtio: this.virtio.map((transport) => transport.save()),
			testDevice: this.#testDevice?.save() ?? null,
		};
	}

	restore(state: BoardState): void {
		this.serial.restore(state.uart);
		this.i8042.restore(state.i8042);
		this.rtc.restore(state.rtc);
		this.power.restore(state.power);
		this.fwCfg.restore(state.fwCfg);
		this.pci.restore(state.pci);
		for (const [i, transport] of this.virtio.entries()) transport.restore(state.virtio[i]);
		if (state.testDevice !== null) this.#testDevice?.restore(state.testDevice);
	}

	/** Fills fw_cfg with what firmware and test kernels ask for. */
	#describe(memoryBytes: number, cpus: number, files: readonly { name: string; bytes: Uint8Array }[]): void {
		const { fwCfg } = this;
		fwCfg.setNumber(FW_CFG.ramSize, memoryBytes, 8);
		fwCfg.setNumber(FW_CFG.cpuCount, cpus, 2);
		fwCfg.setNumber(FW_CFG.maxCpus, cpus, 2);
		fwCfg.setNumber(FW_CFG.bootMenu, 0, 2);
		fwCfg.setNumber(FW_CFG_IRQ0_OVERRIDE, 1, 4);
		for (const { name, bytes } of files) fwCfg.setFile(name, bytes);
		const low = Math.min(memoryBytes, LAYOUT.pciHole);
		const ranges = [{ start: 0, length: low }];
		if (memoryBytes > low) ranges.push({ start: LAYOUT.fourGib, length: memoryBytes - low });
		const e820 = new DataView(new ArrayBuffer(20 * ranges.length));
		for (const [i, { start, length }] of ranges.entries()) {
			e820.setBigUint64(20 * i, BigInt(start), true);
			e820.setBigUint64(20 * i + 8, BigInt(length), true);
			e820.setUint32(20 * i + 16, 1, true);
		}
		fwCfg.setFile("etc/e820", new Uint8Array(e820.buffer));
	}
}

/** GSI routes of this board: as KVM's own, but for the PIT's line, which comes in at I/O APIC pin 2. */
export function boardRoutes(): IrqRoute[] {
	const routes: IrqRoute[] = [];
	for (let gsi = 0; gsi < 24; gsi++) {
		if (gsi < 8) routes.push({ gsi, type: "irqchip", chip: "pic-master", pin: gsi });
		else if (gsi < 16) routes.push({ gsi, type: "irqchip", chip: "pic-slave", pin: gsi - 8 });
		if (gsi === 0) routes.push({ gsi, type: "irqchip", chip: "ioapic", pin: 2 });
		else if (gsi !== 2) routes.push({ gsi, type: "irqchip", chip: "ioapic", pin: gsi });
	}
	return routes;
}
