/**
 * Watching guests from outside: breakpoints and watchpoints, single steps, memory and registers by guest-virtual address,
 * the symbols a Linux kernel carries, and gdb's remote protocol.
 *
 * @packageDocumentation
 */

export {
	type DisassembledInstruction,
	type DisassembleOptions,
	disassemble,
	disassembleOne,
	type Syntax,
} from "../disasm/disassembler.ts";
export { DebuggerTarget, type DebuggerTargetOptions } from "../gdb/debugger-target.ts";
export { GdbServer, type GdbServerOptions } from "../gdb/server.ts";
export type { GdbPoint, GdbResume, GdbStop, GdbTarget, StopCause } from "../gdb/target.ts";
export { Debugger, type DebugTarget, type Point, type PointKind, type Resume, type StopEvent } from "./debugger.ts";
export { DebugError, type DebugErrorCode } from "./errors.ts";
export { ExitCounter, type ExitStatistics } from "./exit-statistics.ts";
export type { History } from "./history.ts";
export { readKallsyms } from "./kallsyms.ts";
export { type RecordedMachine, recordMachine } from "./machine-history.ts";
export { Monitor, type MonitorOptions } from "./monitor.ts";
export { describeWalk, type WalkFailure, type WalkResult, type WalkStep, walkPages } from "./page-walk.ts";
export { writeSymbolElf } from "./symbol-elf.ts";
export { type GuestSymbol, SymbolTable } from "./symbols.ts";
export {
	formatTrace,
	TRACE_KINDS,
	type TraceKind,
	type TraceRecord,
	traceEvent,
	traceExit,
	traceInstruction,
} from "./trace.ts";
export { type KeptVm, VmHistory, type VmHistoryOptions } from "./vm-history.ts";
