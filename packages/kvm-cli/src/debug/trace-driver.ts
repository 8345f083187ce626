import type { MachineExit, Vcpu } from "@x/kvm-core";
import {
	Debugger,
	formatTrace,
	TRACE_KINDS,
	type TraceKind,
	type TraceRecord,
	traceEvent,
	traceExit,
	traceInstruction,
} from "@x/kvm-core/debug";
import { CliError, EXIT } from "../exit.ts";
import type { Driven, GuestDriver } from "../guest/session.ts";
import { type CliIo, jsonDocument, type Output, write } from "../io.ts";

/**
 * Reads `--trace`'s list.
 *
 * @throws CliError BAD_OPTION
 */
export function parseTrace(text: string): ReadonlySet<TraceKind> {
	const kinds = text.split(",").map((word) => {
		const kind = TRACE_KINDS.find((one) => one === word);
		if (kind !== undefined) return kind;
		throw new CliError(EXIT.usage, "BAD_OPTION", `--trace ${text}: expected a list of ${TRACE_KINDS.join(", ")}`);
	});
	return new Set(kinds);
}

/** Runs a guest and writes a trace: lines on standard error, or as events among the JSON on standard output. */
export function traceDriver(kinds: ReadonlySet<TraceKind>, json: boolean, io: CliIo): GuestDriver {
	return async (driven) => {
		const { machine } = driven.guest;
		const output = json ? io.stdout : io.stderr;
		const line = (record: TraceRecord): string =>
			json ? jsonDocument({ event: "trace", ...record }) : `${formatTrace(record)}\n`;
		const emit = (record: TraceRecord): void => {
			output.write(line(record));
			// The guest waits for whoever reads its trace.
			if (output.writableNeedDrain) driven.stop();
		};
		if (kinds.has("exits")) machine.onExit = (vcpu, exit) => emit(traceExit(vcpu, exit));
		if (kinds.has("irq")) {
			for (const vcpu of machine.vcpus) vcpu.onEvent = (event) => emit(traceEvent(vcpu.id, event));
		}
		if (kinds.has("insn")) return await stepThrough(driven, (record) => write(output, line(record)));
		for (;;) {
			const exit = await driven.run();
			if (exit.reason !== "stopped" || driven.over.aborted) return exit;
			if (output.destroyed) return exit;
			if (output.writableNeedDrain) await drained(output, driven.over);
		}
	};
}

/** Resolves when the reader has caught up, is gone, or the guest is to end. */
function drained(output: Output, over: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const events = ["drain", "close", "error"] as const;
		const done = (): void => {
			for (const event of events) output.off(event, done);
			over.removeEventListener("abort", done);
			resolve();
		};
		for (const event of events) output.on(event, done);
		over.addEventListener("abort", done);
	});
}

/** Runs the guest instruction by instruction; of several vCPUs the first is traced. */
async function stepThrough(driven: Driven, emit: (record: TraceRecord) => Promise<void>): Promise<MachineExit> {
	const { machine } = driven.guest;
	const debug = new Debugger(debugTarget(driven));
	const [first, ...others] = machine.vcpus as [Vcpu, ...Vcpu[]];
	for (;;) {
		const pc = debug.pc(first.id);
		const code = debug.readMemory(first.id, pc, 15);
		if (first.getMpState() !== "halted") await emit(traceInstruction(first.id, pc, code, debug.codeBits(first.id)));
		const stop = await debug.resume({ step: first.id, run: others.map(({ id }) => id), interrupts: true });
		if (stop.reason !== "ended") continue;
		if (stop.exit.reason !== "stopped" || driven.over.aborted) return stop.exit;
	}
}

/** A guest's machine as a debugger's target, run the way its session runs it. */
export function debugTarget(driven: Driven): ConstructorParameters<typeof Debugger>[0] {
	const { machine } = driven.guest;
	return {
		vm: machine.vm,
		vcpus: machine.vcpus,
		held: machine.held,
		ram: machine.ram,
		get stepping() {
			return machine.stepping;
		},
		set stepping(id) {
			machine.stepping = id;
		},
		read: (address, into) => machine.read(address, into),
		run: () => driven.run(),
		stop: () => driven.stop(),
	};
}
