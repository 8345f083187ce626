import { expect, test } from "vitest";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import { realModeGuest, START } from "../kvm/real-mode.ts";

test("stepping over an instruction that crosses a page stops at the next one", () => {
	const kvm = openKvm();
	const first = 0x1ffc;
	const jump = first - START - 3;
	const { vcpu, memory, vm, run } = realModeGuest(kvm, [0xe9, jump & 0xff, jump >> 8]);
	// add ebx, 1, of which three bytes lie in the next page; jmp back
	memory.view(first, 9).set([0x66, 0x81, 0xc3, 0x01, 0x00, 0x00, 0x00, 0xeb, 0xf7]);
	memory.written(first, 9);
	vcpu.setGuestDebug({ enable: true, singleStep: true });
	for (let i = 0; i < 10; i++) {
		const next = i % 2 === 0 ? first : first + 7;
		expect(run()).toMatchObject({ reason: "debug", pc: BigInt(next) });
		expect(vcpu.getRegs().rbx).toBe(BigInt((i + 1) >> 1));
	}
	vm.close();
	kvm.close();
});
