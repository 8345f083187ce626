import { PageTables } from "../../src/client/page-tables.ts";
import { encodeDescriptor, encodeGate, flatSegment } from "../../src/client/segments.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { GUEST_BYTES, type RealModeGuest, realModeGuest, START } from "./real-mode.ts";

/**
 * A guest that goes from real mode through protected mode to long mode by itself, with ports, memory-mapped I/O, an
 * exception and an interrupt on its way.
 */

const GDT = 0x2000;
const GDTR = 0x2100;
const IDTR = 0x2110;
const IDT = 0x3000;
export const ON_UD = 0x5000;
export const ON_INTERRUPT = 0x5100;
const TABLES = 0x10000;
export const VECTOR = 0x30;

const le16 = (value: number): number[] => [value & 255, value >> 8];
const le32 = (value: number): number[] => [...le16(value & 0xffff), ...le16(value >>> 16)];

const real = [
	...[0xb0, 0x11, 0xe6, 0x20], // mov al, 0x11; out 0x20, al
	...[0x0f, 0x01, 0x16, ...le16(GDTR)], // lgdt [GDTR]
	...[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0], // mov eax, cr0; or al, 1; mov cr0, eax
];
const PROTECTED: number = START + real.length + 5;
const protectedCode = [
	...[0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // mov ax, 0x10; mov ds, es, ss, ax
	...[0xbc, ...le32(0x9000)], // mov esp, 0x9000
	...[0xc7, 0x05, ...le32(0x80010), ...le32(0x12345678)], // mov dword [0x80010], 0x12345678
	...[0x8b, 0x1d, ...le32(0x80020)], // mov ebx, [0x80020]
	...[0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0], // mov eax, cr4; or eax, PAE; mov cr4, eax
	...[0xb8, ...le32(TABLES), 0x0f, 0x22, 0xd8], // mov eax, TABLES; mov cr3, eax
	...[0xb9, ...le32(0xc0000080), 0x0f, 0x32, 0x0d, ...le32(0x100), 0x0f, 0x30], // EFER.LME
	...[0x0f, 0x20, 0xc0, 0x0d, ...le32(0x80000000), 0x0f, 0x22, 0xc0], // CR0.PG
];
export const LONG: number = PROTECTED + protectedCode.length + 7;
export const long: readonly number[] = [
	...[0x0f, 0x01, 0x1c, 0x25, ...le32(IDTR)], // lidt [IDTR]
	...[0x48, 0xb8, ...le32(0x55667788), ...le32(0x11223344), 0x49, 0x89, 0xc7], // mov rax, imm64; mov r15, rax
	...[0xe5, 0x40], // in eax, 0x40
	...[0x0f, 0x0b], // ud2
	...[0xfb, 0xf4], // sti; hlt
	...[0xfa, 0xb0, 0x01, 0xe6, 0xf4, 0xf4], // cli; mov al, 1; out 0xf4, al; hlt
];

const CODE: readonly number[] = [
	...real,
	...[0xea, ...le16(PROTECTED), 0x08, 0x00],
	...protectedCode,
	...[0xea, ...le32(LONG), 0x18, 0x00],
	...long,
];

export function journeyGuest(kvm: Kvm): RealModeGuest {
	const made = realModeGuest(kvm, CODE);
	const bytes = made.memory.view(0, GUEST_BYTES);
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	(["code32", "data32", "code64"] as const).forEach((kind, i) => {
		view.setBigUint64(GDT + 8 + i * 8, encodeDescriptor(flatSegment(kind, 8 + i * 8)), true);
	});
	bytes.set([...le16(31), ...le32(GDT)], GDTR);
	bytes.set([...le16(4095), ...le32(IDT), 0, 0, 0, 0], IDTR);
	for (const [vector, offset] of [
		[6, ON_UD],
		[VECTOR, ON_INTERRUPT],
	] as const) {
		encodeGate({ selector: 0x18, offset: BigInt(offset), type: 14, dpl: 0 }, true).forEach((half, i) => {
			view.setBigUint64(IDT + vector * 16 + i * 8, half, true);
		});
	}
	// add qword [rsp], 2; out 0x21, al; iretq
	bytes.set([0x48, 0x83, 0x04, 0x24, 0x02, 0xe6, 0x21, 0x48, 0xcf], ON_UD);
	// out 0x22, al; iretq
	bytes.set([0xe6, 0x22, 0x48, 0xcf], ON_INTERRUPT);
	new PageTables("4-level", bytes, 0, { start: TABLES, bytes: 0x8000 }).map(0n, 0, GUEST_BYTES, 0x1000);
	made.memory.written(0, GUEST_BYTES);
	made.vcpu.setCpuid2(kvm.getSupportedCpuid());
	return made;
}
