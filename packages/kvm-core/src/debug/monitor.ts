import { disassembleOne, type Syntax } from "../disasm/disassembler.ts";
import type { Sregs, Vcpu } from "../kvm/types.ts";
import type { Machine } from "../machine/machine.ts";
import type { Debugger } from "./debugger.ts";
import { ExitCounter } from "./exit-statistics.ts";
import { describeWalk } from "./page-walk.ts";
import type { SymbolTable } from "./symbols.ts";
import { formatTrace, TRACE_KINDS, type TraceKind, traceEvent, traceExit } from "./trace.ts";

/** What a {@link Monitor} speaks about. */
export interface MonitorOptions {
	readonly debugger: Debugger;
	readonly machine: Machine;
	readonly symbols?: SymbolTable;
	/** Takes the lines of a trace that `trace on` asked for. */
	onTrace?(line: string): void;
}

interface Command {
	readonly usage: string;
	readonly help: string;
	run(words: readonly string[]): string;
}

const MOST_INSTRUCTIONS = 1000;

/** Answers what a debugger's protocol has no words for: gdb's `monitor` commands. */
export class Monitor {
	readonly #debugger: Debugger;
	readonly #machine: Machine;
	readonly #symbols: SymbolTable | undefined;
	readonly #onTrace: (line: string) => void;
	readonly #statistics = new ExitCounter();
	readonly #traced = new Set<TraceKind>();
	#vcpu = 0;

	constructor(options: MonitorOptions) {
		this.#debugger = options.debugger;
		this.#machine = options.machine;
		this.#symbols = options.symbols;
		this.#onTrace = (line) => options.onTrace?.(line);
		this.#machine.onExit = (vcpu, exit) => {
			this.#statistics.count(exit);
			if (this.#traced.has("exits")) this.#onTrace(formatTrace(traceExit(vcpu, exit)));
		};
	}

	/** Lets go of the machine. */
	close(): void {
		this.#machine.onExit = undefined;
		for (const vcpu of this.#machine.vcpus) vcpu.onEvent = undefined;
	}

	/** Runs a command; what it says ends with a line's end. */
	async run(line: string): Promise<string> {
		const [name = "help", ...words] = line.trim().split(/\s+/).filter(Boolean);
		const command = this.#commands[name];
		if (command === undefined) return `no command "${name}"; "monitor help" lists them\n`;
		try {
			return command.run(words);
		} catch (error) {
			return `${error instanceof Error ? error.message : String(error)}\nusage: ${command.usage}\n`;
		}
	}

	readonly #commands: Readonly<Record<string, Command>> = {
		help: {
			usage: "help",
			help: "this list",
			run: () => {
				const commands = Object.values(this.#commands);
				const width = Math.max(...commands.map(({ usage }) => usage.length));
				return `${commands.map(({ usage, help }) => `${usage.padEnd(width)}  ${help}`).join("\n")}\n`;
			},
		},
		vcpu: {
			usage: "vcpu [N]",
			help: "which vCPU these commands are about",
			run: ([id]) => {
				if (id !== undefined) this.#vcpu = this.#debugger.vcpu(numberOf(id)).id;
				return `vCPU ${this.#vcpu}\n`;
			},
		},
		regs: { usage: "regs", help: "all registers, segments and control registers", run: () => this.#registers() },
		translate: {
			usage: "translate ADDRESS",
			help: "where a virtual address leads, or at which level and bit it fails",
			run: ([address]) => this.#translate(this.#address(address)),
		},
		x: {
			usage: "x [ADDRESS [COUNT [att]]]",
			help: "disassembles in the mode the vCPU is in (16, 32 or 64 bits)",
			run: ([address, count, syntax]) => this.#disassemble(address, count, syntax === "att" ? "att" : "intel"),
		},
		stats: {
			usage: "stats",
			help: "exit counters, by the names of KVM's debugfs files of 2006",
			run: () =>
				Object.entries(this.#statistics.read(this.#machine.vcpus))
					.map(([name, value]) => `${name.padEnd(13)} ${value}\n`)
					.join(""),
		},
		trace: {
			usage: "trace on|off [exits|irq]",
			help: "traces exits or interrupts as the guest runs, on xkvm's standard error",
			run: (words) => this.#trace(words),
		},
		irq: {
			usage: "irq GSI [up|down|pulse]",
			help: "drives an interrupt line of the machine",
			run: ([gsi, how = "pulse"]) => this.#interrupt(numberOf(gsi), how),
		},
		devices: { usage: "devices", help: "the machine's devices and their state", run: () => this.#devices() },
	};

	#address(text: string | undefined): bigint {
		if (text === undefined) throw new Error("an address is missing");
		const symbol = this.#symbols?.find(text);
		if (symbol !== undefined) return symbol.address;
		if (!/^(?:0x[0-9a-f]+|\d+)$/i.test(text)) throw new Error(`"${text}" is neither a number nor a symbol`);
		return BigInt.asUintN(64, BigInt(text));
	}

	#translate(address: bigint): string {
		const result = this.#debugger.translate(this.#vcpu, address);
		const steps = result.steps.map(
			({ level, address: at, value }) => `  ${level.padEnd(5)} 0x${value.toString(16)} at 0x${at.toString(16)}\n`,
		);
		return `${describeWalk(address, result)}\n${steps.join("")}`;
	}

	#disassemble(address: string | undefined, count: string | undefined, syntax: Syntax): string {
		const bits = this.#debugger.codeBits(this.#vcpu);
		let at = address === undefined ? this.#debugger.pc(this.#vcpu) : this.#address(address);
		const most = count === undefined ? 10 : numberOf(count);
		let text = "";
		for (let i = 0; i < Math.min(most, MOST_INSTRUCTIONS); i++) {
			const code = this.#debugger.readMemory(this.#vcpu, at, 15);
			if (code.length === 0) return `${text}${this.#translate(at)}`;
			const one = disassembleOne(code, { address: at, bits, syntax, symbol: (target) => this.#name(target) });
			text += `${this.#name(at) ?? `0x${at.toString(16)}`}: ${one.text}\n`;
			at += BigInt(one.length);
		}
		return text;
	}

	#name(address: bigint): string | undefined {
		const text = this.#symbols?.describe(address);
		return text === undefined || text.startsWith("0x") ? undefined : text;
	}

	#registers(): string {
		const vcpu = this.#debugger.vcpu(this.#vcpu);
		const { rip, rflags, ...general } = vcpu.getRegs();
		const sregs = vcpu.getSregs();
		const lines = Object.entries(general).map(([name, value]) => `${name.padEnd(3)} ${wide(value)}`);
		const rows = Array.from({ length: lines.length / 4 }, (_, i) => lines.slice(4 * i, 4 * i + 4).join("  "));
		const cs = sregs.cs.selector.toString(16).padStart(4, "0");
		const bits = this.#debugger.codeBits(this.#vcpu);
		return [
			`rip ${cs}:${rip.toString(16)} (linear 0x${this.#debugger.pc(this.#vcpu).toString(16)}, ${bits}-bit code)`,
			`rflags ${rflags.toString(16)} (${flagNames(rflags)})  ${vcpu.getMpState()}`,
			...rows,
			...segmentLines(sregs),
			...controlLines(sregs, vcpu),
			"",
		].join("\n");
	}

	#trace([onOff, kind]: readonly string[]): string {
		if (onOff !== "on" && onOff !== "off") throw new Error("on or off?");
		const kinds = kind === undefined ? (["exits", "irq"] as const) : TRACE_KINDS.filter((one) => one === kind);
		if (kinds.length === 0) throw new Error(`"${kind}" cannot be traced here`);
		if (kinds.includes("insn" as never)) throw new Error("instructions are traced by xkvm run --trace insn");
		for (const one of kinds) {
			if (onOff === "on") this.#traced.add(one);
			else this.#traced.delete(one);
		}
		for (const vcpu of this.#machine.vcpus) {
			vcpu.onEvent = this.#traced.has("irq")
				? (event) => this.#onTrace(formatTrace(traceEvent(vcpu.id, event, this.#symbols)))
				: undefined;
		}
		return `tracing ${[...this.#traced].join(", ") || "nothing"}\n`;
	}

	#interrupt(gsi: number, how: string): string {
		if (gsi > 23) throw new Error(`there is no line ${gsi}; lines are 0 to 23`);
		if (!/^(?:up|down|pulse)$/.test(how)) throw new Error(`"${how}": up, down or pulse?`);
		if (how !== "down") this.#machine.vm.setIrqLine(gsi, true);
		if (how !== "up") this.#machine.vm.setIrqLine(gsi, false);
		return `line ${gsi}: ${how}\n`;
	}

	#devices(): string {
		const state = this.#machine.board.save();
		const plain = (value: unknown): unknown =>
			value instanceof Uint8Array || (Array.isArray(value) && value.length > 16) ? `[${value.length}]` : value;
		return Object.entries(state)
			.map(([name, device]) => `${name}: ${JSON.stringify(device, (_, value: unknown) => printable(plain(value)))}\n`)
			.join("");
	}
}

function printable(value: unknown): unknown {
	return typeof value === "bigint" ? `0x${value.toString(16)}` : value;
}

function numberOf(text: string | undefined): number {
	if (text === undefined || !/^(?:0x[0-9a-f]{1,8}|\d{1,9})$/i.test(text))
		throw new Error(`"${text ?? ""}" is no number`);
	return Number(text);
}

function wide(value: bigint): string {
	return value.toString(16).padStart(16, "0");
}

const FLAG_BITS: readonly (readonly [bit: number, name: string])[] = [
	[0, "CF"],
	[2, "PF"],
	[4, "AF"],
	[6, "ZF"],
	[7, "SF"],
	[8, "TF"],
	[9, "IF"],
	[10, "DF"],
	[11, "OF"],
	[14, "NT"],
	[16, "RF"],
	[17, "VM"],
	[18, "AC"],
];

function flagNames(rflags: bigint): string {
	const names = FLAG_BITS.filter(([bit]) => ((rflags >> BigInt(bit)) & 1n) === 1n).map(([, name]) => name);
	return [...names, `IOPL=${(rflags >> 12n) & 3n}`].join(" ");
}

function segmentLines(sregs: Sregs): string[] {
	const segments = (["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt"] as const).map((name) => {
		const { selector, base, limit, type, dpl, db, l, unusable } = sregs[name];
		const what = unusable !== 0 ? "unusable" : `type ${type} dpl ${dpl} ${l !== 0 ? "64" : db !== 0 ? "32" : "16"}-bit`;
		return `${name.padEnd(3)} ${selector.toString(16).padStart(4, "0")} base ${wide(base)} limit ${limit.toString(16).padStart(8, "0")} ${what}`;
	});
	const tables = (["gdt", "idt"] as const).map(
		(name) => `${name} base ${wide(sregs[name].base)} limit ${sregs[name].limit.toString(16).padStart(4, "0")}`,
	);
	return [...segments, ...tables];
}

function controlLines(sregs: Sregs, vcpu: Vcpu): string[] {
	const { db, dr6, dr7 } = vcpu.getDebugRegs();
	return [
		`cr0 ${wide(sregs.cr0)}  cr2 ${wide(sregs.cr2)}  cr3 ${wide(sregs.cr3)}  cr4 ${wide(sregs.cr4)}`,
		`cr8 ${sregs.cr8.toString(16)}  efer ${sregs.efer.toString(16)}  apicBase ${sregs.apicBase.toString(16)}`,
		`dr0 ${wide(db[0])}  dr1 ${wide(db[1])}  dr2 ${wide(db[2])}  dr3 ${wide(db[3])}`,
		`dr6 ${dr6.toString(16)}  dr7 ${dr7.toString(16)}`,
	];
}
