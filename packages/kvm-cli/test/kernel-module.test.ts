import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CliError } from "../src/exit.ts";
import { loadOrder, moduleDependencies, moduleName, needsInReverse } from "../src/image/kernel-module.ts";

/** An ELF object with nothing but a .modinfo section. */
function makeModule(modinfo: string): Uint8Array {
	const info = new TextEncoder().encode(modinfo);
	const names = new TextEncoder().encode("\0.shstrtab\0.modinfo\0");
	const table = 64 + info.length + names.length;
	const file = new Uint8Array(table + 3 * 64);
	const view = new DataView(file.buffer);
	file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	view.setBigUint64(40, BigInt(table), true);
	view.setUint16(58, 64, true);
	view.setUint16(60, 3, true);
	view.setUint16(62, 2, true);
	file.set(info, 64);
	file.set(names, 64 + info.length);
	const section = (index: number, name: number, offset: number, size: number): void => {
		view.setUint32(table + index * 64, name, true);
		view.setBigUint64(table + index * 64 + 24, BigInt(offset), true);
		view.setBigUint64(table + index * 64 + 32, BigInt(size), true);
	};
	section(1, 11, 64, info.length);
	section(2, 1, 64 + info.length, names.length);
	return file;
}

describe("moduleDependencies", () => {
	it("reads .modinfo's depends, under the names the kernel uses", () => {
		const bytes = makeModule("license=GPL\0depends=virtio,virtio-ring\0name=x\0");
		expect(moduleDependencies("x", bytes)).toEqual(["virtio", "virtio_ring"]);
		expect(moduleDependencies("x", makeModule("depends=\0"))).toEqual([]);
	});

	it("answers damaged files with a CliError or names", () => {
		const whole = makeModule("depends=virtio\0");
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }),
				fc.nat(whole.length),
				(edits, length) => {
					const file = whole.slice();
					for (const [at, byte] of edits) file[at] = byte;
					try {
						expect(Array.isArray(moduleDependencies("x", file.subarray(0, length)))).toBe(true);
					} catch (error) {
						expect(error).toBeInstanceOf(CliError);
					}
				},
			),
			{ numRuns: 1000, seed: 8 },
		);
	});
});

describe("moduleName", () => {
	it.each([
		["kernel/drivers/char/hw_random/virtio-rng.ko", "virtio_rng"],
		["virtio_pci.ko.xz", "virtio_pci"],
	])("of %s is %s", (path, name) => expect(moduleName(path)).toBe(name));
});

describe("loadOrder", () => {
	it("puts what is needed first, once, and leaves out what is built in", () => {
		const graph = new Map([
			["a", ["b", "c"]],
			["b", ["c"]],
			["c", []],
			["d", ["b"]],
		]);
		expect(loadOrder(["a", "builtin", "d"], { dependencies: (name) => graph.get(name) })).toEqual(["c", "b", "a", "d"]);
	});

	it("gives modules.dep all that is needed, the other way round", () => {
		const graph = new Map([
			["virtio_net", ["net_failover"]],
			["net_failover", ["failover"]],
			["failover", []],
		]);
		const needs = needsInReverse("virtio_net", { dependencies: (name) => graph.get(name) });
		expect(needs).toEqual(["net_failover", "failover"]);
	});

	it("refuses a missing dependency and a cycle", () => {
		const missing = new Map([["a", ["gone"]]]);
		expect(() => loadOrder(["a"], { dependencies: (name) => missing.get(name) })).toThrow(/a needs gone/);
		const cycle = new Map([
			["a", ["b"]],
			["b", ["a"]],
		]);
		expect(() => loadOrder(["a"], { dependencies: (name) => cycle.get(name) })).toThrow(/depends on itself/);
	});
});
