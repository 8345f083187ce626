import { IOAPIC_ADDRESS } from "../../chips/ioapic.ts";
import { PM } from "../legacy/power.ts";
import { LAYOUT } from "../memory-map.ts";
import { makeDsdtBody } from "./dsdt.ts";

const OEM_ID = "RING0 ";
const OEM_TABLE_ID = "RING0PC ";
const HEADER = 36;
const TABLES_FILE = "etc/acpi/tables";
const RSDP_FILE = "etc/acpi/rsdp";

/** A pointer in a table to another: to be set to the target's address wherever they come to lie. */
interface Pointer {
	/** Offset of the field in the blob of all tables, or in the RSDP. */
	at: number;
	size: 4 | 8;
	/** Offset of the target in the blob. */
	target: number;
}

/** Where a checksum byte is, and the bytes it makes sum up to zero. */
interface Checksum {
	at: number;
	start: number;
	length: number;
}

/** A machine's ACPI tables before they have an address. */
export interface AcpiTables {
	rsdp: Uint8Array;
	blob: Uint8Array;
	rsdpPointers: readonly Pointer[];
	pointers: readonly Pointer[];
	rsdpChecksums: readonly Checksum[];
	checksums: readonly Checksum[];
}

/**
 * Builds RSDP, XSDT, FADT, FACS, MADT and DSDT.
 *
 * @param cpus - processors, whose APIC ids are 0 to cpus - 1
 */
export function makeAcpi(cpus: number): AcpiTables {
	const parts: { offset: number; bytes: Uint8Array }[] = [];
	let end = 0;
	const place = (bytes: Uint8Array, alignment = 16): number => {
		const offset = Math.ceil(end / alignment) * alignment;
		parts.push({ offset, bytes });
		end = offset + bytes.length;
		return offset;
	};
	// FACS first: it must lie on 64 bytes, and has no checksum.
	const facs = place(makeFacs(), 64);
	const dsdtBytes = table("DSDT", 2, makeDsdtBody());
	const dsdt = place(dsdtBytes);
	const fadtBytes = makeFadt();
	const fadt = place(fadtBytes);
	const madtBytes = makeMadt(cpus);
	const madt = place(madtBytes);
	const xsdtBytes = table("XSDT", 1, new Uint8Array(16));
	const xsdt = place(xsdtBytes);

	const blob = new Uint8Array(end);
	for (const { offset, bytes } of parts) blob.set(bytes, offset);
	const rsdp = new Uint8Array(36);
	rsdp.set(new TextEncoder().encode(`RSD PTR \0${OEM_ID}`));
	rsdp[15] = 2;
	rsdp[20] = rsdp.length;
	return {
		rsdp,
		blob,
		rsdpPointers: [{ at: 24, size: 8, target: xsdt }],
		pointers: [
			{ at: fadt + 36, size: 4, target: facs },
			{ at: fadt + 40, size: 4, target: dsdt },
			{ at: fadt + 140, size: 8, target: dsdt },
			{ at: xsdt + HEADER, size: 8, target: fadt },
			{ at: xsdt + HEADER + 8, size: 8, target: madt },
		],
		rsdpChecksums: [
			{ at: 8, start: 0, length: 20 },
			{ at: 32, start: 0, length: 36 },
		],
		checksums: [
			{ at: dsdt + 9, start: dsdt, length: dsdtBytes.length },
			{ at: fadt + 9, start: fadt, length: fadtBytes.length },
			{ at: madt + 9, start: madt, length: madtBytes.length },
			{ at: xsdt + 9, start: xsdt, length: xsdtBytes.length },
		],
	};
}

/** The tables as they stand in memory from `base` on, the RSDP first, where firmware-less guests look for it. */
export function placeAcpi(tables: AcpiTables, base: number = LAYOUT.acpi): Uint8Array {
	const blobAt = 64;
	const image = new Uint8Array(blobAt + tables.blob.length);
	image.set(tables.rsdp);
	image.set(tables.blob, blobAt);
	const view = new DataView(image.buffer);
	const link = (offset: number, { at, size, target }: Pointer) => {
		const address = base + blobAt + target;
		view.setUint32(offset + at, address, true);
		if (size === 8) view.setUint32(offset + at + 4, 0, true);
	};
	for (const pointer of tables.rsdpPointers) link(0, pointer);
	for (const pointer of tables.pointers) link(blobAt, pointer);
	const seal = (offset: number, { at, start, length }: Checksum) => {
		let sum = 0;
		image[offset + at] = 0;
		for (let i = 0; i < length; i++) sum += image[offset + start + i];
		image[offset + at] = -sum;
	};
	for (const checksum of tables.rsdpChecksums) seal(0, checksum);
	for (const checksum of tables.checksums) seal(blobAt, checksum);
	return image;
}

/**
 * The tables as fw_cfg files, with the script by which firmware allocates, links and seals them.
 *
 * @see QEMU hw/acpi/bios-linker-loader.c for the script's format
 */
export function acpiFiles(tables: AcpiTables): { name: string; bytes: Uint8Array }[] {
	const blob = tables.blob.slice();
	const rsdp = tables.rsdp.slice();
	const commands: Uint8Array[] = [];
	const command = (number: number, write: (view: DataView, bytes: Uint8Array) => void) => {
		const bytes = new Uint8Array(128);
		const view = new DataView(bytes.buffer);
		view.setUint32(0, number, true);
		write(view, bytes);
		commands.push(bytes);
	};
	const text = (bytes: Uint8Array, at: number, value: string) => bytes.set(new TextEncoder().encode(value), at);
	const allocate = (file: string, alignment: number, zone: number) =>
		command(1, (view, bytes) => {
			text(bytes, 4, file);
			view.setUint32(60, alignment, true);
			view.setUint8(64, zone);
		});
	const link = (file: string, contents: Uint8Array, { at, size, target }: Pointer) => {
		// The field holds the offset into the target file until firmware adds its address.
		new DataView(contents.buffer).setUint32(at, target, true);
		command(2, (view, bytes) => {
			text(bytes, 4, file);
			text(bytes, 60, TABLES_FILE);
			view.setUint32(116, at, true);
			view.setUint8(120, size);
		});
	};
	const seal = (file: string, contents: Uint8Array, { at, start, length }: Checksum) => {
		contents[at] = 0;
		command(3, (view, bytes) => {
			text(bytes, 4, file);
			view.setUint32(60, at, true);
			view.setUint32(64, start, true);
			view.setUint32(68, length, true);
		});
	};
	allocate(TABLES_FILE, 64, 1);
	allocate(RSDP_FILE, 16, 2);
	for (const pointer of tables.pointers) link(TABLES_FILE, blob, pointer);
	for (const checksum of tables.checksums) seal(TABLES_FILE, blob, checksum);
	for (const pointer of tables.rsdpPointers) link(RSDP_FILE, rsdp, pointer);
	for (const checksum of tables.rsdpChecksums) seal(RSDP_FILE, rsdp, checksum);
	const script = new Uint8Array(commands.length * 128);
	for (const [i, bytes] of commands.entries()) script.set(bytes, i * 128);
	return [
		{ name: TABLES_FILE, bytes: blob },
		{ name: RSDP_FILE, bytes: rsdp },
		{ name: "etc/table-loader", bytes: script },
	];
}

function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(HEADER + body.length);
	const view = new DataView(bytes.buffer);
	const encoder = new TextEncoder();
	bytes.set(encoder.encode(signature));
	view.setUint32(4, bytes.length, true);
	bytes[8] = revision;
	bytes.set(encoder.encode(OEM_ID), 10);
	bytes.set(encoder.encode(OEM_TABLE_ID), 16);
	view.setUint32(24, 1, true);
	bytes.set(encoder.encode("RNG0"), 28);
	view.setUint32(32, 1, true);
	bytes.set(body, HEADER);
	return bytes;
}

function makeFacs(): Uint8Array {
	const bytes = new Uint8Array(64);
	bytes.set(new TextEncoder().encode("FACS"));
	bytes[4] = bytes.length;
	bytes[32] = 2;
	return bytes;
}

function makeFadt(): Uint8Array {
	const bytes = table("FACP", 5, new Uint8Array(268 - HEADER));
	const view = new DataView(bytes.buffer);
	view.setUint16(46, PM.sciIrq, true);
	view.setUint32(56, PM.event, true);
	view.setUint32(64, PM.control, true);
	view.setUint32(76, PM.timer, true);
	bytes[88] = 4;
	bytes[89] = 2;
	bytes[91] = 4;
	// C2 and C3 take longer than these, which says that there are none.
	view.setUint16(96, 101, true);
	view.setUint16(98, 1001, true);
	bytes[108] = 0x32;
	// Legacy devices, an 8042, no VGA.
	view.setUint16(109, 0x07, true);
	// WBINVD, C1, no sleep button, 32-bit timer, reset register.
	view.setUint32(112, 0x1 | 0x4 | 0x20 | 0x100 | 0x400, true);
	genericAddress(view, 116, PM.resetPort, 8, 1);
	bytes[128] = PM.resetValue;
	bytes[131] = 1;
	genericAddress(view, 148, PM.event, 32, 2);
	genericAddress(view, 172, PM.control, 16, 2);
	genericAddress(view, 208, PM.timer, 32, 3);
	return bytes;
}

/** A generic address structure in I/O space. */
function genericAddress(view: DataView, at: number, port: number, bits: number, accessSize: number): void {
	view.setUint8(at, 1);
	view.setUint8(at + 1, bits);
	view.setUint8(at + 3, accessSize);
	view.setUint32(at + 4, port, true);
}

function makeMadt(cpus: number): Uint8Array {
	const entries: number[] = [];
	const dword = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
	for (let id = 0; id < cpus; id++) {
		if (id < 255) entries.push(0, 8, id, id, ...dword(1));
		else entries.push(9, 16, 0, 0, ...dword(id), ...dword(1), ...dword(id));
	}
	entries.push(1, 12, 0, 0, ...dword(IOAPIC_ADDRESS), ...dword(0));
	// The PIT's line comes in at pin 2; SCI is level-triggered, active high.
	entries.push(2, 10, 0, 0, ...dword(2), 0, 0);
	entries.push(2, 10, 0, PM.sciIrq, ...dword(PM.sciIrq), 0x0d, 0);
	// NMI at LINT1 of every processor.
	entries.push(4, 6, 0xff, 0, 0, 1);
	const body = new Uint8Array(8 + entries.length);
	const view = new DataView(body.buffer);
	view.setUint32(0, 0xfee0_0000, true);
	view.setUint32(4, 1, true);
	body.set(entries, 8);
	return table("APIC", 3, body);
}
