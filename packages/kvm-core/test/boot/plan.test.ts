import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	applyBootPlan,
	BootError,
	type BootPlan,
	type BootRequest,
	type KernelProtocol,
	kernelProtocols,
	loadKernel,
	planBoot,
	planFirmware,
} from "../../src/boot/index.ts";
import type { Regs, Sregs } from "../../src/kvm/types.ts";
import { makeBzImage, makeElf, multibootHeader } from "./support/images.ts";
import { pcMemory, segmentNamed, textAt } from "./support/memory.ts";

const KERNEL_SEGMENT = { physAddr: 0x1000000, bytes: new Uint8Array(64).fill(0x90), memSize: 0x8000 };
const PAYLOAD = makeElf({ entry: 0x1000010, segments: [KERNEL_SEGMENT], pvhEntry: 0x1000020 });
const MEMORY = pcMemory(64);

async function plan(
	file: Uint8Array,
	request: Partial<BootRequest> = {},
	protocol?: KernelProtocol,
): Promise<BootPlan> {
	return planBoot(await loadKernel(file), { memoryMap: MEMORY, ...request }, protocol);
}

/** What the firmware stub ends with: `mov eax, imm32; jmp rel32`. */
function handedOver({ regs, segments }: BootPlan): { eax: number; eip: number } {
	const stub = segments.find(({ physAddr }) => BigInt(physAddr) === regs.rip)!;
	const end = stub.bytes.length;
	const view = new DataView(stub.bytes.buffer, stub.bytes.byteOffset, end);
	expect([view.getUint8(end - 10), view.getUint8(end - 5)]).toEqual([0xb8, 0xe9]);
	return { eax: view.getUint32(end - 9, true), eip: stub.physAddr + end + view.getInt32(end - 4, true) };
}

describe("a bzImage by its payload", () => {
	it("is entered in long mode over identity page tables, RSI on the zero page", async () => {
		const initrd = new Uint8Array(5000).fill(7);
		const result = await plan(makeBzImage({ payload: PAYLOAD }), {
			commandLine: "console=ttyS0 ä",
			initrd,
			rsdpAddress: 0xe0000,
		});
		expect(result.protocol).toBe("linux-payload");
		expect(result.regs).toMatchObject({ rip: 0x1000010n, rflags: 2n });
		expect(result.sregs).toMatchObject({ cr0: 0x80000031n, cr4: 0x20n, efer: 0x500n });
		expect(result.sregs.cs).toMatchObject({ selector: 0x10, l: 1, db: 0, type: 11 });
		expect(result.sregs.ds).toMatchObject({ selector: 0x18, type: 3 });

		const zeroPage = segmentNamed(result, "boot_params");
		expect(BigInt(zeroPage.physAddr)).toBe(result.regs.rsi);
		expect(zeroPage.view.getUint32(0x202, true)).toBe(0x53726448);
		expect(zeroPage.view.getUint16(0x206, true)).toBe(0x020f);
		expect(zeroPage.bytes[0x210]).toBe(0xff);
		expect(zeroPage.view.getBigUint64(0x70, true)).toBe(0xe0000n);
		expect(zeroPage.view.getUint32(0x21c, true)).toBe(5000);
		const placed = segmentNamed(result, "initrd");
		expect(zeroPage.view.getUint32(0x218, true)).toBe(placed.physAddr);
		expect(placed.physAddr).toBe(64 * 2 ** 20 - 8192);
		const line = segmentNamed(result, "command line");
		expect(zeroPage.view.getUint32(0x228, true)).toBe(line.physAddr);
		expect(textAt(line.bytes)).toBe("console=ttyS0 ä");
		expect(zeroPage.bytes[0x1e8]).toBe(3);
		expect(
			[0, 1, 2].map((i) => [
				zeroPage.view.getBigUint64(0x2d0 + i * 20, true),
				zeroPage.view.getBigUint64(0x2d8 + i * 20, true),
				zeroPage.view.getUint32(0x2e0 + i * 20, true),
			]),
		).toEqual([
			[0n, 0x9fc00n, 1],
			[0x9fc00n, 0x60400n, 2],
			[0x100000n, 63n << 20n, 1],
		]);
	});

	it("has page tables that map each of the first 4 GiB to itself", async () => {
		const tables = segmentNamed(await plan(makeBzImage({ payload: PAYLOAD })), "page tables");
		const entry = (table: number, index: number): bigint =>
			tables.view.getBigUint64(table - tables.physAddr + index * 8, true);
		for (const address of [0, 0x1000000, 0x3fffffff, 0x40000000, 0xfee00000, 0xffffffff]) {
			const pdpt = entry(tables.physAddr, 0);
			const directory = entry(Number(pdpt & ~0xfffn), Math.floor(address / 2 ** 30));
			const page = entry(Number(directory & ~0xfffn), Math.floor(address / 2 ** 21) % 512);
			expect(pdpt & directory & page & 3n).toBe(3n);
			expect(page & 0x80n).toBe(0x80n);
			expect(Number(page & ~0x1fffffn) + (address % 2 ** 21)).toBe(address);
		}
	});

	it("is entered in flat protected mode when the payload is a 32-bit ELF", async () => {
		const payload = makeElf({ bits: 32, entry: 0x1000000, segments: [KERNEL_SEGMENT] });
		const result = await plan(makeBzImage({ payload, is64Bit: false }));
		expect(result.sregs).toMatchObject({ cr0: 0x11n, cr4: 0n, efer: 0n });
		expect(result.sregs.cs).toMatchObject({ db: 1, l: 0, limit: 0xffffffff });
		expect(result.segments.some(({ name }) => name === "page tables")).toBe(false);
	});
});

describe("a bzImage otherwise", () => {
	it("is entered at 200h of its code, which lies at the preferred address", async () => {
		const result = await plan(makeBzImage({ payload: PAYLOAD }), {}, "linux-entry");
		expect(result.regs.rip).toBe(0x1000200n);
		expect(result.sregs.efer).toBe(0x500n);
		const narrow = await plan(makeBzImage({ payload: PAYLOAD, is64Bit: false }), {}, "linux-entry");
		expect(narrow.regs.rip).toBe(0x1000000n);
		expect(narrow.sregs.efer).toBe(0n);
	});

	it("decompresses itself when the host cannot", async () => {
		const payload = new Uint8Array(64);
		payload.set([0x89, 0x4c, 0x5a, 0x4f]);
		expect((await plan(makeBzImage({ payload }))).protocol).toBe("linux-entry");
	});

	it("is entered in real mode at its setup code, with BIOS call 15h behind the vectors", async () => {
		const result = await plan(
			makeBzImage({ payload: PAYLOAD }),
			{ commandLine: "quiet", initrd: new Uint8Array(9) },
			"linux-real",
		);
		expect(result.sregs.cs).toMatchObject({ selector: 0x9020, base: 0x90200n, limit: 0xffff });
		expect(result.sregs.ss).toMatchObject({ selector: 0x9000, base: 0x90000n });
		expect(result.regs).toMatchObject({ rip: 0n, rsp: 0xe000n });
		const setup = segmentNamed(result, "setup code");
		expect(setup.view.getUint32(0x228, true)).toBe(segmentNamed(result, "command line").physAddr);
		expect(setup.view.getUint32(0x218, true)).toBe(segmentNamed(result, "initrd").physAddr);
		expect(setup.bytes[0x211]! & 0x81).toBe(0x81);
		expect(setup.view.getUint16(0x1fa, true)).toBe(0x0f04);
		const vectors = segmentNamed(result, "interrupt vectors");
		const bios = segmentNamed(result, "BIOS calls");
		const handler = (vector: number): number =>
			vectors.view.getUint16(vector * 4, true) + vectors.view.getUint16(vector * 4 + 2, true) * 16 - bios.physAddr;
		expect(bios.bytes[handler(0x10)]).toBe(0xcf);
		expect([...bios.bytes.subarray(handler(0x15), handler(0x15) + 6)]).toEqual([0x66, 0x3d, 0x20, 0xe8, 0, 0]);
		expect(segmentNamed(result, "kernel").physAddr).toBe(0x100000);
	});
});

describe("an ELF", () => {
	it("with a PVH note gets hvm_start_info in EBX", async () => {
		const initrd = new Uint8Array(100).fill(1);
		const result = await plan(PAYLOAD, { commandLine: "pvh", initrd, rsdpAddress: 0xf1230 });
		expect(result.protocol).toBe("pvh");
		expect(result.regs.rip).toBe(0x1000020n);
		expect(result.sregs).toMatchObject({ cr0: 0x11n, cr4: 0n });
		const info = segmentNamed(result, "hvm_start_info");
		expect(BigInt(info.physAddr)).toBe(result.regs.rbx);
		expect(info.view.getUint32(0, true)).toBe(0x336ec578);
		expect(info.view.getUint32(4, true)).toBe(1);
		expect(info.view.getUint32(12, true)).toBe(1);
		const modules = Number(info.view.getBigUint64(16, true)) - info.physAddr;
		expect(info.view.getBigUint64(modules, true)).toBe(BigInt(segmentNamed(result, "initrd").physAddr));
		expect(info.view.getBigUint64(modules + 8, true)).toBe(100n);
		expect(info.view.getBigUint64(24, true)).toBe(BigInt(segmentNamed(result, "command line").physAddr));
		expect(info.view.getBigUint64(32, true)).toBe(0xf1230n);
		const map = Number(info.view.getBigUint64(40, true)) - info.physAddr;
		expect(info.view.getUint32(48, true)).toBe(3);
		expect(info.view.getBigUint64(map + 48, true)).toBe(0x100000n);
		expect(info.view.getUint32(map + 24 + 16, true)).toBe(2);
	});

	it("of 64 bits without the note is entered in long mode", async () => {
		const result = await plan(makeElf({ entry: 0x100000 }));
		expect(result.protocol).toBe("elf64");
		expect(result.regs.rip).toBe(0x100000n);
		expect(segmentNamed(result, "boot_params").view.getUint32(0x202, true)).toBe(0x53726448);
	});

	it("of 32 bits without a header to be entered by is refused", async () => {
		await expect(plan(makeElf({ bits: 32 }))).rejects.toMatchObject({ code: "UNSUPPORTED" });
	});

	it("linked over the boot structures is refused", async () => {
		const file = makeElf({ entry: 0x7000, segments: [{ physAddr: 0x7000, bytes: new Uint8Array(16) }] });
		await expect(plan(file)).rejects.toMatchObject({
			code: "UNSUPPORTED",
			message: expect.stringContaining("overlaps"),
		});
	});
});

describe("a multiboot kernel", () => {
	const flat = (header: Uint8Array): Uint8Array =>
		makeElf({
			bits: 32,
			entry: 0x400010,
			segments: [{ physAddr: 0x400000, bytes: Uint8Array.from([...header, ...new Uint8Array(64)]), memSize: 0x5000 }],
		});

	it("gets memory, command line, map and module in the information structure", async () => {
		const environment = new TextEncoder().encode("NR_CPUS=1\nMEMSIZE=64\n");
		const result = await plan(flat(multibootHeader()), { commandLine: "vmexit cpuid", initrd: environment });
		expect(result.protocol).toBe("multiboot");
		expect(handedOver(result)).toEqual({ eax: 0x2badb002, eip: 0x400010 });
		expect(result.sregs.cr0).toBe(0x11n);
		const info = segmentNamed(result, "multiboot information");
		expect(BigInt(info.physAddr)).toBe(result.regs.rbx);
		expect(info.physAddr).toBe(0x405000);
		const at = (pointer: number): number => info.view.getUint32(pointer, true) - info.physAddr;
		expect(info.view.getUint32(0, true)).toBe(0x24d);
		expect(info.view.getUint32(4, true)).toBe(639);
		expect(info.view.getUint32(8, true)).toBe(63 * 1024);
		expect(textAt(info.bytes, at(16))).toBe("vmexit cpuid");
		expect(info.view.getUint32(20, true)).toBe(1);
		const module = segmentNamed(result, "module");
		expect(info.view.getUint32(at(24), true)).toBe(module.physAddr);
		expect(info.view.getUint32(at(24) + 4, true)).toBe(module.physAddr + environment.length);
		expect(module.bytes).toEqual(environment);
		expect(info.view.getUint32(44, true)).toBe(72);
		expect(info.view.getUint32(at(48), true)).toBe(20);
		expect(info.view.getBigUint64(at(48) + 48 + 4, true)).toBe(0x100000n);
	});

	it("may say itself where it is loaded", async () => {
		const file = new Uint8Array(0x100);
		file.set(multibootHeader(1 << 16, [0x100020, 0x100000, 0x1000e0, 0x104000, 0x100040]), 0x20);
		const result = await plan(file);
		const kernel = segmentNamed(result, "kernel");
		expect([kernel.physAddr, kernel.bytes.length, kernel.size]).toEqual([0x100000, 0xe0, 0x4000]);
		expect(handedOver(result).eip).toBe(0x100040);
		await expect(plan(file.subarray(0, 0x80))).rejects.toMatchObject({ code: "TRUNCATED" });
	});

	it("is refused when it requires what is not known, or the module does not fit", async () => {
		await expect(plan(flat(multibootHeader(0x8)))).rejects.toMatchObject({ code: "UNSUPPORTED" });
		await expect(plan(flat(multibootHeader()), { initrd: new Uint8Array(64 * 2 ** 20) })).rejects.toMatchObject({
			code: "INITRD_DOES_NOT_FIT",
		});
	});
});

describe("firmware", () => {
	it("lies below 4 GiB with its last 128 KiB below 1 MiB, and starts at the reset vector", () => {
		const image = Uint8Array.from({ length: 256 * 1024 }, (_, i) => i & 0xff);
		const result = planFirmware(image);
		expect(result.roms).toEqual([{ physAddr: 0xfffc0000, bytes: image }]);
		expect(result.segments.map(({ physAddr, size }) => [physAddr, size])).toEqual([[0xe0000, 0x20000]]);
		expect(result.sregs.cs).toMatchObject({ selector: 0xf000, base: 0xffff0000n });
		expect(result.regs.rip).toBe(0xfff0n);
		expect(result.sregs.cr0).toBe(0x60000010n);
	});

	it("is refused at a size no ROM has, or without code", () => {
		for (const bad of [new Uint8Array(0), new Uint8Array(1000), new Uint8Array(65536), new Uint8Array(17 * 2 ** 20)]) {
			expect(() => planFirmware(bad)).toThrow(expect.objectContaining({ code: "NOT_FIRMWARE" }));
		}
	});
});

describe("what does not fit", () => {
	it("is said with the number that matters", async () => {
		await expect(plan(makeBzImage({ payload: PAYLOAD, initSize: 0x8000000 }))).rejects.toMatchObject({
			code: "KERNEL_DOES_NOT_FIT",
			message: expect.stringContaining("more than 144 MiB"),
		});
		await expect(
			plan(makeBzImage({ payload: PAYLOAD }), { initrd: new Uint8Array(60 * 2 ** 20) }),
		).rejects.toMatchObject({
			code: "INITRD_DOES_NOT_FIT",
			value: 60 * 2 ** 20,
		});
		await expect(
			plan(makeBzImage({ payload: PAYLOAD, cmdlineSize: 10 }), { commandLine: "x".repeat(11) }),
		).rejects.toMatchObject({
			code: "COMMAND_LINE_TOO_LONG",
			value: 11,
		});
	});

	it("keeps the initrd below the kernel's limit and off its memory", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.integer({ min: 1, max: 0x2000000 }),
				fc.integer({ min: 0x1000000, max: 0x5000000 }),
				fc.integer({ min: 0x10000, max: 0x2000000 }),
				async (size, initrdAddrMax, initSize) => {
					const file = makeBzImage({ payload: PAYLOAD, initrdAddrMax, initSize });
					const result = await plan(file, { initrd: new Uint8Array(size) }).catch((error) => error);
					if (result instanceof BootError) {
						expect(result.code).toBe("INITRD_DOES_NOT_FIT");
						return;
					}
					const { physAddr } = segmentNamed(result, "initrd");
					expect(physAddr % 4096).toBe(0);
					expect(physAddr).toBeGreaterThanOrEqual(0x100000);
					expect(physAddr + size - 1).toBeLessThanOrEqual(Math.min(initrdAddrMax, 64 * 2 ** 20 - 1));
					expect(physAddr + size <= 0x1000000 || physAddr >= 0x1000000 + initSize).toBe(true);
				},
			),
			{ numRuns: 100, seed: 5 },
		);
	});
});

describe("loadKernel", () => {
	it.each([
		["an empty file", new Uint8Array(0)],
		["text", new TextEncoder().encode("#!/bin/sh\necho this is no kernel\n".repeat(50))],
		["zeros", new Uint8Array(100_000)],
	])("knows that %s is no kernel", async (_, file) => {
		await expect(loadKernel(file)).rejects.toMatchObject({ name: "BootError", code: "NOT_A_KERNEL" });
	});

	it("lists the ways in, best first", async () => {
		expect(kernelProtocols(await loadKernel(makeBzImage({ payload: PAYLOAD })))).toEqual([
			"linux-payload",
			"linux-entry",
			"linux-real",
			"pvh",
		]);
		expect(kernelProtocols(await loadKernel(PAYLOAD))).toEqual(["pvh", "elf64"]);
		await expect(plan(PAYLOAD, {}, "linux-real")).rejects.toMatchObject({ code: "UNSUPPORTED" });
	});

	it("survives multiboot headers of any content", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.nat(0xffffffff), { minLength: 5, maxLength: 5 }),
				fc.nat(0xffffffff),
				fc.nat(300),
				async (addresses, flags, length) => {
					const file = new Uint8Array(length + 32);
					file.set(multibootHeader((flags & 0x7) | 0x10000, addresses).subarray(0, 32));
					await plan(file).catch((error) => expect(error).toBeInstanceOf(BootError));
				},
			),
			{ numRuns: 1000, seed: 6 },
		);
	});
});

describe("applyBootPlan", () => {
	it("writes bytes, clears the rest, and keeps the registers it does not decide", async () => {
		const result = await plan(PAYLOAD);
		const memory = new Uint8Array(64 * 2 ** 20).fill(0xaa);
		const set: { sregs?: Sregs; regs?: Regs } = {};
		applyBootPlan(
			result,
			{
				write: (physAddr, bytes) => memory.set(bytes, physAddr),
				zero: (physAddr, size) => memory.fill(0, physAddr, physAddr + size),
			},
			{
				getSregs: () => ({ apicBase: 0xfee00900n, cr2: 5n, cr8: 3n }) as Sregs,
				setSregs: (sregs) => {
					set.sregs = { ...sregs };
				},
				setRegs: (regs) => {
					set.regs = { ...regs };
				},
			},
		);
		expect(memory[0x1000000]).toBe(0x90);
		expect(memory[0x1000040]).toBe(0);
		expect(memory[0x1007fff]).toBe(0);
		expect(memory[0x1008000]).toBe(0xaa);
		expect(set.sregs).toMatchObject({ apicBase: 0xfee00900n, cr2: 0n, cr8: 0n, cr0: 0x11n });
		expect(set.regs).toEqual(result.regs);
	});
});
