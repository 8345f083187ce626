import { openKvm } from "@x/kvm-core";

// A guest of five instructions: it writes "hi" to port 0xe9 and halts.
const code = [0xb0, 0x68, 0xe6, 0xe9, 0xb0, 0x69, 0xe6, 0xe9, 0xf4];

const vm = openKvm().createVm({ memoryBytes: 1 << 20 });
const memory = vm.createMemory(1 << 20);
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
memory.view(0x1000, code.length).set(code);

const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

let said = "";
for (;;) {
	const exit = vcpu.run();
	if (exit.reason === "io" && exit.direction === "out" && exit.port === 0xe9)
		said += String.fromCharCode(exit.data[0]!);
	else if (exit.reason !== "intr") break;
}
console.log(said);
vm.close();
