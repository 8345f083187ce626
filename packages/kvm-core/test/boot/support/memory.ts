import type { BootPlan, MemoryRange } from "../../../src/boot/index.ts";

const MIB = 2 ** 20;

/** A PC's memory map for so many MiB. */
export function pcMemory(mib: number): MemoryRange[] {
	return [
		{ start: 0, length: 0x9fc00, type: 1 },
		{ start: 0x9fc00, length: 0x60400, type: 2 },
		{ start: MIB, length: (mib - 1) * MIB, type: 1 },
	];
}

export function segmentNamed(
	plan: BootPlan,
	name: string,
): { physAddr: number; bytes: Uint8Array; size: number; view: DataView } {
	const segment = plan.segments.find((candidate) => candidate.name === name);
	if (segment === undefined) throw new Error(`no segment ${name} among ${plan.segments.map((s) => s.name).join(", ")}`);
	const { bytes } = segment;
	return { ...segment, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

export function textAt(bytes: Uint8Array, offset = 0): string {
	const end = bytes.indexOf(0, offset);
	return new TextDecoder().decode(bytes.subarray(offset, end));
}
