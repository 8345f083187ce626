import { PM } from "../legacy/power.ts";
import { LAYOUT } from "../memory-map.ts";
import { intxIrq } from "../pci/host.ts";
import {
	type Aml,
	busNumbers,
	device,
	eisaId,
	integer,
	ioPorts,
	ioWindow,
	irq,
	memoryWindow,
	name,
	packageOf,
	resourceTemplate,
	scope,
	string,
} from "./aml.ts";

/** Body of the DSDT: power-off, the PCI root bridge with its windows and interrupt wiring, and the devices on ISA. */
export function makeDsdtBody(): Uint8Array {
	const isa: Aml[] = [
		device("RTC", name("_HID", eisaId("PNP0B00")), name("_CRS", resourceTemplate(ioPorts(0x70, 2), irq(8)))),
		device(
			"FWCF",
			name("_HID", string("QEMU0002")),
			name("_STA", integer(0x0b)),
			name("_CRS", resourceTemplate(ioPorts(0x510, 12))),
		),
		device(
			"KBD",
			name("_HID", eisaId("PNP0303")),
			name("_CRS", resourceTemplate(ioPorts(0x60, 1), ioPorts(0x64, 1), irq(1))),
		),
		device(
			"COM1",
			name("_HID", eisaId("PNP0501")),
			name("_UID", integer(1)),
			name("_CRS", resourceTemplate(ioPorts(0x3f8, 8), irq(4))),
		),
	];
	const wiring = Array.from({ length: 30 }, (_, i) => {
		const slot = i + 2;
		return packageOf(integer(slot * 0x1_0000 + 0xffff), integer(0), integer(0), integer(intxIrq(slot)));
	});
	const body = [
		...name("_S5", packageOf(integer(PM.s5), integer(PM.s5), integer(0), integer(0))),
		...scope(
			"_SB",
			device(
				"PCI0",
				name("_HID", eisaId("PNP0A03")),
				name("_UID", integer(0)),
				name("_BBN", integer(0)),
				name(
					"_CRS",
					resourceTemplate(
						busNumbers(0, 0),
						ioPorts(0xcf8, 8),
						ioWindow(0x0000, 0x0cf7),
						ioWindow(0x0d00, 0xffff),
						memoryWindow(LAYOUT.pciWindow, LAYOUT.pciWindowEnd - 1),
					),
				),
				name("_PRT", packageOf(...wiring)),
				device("ISA", name("_ADR", integer(0x1_0000)), ...isa),
			),
		),
	];
	return Uint8Array.from(body);
}
