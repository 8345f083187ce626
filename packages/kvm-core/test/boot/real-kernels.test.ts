import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { kernelProtocols, loadKernel, planBoot } from "../../src/boot/index.ts";
import { realKernels } from "./support/kernels.ts";
import { pcMemory } from "./support/memory.ts";

const kernels = realKernels();

describe("kernels found on this machine", () => {
	if (kernels.length === 0) {
		it.skip("none: set XKVM_TEST_KERNELS or run `xkvm image build` to test with some", () => {});
	}

	it.each(kernels.map((path) => [`${basename(dirname(path))}/${basename(path)}`, path]))(
		"%s can be entered every way it offers",
		async (_, path) => {
			const kernel = await loadKernel(readFileSync(path));
			const protocols = kernelProtocols(kernel);
			expect(protocols.length).toBeGreaterThan(0);
			for (const protocol of protocols) {
				const plan = planBoot(
					kernel,
					{ memoryMap: pcMemory(256), commandLine: "console=ttyS0", initrd: new Uint8Array(1e6) },
					protocol,
				);
				expect(plan.protocol).toBe(protocol);
				const entry = Number(plan.sregs.cs.base + plan.regs.rip);
				expect(plan.segments.some(({ physAddr, bytes }) => entry >= physAddr && entry < physAddr + bytes.length)).toBe(
					true,
				);
			}
		},
	);

	it.each(kernels.map((path) => [`${basename(dirname(path))}/${basename(path)}`, path]))(
		"%s is refused when cut",
		async (_, path) => {
			const whole = readFileSync(path);
			for (const part of [0.01, 0.5, 0.99]) {
				await expect(loadKernel(whole.subarray(0, whole.length * part))).rejects.toMatchObject({ code: "TRUNCATED" });
			}
		},
	);
});
