import { randomFillSync } from "node:crypto";
import {
	applyBootPlan,
	type BootPlan,
	type ConsolePort,
	createMachine,
	type Kernel,
	type KernelProtocol,
	type Kvm,
	type Machine,
	type MachineExit,
	planBoot,
	VirtioBlock,
	VirtioConsole,
	type VirtioDevice,
	VirtioRng,
} from "@x/kvm-core";
import { type GuestClock, hostClock } from "./clock.ts";
import type { FileDisk } from "./disk.ts";

/** ERBFI, bit 0 of the UART's interrupt enable register. */
const RECEIVE_INTERRUPT = 1;

/** A port of the guest's virtio console. */
export interface GuestPort {
	readonly name: string;
	/** The array is valid during the call only. */
	onOutput(bytes: Uint8Array): void;
	onDrained(): void;
	/** The guest opened it: only from then on it keeps what is sent there. */
	onOpen(): void;
}

/** What a guest starts from. */
export type GuestBoot =
	| { readonly firmware: BootPlan }
	| {
			readonly kernel: Kernel;
			readonly initrd: Uint8Array | undefined;
			readonly commandLine: string;
			readonly protocol: KernelProtocol | undefined;
	  };

/** What {@link startGuest} is given. Arrays passed to callbacks are valid during the call only. */
export interface GuestOptions {
	/** The engine; it is closed with the guest, or when there comes none to be. */
	readonly kvm: Kvm;
	/** @default nothing: the caller puts something into the machine before it runs */
	readonly boot?: GuestBoot;
	readonly memoryMib: number;
	/** @default 1 */
	readonly cpus?: number;
	readonly disks: readonly FileDisk[];
	readonly debugExitPort: number | undefined;
	readonly testDevice: boolean;
	onSerial(bytes: Uint8Array): void;
	onSerialDrained(): void;
	/** What firmware writes to its debug console, port 402h. */
	onDebug?(bytes: Uint8Array): void;
	/** Ports of a virtio console. @default no such device */
	readonly ports?: readonly GuestPort[];
	/** The clock that the engine was opened with. @default the host's */
	readonly clock?: GuestClock;
	/** Devices besides console, entropy source and disks. */
	readonly devices?: readonly VirtioDevice[];
}

/** A machine with something in it, ready to run. */
export interface Guest {
	readonly machine: Machine;
	run(): Promise<MachineExit>;
	/** @returns how many bytes there was room for */
	serialInput(bytes: Uint8Array): number;
	/** The guest has taken the serial port into use: what it is sent now is not thrown away with the driver's first reset. */
	serialListening(): boolean;
	/** @returns how many bytes there was room for */
	portInput(port: string, bytes: Uint8Array): number;
	/** The guest reads end of file there. */
	closePort(port: string): void;
	/** Makes the guest's writers wait. */
	pausePort(port: string, paused: boolean): void;
	/** Whether these bytes are anywhere in the guest's memory. */
	memoryHolds(bytes: Uint8Array): boolean;
	stop(): void;
	/** Gives everything back. */
	close(): void;
}

/**
 * Puts what a guest starts from into a machine.
 *
 * @throws BootError, MachineError
 */
export function bootGuest(machine: Machine, boot: GuestBoot): void {
	const plan =
		"firmware" in boot
			? boot.firmware
			: planBoot(
					boot.kernel,
					{
						memoryMap: machine.memoryMap,
						commandLine: boot.commandLine,
						rsdpAddress: machine.prepareWithoutFirmware(),
						...(boot.initrd && { initrd: boot.initrd }),
					},
					boot.protocol,
				);
	applyBootPlan(plan, machine, machine.vcpus[0]!);
}

/**
 * Makes a machine and puts a guest into it.
 *
 * @throws BootError, MachineError, KvmError
 */
export function startGuest(options: GuestOptions): Guest {
	const { boot, kvm, ports, clock = hostClock } = options;
	const consolePorts = ports?.map((port): ConsolePort => {
		return {
			name: `xkvm.${port.name}`,
			output: (bytes) => port.onOutput(bytes),
			// The device says so in the middle of taking input: whoever sends must have been told first how much it took.
			drained: () => queueMicrotask(() => port.onDrained()),
			onOpen: (open) => {
				if (open) port.onOpen();
			},
		};
	});
	const virtioConsole = consolePorts && new VirtioConsole(consolePorts as [ConsolePort, ...ConsolePort[]]);
	const virtio: VirtioDevice[] = [
		...(virtioConsole ? [virtioConsole] : []),
		new VirtioRng((bytes) => randomFillSync(bytes)),
		...options.disks.map((backend, i) => new VirtioBlock({ backend, id: backend.id ?? `xkvm-disk${i}` })),
		...(options.devices ?? []),
	];
	let machine: Machine;
	try {
		machine = createMachine({
			kvm,
			memoryBytes: options.memoryMib * 2 ** 20,
			cpus: options.cpus ?? 1,
			now: () => clock.now(),
			epochSeconds: Math.floor(Date.now() / 1000),
			scheduler: clock.scheduler,
			onSerial: (bytes) => options.onSerial(bytes),
			onSerialDrained: () => options.onSerialDrained(),
			...(options.onDebug && { onDebug: options.onDebug }),
			virtio,
			testDevice: options.testDevice,
			...(options.debugExitPort !== undefined && { debugExitPort: options.debugExitPort }),
			...(boot !== undefined && "firmware" in boot && { roms: boot.firmware.roms }),
		});
		if (boot !== undefined) bootGuest(machine, boot);
	} catch (error) {
		kvm.close();
		throw error;
	}
	const index = (name: string): number => ports?.findIndex((port) => port.name === name) ?? -1;
	return {
		machine,
		run: () => machine.run(),
		serialInput: (bytes) => machine.board.serial.input(bytes),
		serialListening: () => (machine.board.serial.save().ier & RECEIVE_INTERRUPT) !== 0,
		portInput: (name, bytes) => virtioConsole?.input(index(name), bytes) ?? 0,
		closePort: (name) => virtioConsole?.setOpen(index(name), false),
		pausePort: (name, paused) => virtioConsole?.setPaused(index(name), paused),
		memoryHolds: (bytes) =>
			machine.memoryMap.some(({ start, length }) => {
				const window = machine.ram.span(start, length);
				if (window === undefined) return false;
				return Buffer.from(window.buffer, window.byteOffset, window.byteLength).includes(Buffer.from(bytes));
			}),
		stop: () => machine.stop(),
		close() {
			machine.close();
			kvm.close();
		},
	};
}
