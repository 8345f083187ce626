import { disassembleOne } from "../disasm/disassembler.ts";
import type { Vcpu, VcpuEvent, VcpuExit } from "../kvm/types.ts";
import type { SymbolTable } from "./symbols.ts";

/** What can be traced. */
export const TRACE_KINDS = ["exits", "irq", "insn"] as const;

/** The names in {@link TRACE_KINDS}. */
export type TraceKind = (typeof TRACE_KINDS)[number];

/** One line of a trace; plain and JSON-able. Addresses are hexadecimal text. */
export type TraceRecord =
	| {
			readonly trace: "exit";
			readonly vcpu: number;
			readonly reason: VcpuExit["reason"];
			readonly instructions?: number;
			readonly direction?: "in" | "out" | "read" | "write";
			readonly address?: string;
			readonly data?: string;
			readonly bytes?: number;
	  }
	| {
			readonly trace: "irq";
			readonly vcpu: number;
			readonly kind: VcpuEvent["kind"];
			readonly vector: number;
			readonly errorCode?: number;
			readonly at: string;
	  }
	| {
			readonly trace: "insn";
			readonly vcpu: number;
			readonly at: string;
			readonly bytes: string;
			readonly text: string;
	  };

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const hexBytes = (bytes: Uint8Array): string =>
	Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** An exit as a line of a trace. Data that the embedder is still to supply is not shown. */
export function traceExit(vcpu: Vcpu, exit: VcpuExit): TraceRecord {
	const { instructionsRetired } = vcpu;
	const common = {
		trace: "exit",
		vcpu: vcpu.id,
		reason: exit.reason,
		...(instructionsRetired === undefined ? {} : { instructions: instructionsRetired }),
	} as const;
	if (exit.reason === "io") {
		const { direction, port, data } = exit;
		const shown = direction === "out" ? { data: hexBytes(data.subarray(0, 16)) } : {};
		return { ...common, direction, address: hex(port), bytes: data.length, ...shown };
	}
	if (exit.reason === "mmio") {
		const { isWrite, physAddr, data } = exit;
		const shown = isWrite ? { data: hexBytes(data) } : {};
		return { ...common, direction: isWrite ? "write" : "read", address: hex(physAddr), bytes: data.length, ...shown };
	}
	if (exit.reason === "debug") return { ...common, address: hex(exit.pc) };
	return common;
}

/** An interrupt or exception as a line of a trace. */
export function traceEvent(vcpu: number, event: VcpuEvent, symbols?: SymbolTable): TraceRecord {
	const { kind, vector, errorCode, rip } = event;
	const code = errorCode < 0 ? {} : { errorCode };
	return { trace: "irq", vcpu, kind, vector, ...code, at: symbols?.describe(rip) ?? hex(rip) };
}

/** The instruction whose bytes stand at `address` as a line of a trace. */
export function traceInstruction(
	vcpu: number,
	address: bigint,
	code: Uint8Array,
	bits: 16 | 32 | 64,
	symbols?: SymbolTable,
): TraceRecord {
	const name = (at: bigint): string | undefined => {
		const text = symbols?.describe(at);
		return text === undefined || text.startsWith("0x") ? undefined : text;
	};
	const { bytes, text } = disassembleOne(code, { address, bits, symbol: name });
	return { trace: "insn", vcpu, at: symbols?.describe(address) ?? hex(address), bytes: hexBytes(bytes), text };
}

/** A trace record for people. */
export function formatTrace(record: TraceRecord): string {
	switch (record.trace) {
		case "exit": {
			const where = record.address === undefined ? "" : ` ${record.direction ?? "at"} ${record.address}`;
			const what = record.bytes === undefined ? "" : ` ${record.data ?? ""}[${record.bytes}]`;
			return `vcpu${record.vcpu} exit ${record.reason}${where}${what}`;
		}
		case "irq": {
			const code = record.errorCode === undefined ? "" : ` error ${hex(record.errorCode)}`;
			return `vcpu${record.vcpu} ${record.kind} vector ${hex(record.vector)}${code} at ${record.at}`;
		}
		case "insn":
			return `vcpu${record.vcpu} ${record.at}: ${record.text}`;
	}
}
