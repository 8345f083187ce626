import type { GuestMemory } from "../kvm/types.ts";
import type { Machine, MachineExit } from "../machine/machine.ts";
import { DebugError } from "./errors.ts";
import { type KeptVm, VmHistory } from "./vm-history.ts";

/** Instructions between two checkpoints: each looks through all of memory. */
const SPACING = 50_000_000;

/** A machine whose past is recorded. */
export interface RecordedMachine {
	readonly history: VmHistory;
	/** In place of the machine's own `run`. */
	run(): Promise<MachineExit>;
}

/**
 * Records what a machine does from now on. Reads are answered again as they were; where a device does more than to
 * answer, by an interrupt or by writing to memory, the past begins anew. The machine's own devices are not taken back:
 * what was replayed up to the farthest instant goes on with them as they are.
 *
 * @param runOn - runs the machine
 * @throws DebugError ERR_DEBUG_HISTORY for a machine with several vCPUs, or not in virtual time
 */
export function recordMachine(machine: Machine, runOn: () => Promise<MachineExit>): RecordedMachine {
	const [vcpu, ...others] = machine.vcpus;
	if (vcpu === undefined || others.length > 0) {
		throw new DebugError(
			"ERR_DEBUG_HISTORY",
			"only a machine with one vCPU can be gone back with",
			machine.vcpus.length,
		);
	}
	const memory: readonly GuestMemory[] = [machine.memory];
	const history = new VmHistory({ vm: machine.vm as unknown as KeptVm, vcpu, memory, spacing: SPACING });
	machine.recorder = history;
	return {
		history,
		async run() {
			const stop = history.catchUp();
			if (stop?.reason === "debug") return { ...stop, vcpu: vcpu.id };
			return runOn();
		},
	};
}
