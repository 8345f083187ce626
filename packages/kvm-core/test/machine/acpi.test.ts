import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { acpiFiles, makeAcpi, placeAcpi } from "../../src/machine/acpi/tables.ts";

const BASE = 0xe_0000;

/** The tables of a placed image by signature, found from the RSDP by pointers as a guest does. */
function walk(image: Uint8Array, base: number): Map<string, Uint8Array> {
	const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
	const text = (at: number, length: number) => String.fromCharCode(...image.subarray(at, at + length));
	const sum = (at: number, length: number) => image.subarray(at, at + length).reduce((a, b) => (a + b) & 0xff, 0);
	expect(text(0, 8)).toBe("RSD PTR ");
	expect([sum(0, 20), sum(0, 36)]).toEqual([0, 0]);
	const tables = new Map<string, Uint8Array>();
	const table = (address: number) => {
		const at = address - base;
		const length = view.getUint32(at + 4, true);
		const signature = text(at, 4);
		if (signature !== "FACS") expect(sum(at, length)).toBe(0);
		tables.set(signature, image.subarray(at, at + length));
		return at;
	};
	const xsdt = table(view.getUint32(24, true));
	for (let at = xsdt + 36; at < xsdt + view.getUint32(xsdt + 4, true); at += 8) {
		const found = table(view.getUint32(at, true));
		if (text(found, 4) === "FACP") {
			expect(view.getUint32(found + 36, true) % 64).toBe(0);
			table(view.getUint32(found + 36, true));
			expect(view.getUint32(found + 140, true)).toBe(view.getUint32(found + 40, true));
			table(view.getUint32(found + 40, true));
		}
	}
	return tables;
}

test("pointers lead from the RSDP to every table, and all sums are zero", () => {
	const tables = walk(placeAcpi(makeAcpi(3), BASE), BASE);
	expect([...tables.keys()].sort()).toEqual(["APIC", "DSDT", "FACP", "FACS", "XSDT"]);
	const madt = tables.get("APIC") as Uint8Array;
	expect(madt.filter((_, i) => i >= 44 && madt[i] === 0 && madt[i + 1] === 8).length).toBe(3);
});

test("firmware following the table-loader script gets the same tables", () => {
	const acpi = makeAcpi(2);
	const files = new Map(acpiFiles(acpi).map(({ name, bytes }) => [name, bytes.slice()]));
	const script = files.get("etc/table-loader") as Uint8Array;
	const view = new DataView(script.buffer);
	const name = (at: number) => String.fromCharCode(...script.subarray(at, at + 56)).replace(/\0.*$/, "");
	const addresses = new Map([
		["etc/acpi/tables", BASE + 64],
		["etc/acpi/rsdp", BASE],
	]);
	const allocated: string[] = [];
	for (let at = 0; at < script.length; at += 128) {
		const file = files.get(name(at + 4)) as Uint8Array;
		const bytes = new DataView(file.buffer);
		switch (view.getUint32(at, true)) {
			case 1:
				allocated.push(`${name(at + 4)} ${view.getUint32(at + 60, true)} ${view.getUint8(at + 64)}`);
				break;
			case 2: {
				const field = view.getUint32(at + 116, true);
				const target = addresses.get(name(at + 60)) as number;
				bytes.setUint32(field, bytes.getUint32(field, true) + target, true);
				break;
			}
			case 3: {
				const start = view.getUint32(at + 64, true);
				const sum = file.subarray(start, start + view.getUint32(at + 68, true)).reduce((a, b) => (a + b) & 0xff, 0);
				file[view.getUint32(at + 60, true)] -= sum;
				break;
			}
			default:
				throw new Error("a command firmware does not know");
		}
	}
	expect(allocated).toEqual(["etc/acpi/tables 64 1", "etc/acpi/rsdp 16 2"]);
	const image = new Uint8Array(64 + acpi.blob.length);
	image.set(files.get("etc/acpi/rsdp") as Uint8Array);
	image.set(files.get("etc/acpi/tables") as Uint8Array, 64);
	expect(image).toEqual(placeAcpi(acpi, BASE));
});

const COMPILER = "iasl";
const iasl = (() => {
	try {
		execFileSync(COMPILER, ["-v"], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
})();

describe.skipIf(!iasl)("ACPICA's compiler (skipped without iasl of acpica-tools)", () => {
	test("disassembles every table without complaint, and compiles the DSDT back to the same bytes", () => {
		const folder = mkdtempSync(join(tmpdir(), "acpi-"));
		try {
			for (const [signature, bytes] of walk(placeAcpi(makeAcpi(2), BASE), BASE)) {
				const file = join(folder, `${signature}.aml`);
				writeFileSync(file, bytes);
				const output = execFileSync(COMPILER, ["-d", file], { encoding: "utf8", stdio: "pipe" });
				expect(output).not.toMatch(/\b(error|warning|invalid|could not)\b/i);
				const source = readFileSync(join(folder, `${signature}.dsl`), "utf8");
				expect(source).not.toMatch(/\b(invalid|unknown|reserved .*nonzero)\b/i);
				if (signature !== "DSDT") continue;
				expect(source).toContain('Name (_HID, EisaId ("PNP0A03")');
				const compiled = execFileSync(COMPILER, ["-p", join(folder, "again"), join(folder, "DSDT.dsl")], {
					encoding: "utf8",
					stdio: "pipe",
				});
				expect(compiled).toMatch(/\b0 Errors, 0 Warnings\b/);
				const again = readFileSync(join(folder, "again.aml"));
				expect(again.subarray(36).equals(bytes.subarray(36))).toBe(true);
			}
		} finally {
			rmSync(folder, { recursive: true });
		}
	});
});
