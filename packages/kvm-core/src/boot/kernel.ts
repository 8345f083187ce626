import { type Elf, isElf, parseElf } from "./elf.ts";
import { BootError } from "./errors.ts";
import { type BootRequest, planElf64, planLinuxEntry, planLinuxPayload } from "./linux.ts";
import { requireDisjoint } from "./memory-map.ts";
import { findMultibootHeader, type MultibootHeader, planMultiboot } from "./multiboot.ts";
import { decompressPayload, HOST_DECOMPRESSED, payloadFormat } from "./payload.ts";
import type { BootPlan, BootProtocol } from "./plan.ts";
import { planPvh } from "./pvh.ts";
import { planLinuxRealMode } from "./real-mode.ts";
import { type BzImage, isBzImage, parseBzImage } from "./setup-header.ts";

/** A kernel file read and understood. */
export type Kernel =
	| {
			readonly format: "bzimage";
			readonly image: BzImage;
			/** The ELF inside, unless it is compressed in a way only its own decompressor undoes. */
			readonly payload: Elf | undefined;
	  }
	| { readonly format: "elf"; readonly elf: Elf }
	| { readonly format: "multiboot"; readonly file: Uint8Array; readonly header: MultibootHeader };

/** Ways to enter a kernel that {@link planBoot} can be told to use instead of the best one. */
export type KernelProtocol = Exclude<BootProtocol, "firmware">;

/**
 * Reads a kernel file: a bzImage (whose payload is decompressed here), an ELF, or a multiboot 1 image.
 *
 * @throws BootError NOT_A_KERNEL, TRUNCATED, MALFORMED, UNSUPPORTED, BAD_PAYLOAD
 */
export async function loadKernel(file: Uint8Array): Promise<Kernel> {
	if (file.length === 0) throw new BootError("NOT_A_KERNEL", "the kernel file is empty", 0);
	if (isBzImage(file)) {
		const image = parseBzImage(file);
		const decompress = HOST_DECOMPRESSED.has(payloadFormat(image.payload));
		return {
			format: "bzimage",
			image,
			payload: decompress ? parseElf(await decompressPayload(image.payload)) : undefined,
		};
	}
	const header = findMultibootHeader(file);
	if (isElf(file)) {
		const elf = parseElf(file);
		if (elf.pvhEntry === undefined && header !== undefined) return { format: "multiboot", file, header };
		return { format: "elf", elf };
	}
	if (header !== undefined) return { format: "multiboot", file, header };
	throw new BootError("NOT_A_KERNEL", "not a kernel: expected a bzImage, an ELF executable or a multiboot 1 image");
}

/** The ways this kernel can be entered, best first. */
export function kernelProtocols(kernel: Kernel): KernelProtocol[] {
	if (kernel.format === "multiboot") return ["multiboot"];
	if (kernel.format === "elf") {
		return [
			...(kernel.elf.pvhEntry !== undefined ? ["pvh" as const] : []),
			...(kernel.elf.bits === 64 ? ["elf64" as const] : []),
		];
	}
	return [
		...(kernel.payload !== undefined ? ["linux-payload" as const] : []),
		"linux-entry",
		"linux-real",
		...(kernel.payload?.pvhEntry !== undefined ? ["pvh" as const] : []),
	];
}

/**
 * Makes the plan that starts a kernel.
 *
 * @param protocol - how to enter it; by default the first of {@link kernelProtocols}
 * @throws BootError
 */
export function planBoot(kernel: Kernel, request: BootRequest, protocol?: KernelProtocol): BootPlan {
	const possible = kernelProtocols(kernel);
	const chosen = protocol ?? possible[0];
	if (chosen === undefined) {
		throw new BootError("UNSUPPORTED", "a 32-bit ELF needs a PVH note or a multiboot header to be entered by");
	}
	if (!possible.includes(chosen)) {
		throw new BootError(
			"UNSUPPORTED",
			`this kernel cannot be entered by ${chosen}, only by ${possible.join(", ")}`,
			chosen,
		);
	}
	const plan = planBy(kernel, chosen, request);
	requireDisjoint(plan.segments);
	return plan;
}

function planBy(kernel: Kernel, protocol: KernelProtocol, request: BootRequest): BootPlan {
	switch (kernel.format) {
		case "multiboot":
			return planMultiboot(kernel.file, kernel.header, request);
		case "elf":
			return protocol === "pvh" ? planPvh(kernel.elf, request) : planElf64(kernel.elf, request);
		case "bzimage":
			if (protocol === "pvh") return planPvh(kernel.payload!, request);
			if (protocol === "linux-payload") return planLinuxPayload(kernel.image, kernel.payload!, request);
			return protocol === "linux-entry"
				? planLinuxEntry(kernel.image, request)
				: planLinuxRealMode(kernel.image, request);
	}
}
