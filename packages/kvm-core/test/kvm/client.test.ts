import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
	encodeDescriptor,
	flatSegment,
	HOLE,
	longMode,
	mapWithHole,
	type PageSize,
	PageTables,
	type PagingFormat,
	protectedMode,
	realMode,
	type Vcpu,
	type VcpuExit,
	writeGdt,
	writeIdt,
	writeVectors,
} from "../../src/index.ts";
import { engines } from "./engines.ts";

const BYTES = 0x20_0000;
const TABLES = { start: 0x10_0000, bytes: 0x4_0000 };

/** In EDX of CPUID 80000001h. */
const GIGABYTE_PAGES = 1 << 26;

function finish(vcpu: Vcpu): VcpuExit {
	for (let i = 0; i < 2000; i++) {
		const exit = vcpu.run();
		if (exit.reason !== "intr") return exit;
	}
	throw new Error("the guest does not end");
}

test("a descriptor's fields stand where the manual has them", () => {
	// SDM volume 3, figure 3-8: limit 0xfffff in pages, base 0x12345678.
	const code = { ...flatSegment("code32", 8), base: 0x12345678n };
	expect(encodeDescriptor(code)).toBe(0x12cf9b345678ffffn);
	expect(encodeDescriptor(flatSegment("data16", 0x10))).toBe(0x000093000000ffffn);
	expect(encodeDescriptor(flatSegment("code64", 0x33, 3))).toBe(0x00affb000000ffffn);
});

test("page tables refuse what their format has not", () => {
	const memory = new Uint8Array(0x8000);
	const make = (format: PagingFormat): PageTables =>
		new PageTables(format, memory, 0, { start: 0x1000, bytes: 0x3000 });
	expect(() => make("legacy").map(0n, 0, 1, 0x20_0000)).toThrow(RangeError);
	expect(() => make("pae").map(0n, 0, 1, 0x4000_0000)).toThrow(RangeError);
	expect(() => make("4-level").map(0n, 0, 1, 0x40_0000)).toThrow(RangeError);
	expect(() => make("4-level").map(0x800n, 0, 1, 0x1000)).toThrow(/not aligned/);
	expect(() => make("4-level").mapIdentity(0x1000, 0x1000)).toThrow(/no room/);
});

/** A format's page sizes, and where its linear addresses end. */
const FORMATS: readonly (readonly [PagingFormat, readonly PageSize[], bigint])[] = [
	["legacy", [0x1000, 0x40_0000], 1n << 32n],
	["pae", [0x1000, 0x20_0000], 1n << 32n],
	["4-level", [0x1000, 0x20_0000, 0x4000_0000], 1n << 47n],
];

const opened = await engines();
for (const { name: engine, kvm, reason, modes } of opened) {
	describe.skipIf(kvm === undefined)(
		`the client's duties on the ${engine} engine${reason ? ` (${reason})` : ""}`,
		() => {
			for (const [format, sizes, end] of FORMATS) {
				const lacks = format !== "4-level" && modes?.paging === false;
				// Kvm-pvm leaves CR0.PG clear in 32-bit modes.
				test.skipIf(lacks)(`arbitrary maps through ${format} tables are what KVM translates by`, () => {
					const vm = kvm!.createVm({ memoryBytes: BYTES });
					const memory = vm.createMemory(BYTES);
					vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: BYTES, memory });
					const vcpu = vm.createVcpu(0);
					const cpuid = kvm!.getSupportedCpuid();
					vcpu.setCpuid2(cpuid);
					const initial = vcpu.getSregs();
					// Kvm-pvm has no pages of 1 GiB.
					const gigabytes = cpuid.some(
						({ function: leaf, edx }) => leaf === 0x8000_0001 && (edx & GIGABYTE_PAGES) !== 0,
					);
					const had = sizes.filter((size) => gigabytes || size !== 0x4000_0000);
					if (engine === "software") expect(had).toEqual(sizes);
					const mapping = fc.record({
						size: fc.constantFrom(...had),
						linear: fc.bigInt({ min: 0n, max: end - 1n }),
						physical: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
						offset: fc.nat(),
					});
					fc.assert(
						fc.property(fc.array(mapping, { minLength: 1, maxLength: 6 }), (mappings) => {
							const tables = new PageTables(format, memory.view(0, BYTES), 0, TABLES);
							const taken = new Set<bigint>();
							const expected = mappings.flatMap(({ size, linear, physical, offset }) => {
								// One mapping a gigabyte, so that none stands in another's place.
								const from = linear - (linear % BigInt(size));
								if (taken.has(from >> 30n)) return [];
								taken.add(from >> 30n);
								const to = physical - (physical % size);
								tables.map(from, to, size, size);
								return [[from + BigInt(offset % size), to + (offset % size)] as const];
							});
							memory.written(0, BYTES);
							vcpu.setSregs(
								format === "4-level"
									? longMode(initial, tables.root)
									: protectedMode(initial, { format, root: tables.root }),
							);
							for (const [linear, physical] of expected) {
								expect(vcpu.translateGva(linear)).toMatchObject({ valid: true, physicalAddress: physical });
							}
						}),
						{ seed: 2006, numRuns: 40 },
					);
					vm.close();
				});
			}

			test("640 KiB and the memory behind the hole, a flat binary in real mode, its vectors, the hole as MMIO", () => {
				const vm = kvm!.createVm({ memoryBytes: BYTES });
				const ram = mapWithHole(vm, BYTES);
				// mov ax,0xa000; mov ds,ax; mov [0],al; mov ax,0xc000; mov ds,ax; mov byte [0x10],0x77; ud2
				ram.load(
					0x7c00,
					Uint8Array.of(
						0xb8,
						0,
						0xa0,
						0x8e,
						0xd8,
						0xa2,
						0,
						0,
						0xb8,
						0,
						0xc0,
						0x8e,
						0xd8,
						0xc6,
						6,
						0x10,
						0,
						0x77,
						0x0f,
						0x0b,
					),
				);
				ram.load(0x9000, Uint8Array.of(0xf4));
				writeVectors(ram.memory, new Map([[6, { segment: 0x900, offset: 0 }]]));
				const vcpu = vm.createVcpu(0);
				vcpu.setSregs(realMode(vcpu.getSregs()));
				vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x7c00n, rsp: 0x7000n, rflags: 2n });
				expect(finish(vcpu)).toMatchObject({ reason: "mmio", physAddr: HOLE.start, isWrite: true });
				expect(finish(vcpu)).toEqual({ reason: "hlt" });
				expect(ram.view(0xc0010, 1)[0]).toBe(0x77);
				for (const [at, length] of [
					[0x9fff0, 0x20],
					[HOLE.start, 1],
					[HOLE.end - 1, 2],
					[BYTES - 1, 2],
					[-1, 1],
				] as const) {
					expect(() => ram.view(at, length)).toThrow(RangeError);
				}
				expect(() => mapWithHole(vm, HOLE.end)).toThrow(RangeError);
				vm.close();
			});

			test.skipIf(modes?.long === false)(
				"a GDT and an IDT in 64-bit mode: segments are loaded from it, and an exception finds its gate",
				() => {
					const vm = kvm!.createVm({ memoryBytes: BYTES });
					const memory = vm.createMemory(BYTES);
					vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: BYTES, memory });
					const tables = new PageTables("4-level", memory.view(0, BYTES), 0, TABLES);
					tables.mapIdentity(BYTES, 0x20_0000);
					const data = { ...flatSegment("data32", 0x18), base: 0x1234_0000n };
					const tss = { ...flatSegment("data16", 0x20), base: 0x4000n, limit: 0x67, type: 9, s: 0 };
					const gdt = writeGdt(
						{ memory, at: 0x2000 },
						[flatSegment("code64", 8), flatSegment("data32", 16), data, tss],
						true,
					);
					expect(gdt).toEqual({ base: 0x2000n, limit: 0x2f });
					const gates = new Map([[6, { selector: 8, offset: 0x5000n, type: 14, dpl: 0 } as const]]);
					const idt = writeIdt({ memory, at: 0x3000 }, gates, true);
					expect(idt).toEqual({ base: 0x3000n, limit: 7 * 16 - 1 });
					// mov ax,0x18; mov fs,ax; ltr: mov ax,0x20; ltr ax; ud2
					memory
						.view(0x1000, 15)
						.set([0x66, 0xb8, 0x18, 0, 0x8e, 0xe0, 0x66, 0xb8, 0x20, 0, 0x0f, 0x00, 0xd8, 0x0f, 0x0b]);
					memory.view(0x5000, 1)[0] = 0xf4;
					memory.written(0, BYTES);
					const vcpu = vm.createVcpu(0);
					vcpu.setCpuid2(kvm!.getSupportedCpuid());
					vcpu.setSregs({ ...longMode(vcpu.getSregs(), tables.root), gdt, idt });
					vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x9000n, rflags: 2n });
					expect(finish(vcpu)).toEqual({ reason: "hlt" });
					expect(vcpu.getRegs().rip).toBe(0x5001n);
					const { fs, tr } = vcpu.getSregs();
					expect([fs.base, fs.selector, tr.base, tr.limit]).toEqual([0x1234_0000n, 0x18, 0x4000n, 0x67]);
					vm.close();
				},
			);
		},
	);
}

afterAll(() => {
	for (const { kvm } of opened) kvm?.close();
});
