import { expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";

const SYSTEM_TIME = 0x4b56_4d01;

test("setting the VM's clock shows in the guest's kvm-clock page", () => {
	let now = 0;
	const vm = openKvm({ time: { kind: "wall", now: () => now } }).createVm({ memoryBytes: 1 << 20 });
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	const vcpu = vm.createVcpu(0);
	const page = new DataView(memory.view(0x5000, 32).buffer, memory.view(0x5000, 32).byteOffset, 32);
	now = 5000;
	expect(vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0x5001n }])).toBe(1);
	const version = page.getUint32(0, true);
	expect([version & 1, page.getBigUint64(8, true), page.getBigUint64(16, true)]).toEqual([0, 5000n, 5000n]);
	now = 7000;
	vm.setClock(1_000_000n);
	expect(page.getUint32(0, true)).toBe(version + 2);
	expect([page.getBigUint64(8, true), page.getBigUint64(16, true)]).toEqual([7000n, 1_000_000n]);
	// The scale that leads from one to the other: 1 ns a tick.
	expect([page.getUint32(24, true), page.getInt8(28)]).toEqual([0x8000_0000, 1]);
});

test("the vCPUs' pages are of one clock, however long they take to write", () => {
	let now = 0;
	const ticking = () => (now += 1000);
	const vm = openKvm({ time: { kind: "wall", now: ticking } }).createVm({ memoryBytes: 1 << 20, vcpus: 2 });
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	const view = memory.view(0x5000, 0x1000);
	const page = new DataView(view.buffer, view.byteOffset, view.byteLength);
	const offsets = [0, 1].map((id) => {
		vm.createVcpu(id).setMsrs([{ index: SYSTEM_TIME, data: BigInt(0x5001 + id * 64) }]);
		// The TSC counts nanoseconds, so that the difference is what a reading adds to it.
		return page.getBigUint64(id * 64 + 16, true) - page.getBigUint64(id * 64 + 8, true);
	});
	expect(offsets[0]).toBe(offsets[1]);
});
