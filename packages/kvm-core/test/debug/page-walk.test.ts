import { expect, test } from "vitest";
import { longMode, protectedMode } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { describeWalk, walkPages } from "../../src/debug/page-walk.ts";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import { GUEST_BYTES, realModeGuest } from "../kvm/real-mode.ts";

test.each(["legacy", "pae", "4-level"] as const)(
	"%s tables translate as the engine does, without a trace",
	(format) => {
		const { vm, vcpu, memory } = realModeGuest(openKvm(), [0xf4]);
		const bytes = memory.view(0, GUEST_BYTES);
		const tables = new PageTables(format, bytes, 0, { start: 0x10000, bytes: 0x8000 });
		tables.map(0x5000n, 0x1000, 0x2000, 0x1000, { user: true });
		tables.map(0x8000n, 0x3000, 0x1000, 0x1000, { write: false });
		tables.map(0xc000_0000n, 0, 1, format === "legacy" ? 0x40_0000 : 0x20_0000);
		memory.written(0, GUEST_BYTES);
		const from = vcpu.getSregs();
		const paging = { format, root: tables.root };
		const sregs = format === "4-level" ? longMode(from, tables.root) : protectedMode(from, paging);
		vcpu.setSregs(sregs);
		const before = bytes.slice();
		const read = (address: number, into: Uint8Array): boolean => {
			if (address + into.length > bytes.length) return false;
			into.set(bytes.subarray(address, address + into.length));
			return true;
		};
		const walk = (linear: bigint) => walkPages({ ...sregs, efer: sregs.efer & ~0x800n }, linear, read);
		for (let linear = 0n; linear < 0xa000n; linear += 0x1000n) {
			const result = walk(linear + 0x123n);
			expect(Buffer.compare(bytes, before)).toBe(0);
			const { valid, physicalAddress } = vcpu.translateGva(linear + 0x123n);
			expect(result.ok ? result.physical : undefined).toBe(valid ? physicalAddress : undefined);
			bytes.set(before);
		}
		expect(walk(0x5000n)).toMatchObject({ ok: true, user: true, writable: true, pageBytes: 4096 });
		expect(walk(0x8000n)).toMatchObject({ ok: true, user: false, writable: false });
		expect(walk(0xc012_3456n)).toMatchObject({
			ok: true,
			physical: 0x12_3456,
			pageBytes: format === "legacy" ? 2 ** 22 : 2 ** 21,
		});
		const missing = walk(0x7000n);
		expect(missing).toMatchObject({ ok: false, reason: "not-present", level: "PTE", bit: 0 });
		expect(describeWalk(0x7000n, missing)).toMatch(/^0x7000: PTE 0x0 at 0x1\w+ is not present/);
		if (format !== "4-level") return vm.close();
		expect(walk(0x8000_0000_0000n)).toMatchObject({ ok: false, reason: "not-canonical" });
		const leaf = walk(0x5000n).steps.at(-1)!;
		new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(leaf.address, leaf.value | (1n << 63n), true);
		// XD without EFER.NXE is reserved.
		expect(walk(0x5000n)).toMatchObject({ ok: false, reason: "reserved-bit", level: "PTE", bit: 63 });
		new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(walk(0x8000n).steps[2]!.address, 0x7f_ffff_f001n, true);
		expect(walk(0x8000n)).toMatchObject({ ok: false, reason: "no-memory", level: "PTE" });
		vm.close();
	},
);
