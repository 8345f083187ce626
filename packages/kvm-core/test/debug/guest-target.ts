import type { DebugTarget } from "../../src/debug/debugger.ts";
import type { Kvm, Vcpu, VcpuExit } from "../../src/kvm/types.ts";
import { GuestRam } from "../../src/machine/guest-ram.ts";
import { stepExit } from "../../src/machine/machine.ts";
import { GUEST_BYTES, type RealModeGuest, realModeGuest } from "../kvm/real-mode.ts";

/** A bare guest as a debugger's target: port writes are noted, HLT is a power-off. */
export function guestTarget(
	kvm: Kvm,
	code: readonly number[],
	options: { ownPoints?: boolean } = {},
): { target: DebugTarget; guest: RealModeGuest; vcpu: Vcpu; ports: number[] } {
	const guest = realModeGuest(kvm, code);
	const ports: number[] = [];
	const ram = new GuestRam();
	ram.add(0, GUEST_BYTES, guest.memory, 0);
	const { vm, vcpu } = guest;
	const target: DebugTarget = {
		vm: {
			checkExtension: (name) => (name === "debug-points" && options.ownPoints === false ? 0 : vm.checkExtension(name)),
		},
		vcpus: [vcpu],
		held: new Set(),
		stepping: undefined,
		ram,
		read: (address, into) => ram.read(address, into),
		stop: () => undefined,
		async run() {
			for (;;) {
				const exit: VcpuExit = guest.run();
				if (exit.reason === "io") {
					if (exit.direction === "out") ports.push(exit.data[0]!);
					if (target.stepping === undefined) continue;
					vcpu.setImmediateExit(true);
					vcpu.run();
					vcpu.setImmediateExit(false);
					return { ...stepExit(vcpu), vcpu: vcpu.id };
				} else if (exit.reason === "hlt") return { reason: "power-off" };
				else if (exit.reason === "debug") return { ...exit, vcpu: vcpu.id };
				else throw new Error(`exit ${exit.reason}`);
			}
		},
	};
	return { target, guest, vcpu, ports };
}
