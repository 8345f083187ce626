import { StackError } from "../errors.ts";

/** When an event happens, in seconds: after the one before, since the start, in a range, or whenever. */
export type EventTime = { kind: "relative" | "absolute"; at: number; until?: number } | { kind: "any" };

/** An expression of a system call. */
export type Expression =
	| { type: "ellipsis" }
	| { type: "number"; value: number }
	| { type: "string"; value: string }
	| { type: "name"; value: string }
	| { type: "or"; items: Expression[] }
	| { type: "list"; items: Expression[] }
	| { type: "struct"; fields: Map<string, Expression> }
	| { type: "call"; name: string; args: Expression[] };

/** A TCP segment as scripted; numbers are relative to the connection's initial ones. */
export interface ScriptSegment {
	readonly flags: string;
	readonly seq: number;
	readonly length: number;
	readonly ack: number | undefined;
	readonly win: number | undefined;
	readonly urgent: number;
	/** Undefined for `<...>`: any options. */
	readonly options: readonly ScriptOption[] | undefined;
	/** `noecn`, `ect0`, `ect1`, `ce` or undefined. */
	readonly ecn: string | undefined;
}

export interface ScriptOption {
	readonly kind: "mss" | "wscale" | "sackOK" | "TS" | "nop" | "eol" | "sack" | "FO" | "FOEXP" | "md5" | "other";
	readonly values: readonly number[];
	readonly cookie?: string;
}

export type ScriptEvent = { line: number; time: EventTime } & (
	| { kind: "packet"; direction: "in" | "out"; segment: ScriptSegment }
	| { kind: "icmp"; direction: "in" | "out"; type: string; code: string; mtu: number; seq: number; length: number }
	| {
			kind: "syscall";
			end: EventTime | undefined;
			name: string;
			args: Expression[];
			result: Expression | undefined;
			errno: string | undefined;
	  }
	| { kind: "command"; text: string }
	| { kind: "code"; text: string }
);

export interface Script {
	readonly options: ReadonlyMap<string, string>;
	readonly events: readonly ScriptEvent[];
}

const FLAGS = /^(?:-|[SFRPUEWAC.0-9]+)(?=\s)/;

/**
 * Parses a packetdrill script.
 *
 * @throws StackError `ERR_BAD_SCRIPT`, its message starting with the line
 */
export function parseScript(text: string): Script {
	return new Parser(text).script();
}

class Parser {
	private readonly text: string;
	private at = 0;

	constructor(text: string) {
		this.text = text;
	}

	private fail(expected: string): never {
		const rest = this.text.slice(this.at, this.at + 40).split("\n")[0];
		throw new StackError("ERR_BAD_SCRIPT", `line ${this.line()}: expected ${expected} at "${rest}"`);
	}

	private line(): number {
		let line = 1;
		for (let i = 0; i < this.at; i++) if (this.text.charCodeAt(i) === 10) line++;
		return line;
	}

	private skip(): void {
		const space = /(?:\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/|^#[^\n]*)+/my;
		space.lastIndex = this.at;
		const match = space.exec(this.text);
		if (match !== null) this.at += match[0].length;
	}

	private take(pattern: RegExp): RegExpExecArray | undefined {
		const match = pattern.exec(this.text.slice(this.at, this.at + 4000));
		if (match === null || match.index !== 0) return undefined;
		this.at += match[0].length;
		return match;
	}

	script(): Script {
		const options = new Map<string, string>();
		const events: ScriptEvent[] = [];
		this.skip();
		for (;;) {
			const option = this.take(/^--([a-z_0-9]+)(?:=(\S+))?/);
			if (option === undefined) break;
			options.set(option[1]!, (option[2] ?? "").replace(/^"(.*)"$/, "$1"));
			this.skip();
		}
		while (this.at < this.text.length) {
			events.push(this.event());
			this.skip();
		}
		return { options, events };
	}

	private seconds(): number {
		const number = this.take(/^\d*\.?\d+|^\d+\.?/);
		if (number === undefined) this.fail("a time in seconds");
		return Number(number[0]);
	}

	private time(): EventTime {
		if (this.take(/^\*/) !== undefined) return { kind: "any" };
		const relative = this.take(/^\+\s*/) !== undefined;
		const at = this.seconds();
		const range = this.take(/^~\s*(\+)?\s*/);
		const kind = relative ? "relative" : "absolute";
		return range === undefined ? { kind, at } : { kind, at, until: this.seconds() };
	}

	private event(): ScriptEvent {
		const line = this.line();
		let time: EventTime = { kind: "relative", at: 0 };
		let end: EventTime | undefined;
		if (/^[+*\d.]/.test(this.text.slice(this.at, this.at + 1))) {
			time = this.time();
			if (this.take(/^\s*\.\.\.\s*/) !== undefined) end = this.time();
		}
		this.skip();
		const command = this.take(/^`([^`]*)`/);
		if (command !== undefined) return { line, time, kind: "command", text: command[1]! };
		const code = this.take(/^%\{([\s\S]*?)\}%/);
		if (code !== undefined) return { line, time, kind: "code", text: code[1]! };
		const direction = this.take(/^([<>])\s*/);
		if (direction !== undefined) return this.packet(line, time, direction[1] === "<" ? "in" : "out");
		return this.syscall(line, time, end);
	}

	private packet(line: number, time: EventTime, direction: "in" | "out"): ScriptEvent {
		this.take(/^(?:ipv4|ipv6)\s+[^:]*:\s*/);
		const quoted = this.take(/^\[(\d+):\d+\((\d+)\)\][ \t]*(?=icmp)/);
		const icmp = this.take(
			/^icmp(?:v6)?[ \t]+(\w+)(?:[ \t]+(?!mtu\b)(\w+))?(?:[ \t]+mtu[ \t]+(\d+))?(?:[ \t]+\[(\d+)(?::\d+)?\((\d+)\)\])?/,
		);
		if (icmp !== undefined) {
			return {
				line,
				time,
				kind: "icmp",
				direction,
				type: icmp[1]!,
				code: icmp[2] ?? "",
				mtu: Number(icmp[3] ?? 0),
				seq: Number(icmp[4] ?? quoted?.[1] ?? 0),
				length: Number(icmp[5] ?? quoted?.[2] ?? 0),
			};
		}
		const ip = this.take(/^[[(]([^\])]*)[\])]\s*/);
		const ecn = ip === undefined ? undefined : /\b(noecn|ect0|ect1|ect01|ce)\b/.exec(ip[1]!)?.[1];
		const flags = this.take(FLAGS);
		if (flags === undefined) this.fail("TCP flags");
		this.skip();
		const seq = this.take(/^(\d+)[ \t]*:[ \t]*(\d+)[ \t]*\([ \t]*(\d+)[ \t]*\)/);
		if (seq === undefined) this.fail("SEQ:END(LENGTH)");
		let ack: number | undefined;
		let win: number | undefined;
		let urgent = 0;
		let options: ScriptOption[] | undefined = [];
		for (;;) {
			this.take(/^[ \t]+/);
			const field = this.take(/^(ack|win|urg)\s+(\d+)/);
			if (field !== undefined) {
				if (field[1] === "ack") ack = Number(field[2]);
				else if (field[1] === "win") win = Number(field[2]);
				else urgent = Number(field[2]);
				continue;
			}
			const list = this.take(/^<([^>]*)>/);
			if (list === undefined) break;
			options = list[1]!.trim() === "..." ? undefined : list[1]!.split(",").map((item) => parseOption(item.trim()));
		}
		return {
			line,
			time,
			kind: "packet",
			direction,
			segment: { flags: flags[0].trim(), seq: Number(seq[1]), length: Number(seq[3]), ack, win, urgent, options, ecn },
		};
	}

	private syscall(line: number, time: EventTime, end: EventTime | undefined): ScriptEvent {
		const name = this.take(/^([a-z_0-9]+)\s*\(/);
		if (name === undefined) this.fail("a packet, a system call, `command` or %{ code }%");
		const args = this.list(")");
		this.skip();
		let result: Expression | undefined;
		let errno: string | undefined;
		if (this.take(/^=\s*/) !== undefined) {
			result = this.expression();
			errno = this.take(/^[ \t]+(E[A-Z0-9]+)/)?.[1];
			if (errno === "EWOULDBLOCK") errno = "EAGAIN";
			this.take(/^[ \t]*\([^)\n]*\)/);
		}
		return { line, time, kind: "syscall", end, name: name[1]!, args, result, errno };
	}

	private list(close: string): Expression[] {
		const items: Expression[] = [];
		for (;;) {
			this.skip();
			if (this.text[this.at] === close) {
				this.at++;
				return items;
			}
			items.push(this.expression());
			this.skip();
			if (this.text[this.at] === ",") this.at++;
			else if (this.text[this.at] !== close) this.fail(`, or ${close}`);
		}
	}

	private expression(): Expression {
		const first = this.term();
		const items = [first];
		for (;;) {
			const saved = this.at;
			this.skip();
			if (this.take(/^\|(?!\|)/) === undefined) {
				this.at = saved;
				break;
			}
			this.skip();
			items.push(this.term());
		}
		return items.length === 1 ? first : { type: "or", items };
	}

	private term(): Expression {
		this.skip();
		if (this.take(/^\.\.\./) !== undefined) return { type: "ellipsis" };
		const hex = this.take(/^-?0x[0-9a-fA-F]+/);
		if (hex !== undefined) return { type: "number", value: Number(hex[0]) };
		const number = this.take(/^-?\d+(?:\.\d+)?/);
		if (number !== undefined) {
			const shift = this.take(/^\s*<<\s*(\d+)/);
			const value = Number(number[0]);
			return { type: "number", value: shift === undefined ? value : value * 2 ** Number(shift[1]) };
		}
		const text = this.take(/^"((?:[^"\\]|\\.)*)"/);
		if (text !== undefined) return { type: "string", value: text[1]! };
		if (this.take(/^\[/) !== undefined) return { type: "list", items: this.list("]") };
		if (this.take(/^\{/) !== undefined) return this.struct();
		const call = this.take(/^([A-Za-z_][A-Za-z_0-9]*)\s*\(/);
		if (call !== undefined) {
			const args = this.list(")");
			this.skip();
			// msg_name(...)=value inside a struct.
			if (this.take(/^=/) !== undefined) return this.expression();
			return { type: "call", name: call[1]!, args };
		}
		const name = this.take(/^[A-Za-z_][A-Za-z_0-9]*/);
		if (name !== undefined) return { type: "name", value: name[0] };
		return this.fail("an expression");
	}

	private struct(): Expression {
		const fields = new Map<string, Expression>();
		for (let i = 0; ; i++) {
			this.skip();
			if (this.take(/^\}/) !== undefined) return { type: "struct", fields };
			const key = this.take(/^\.?([A-Za-z_0-9]+)(?:\([^)]*\))?\s*=\s*/);
			fields.set(key?.[1] ?? String(i), this.expression());
			this.skip();
			if (this.take(/^,/) === undefined && this.text[this.at] !== "}") this.fail(", or }");
		}
	}
}

function parseOption(text: string): ScriptOption {
	const numbers = (from: string) => [...from.matchAll(/\d+/g)].map((match) => Number(match[0]));
	if (text === "nop" || text === "eol" || text === "sackOK") return { kind: text, values: [] };
	if (text.startsWith("mss ")) return { kind: "mss", values: numbers(text) };
	if (text.startsWith("wscale ")) return { kind: "wscale", values: numbers(text) };
	if (text.startsWith("sack ")) return { kind: "sack", values: numbers(text) };
	if (text.startsWith("TS val")) return { kind: "TS", values: numbers(text) };
	const fast = /^(FO|FOEXP)(?:\s+([0-9a-fA-F]*|nil|TFO_COOKIE|\.\.\.))?$/.exec(text);
	if (fast !== null)
		return {
			kind: fast[1] as "FO" | "FOEXP",
			values: [],
			cookie: fast[2] === undefined || fast[2] === "nil" ? "" : fast[2],
		};
	const digest = /^md5(?:\s+([0-9a-fA-F]*|valid))?$/.exec(text);
	if (digest !== null) return { kind: "md5", values: [], cookie: digest[1] ?? "" };
	return { kind: "other", values: [], cookie: text };
}
