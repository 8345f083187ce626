import {
	encodePacket,
	fromHex,
	fromLatin1,
	type Incoming,
	latin1,
	PACKET_BYTES,
	PacketReader,
	toHex,
} from "./packet.ts";
import { REGISTERS_32, REGISTERS_64, targetDescription } from "./registers.ts";
import type { GdbPoint, GdbResume, GdbStop, GdbTarget } from "./target.ts";
import { parseVCont } from "./vcont.ts";

/** errno values gdb prints as numbers. */
const EFAULT = "E0e";
const EINVAL = "E16";
const OK = "OK";
/** To packets that are not known, as the protocol has it. */
const UNSUPPORTED = "";
const SIGTRAP = 5;
/** Packets that may wait while the guest runs. */
const MOST_WAITING = 64;

const POINTS: readonly GdbPoint[] = ["software", "hardware", "write", "read", "access"];
/** Registers that go along with every stop, so that gdb need not ask: the program counter and the stack's. */
const EXPEDITED_64 = [16, 7, 6];
const EXPEDITED_32 = [8, 4, 5];

/** What a {@link GdbServer} is given. */
export interface GdbServerOptions {
	readonly target: GdbTarget;
	/** Sends to gdb. */
	send(bytes: Uint8Array): void;
	/** gdb detached or killed the guest: the connection is to be closed. */
	onEnd(how: "detached" | "killed"): void;
}

/**
 * The server's side of gdb's remote serial protocol (gdb manual, appendix E) over any connection: bytes in, bytes out.
 * One debugger is served at a time, in all-stop mode. Whatever comes in, the answer is a packet.
 */
export class GdbServer {
	readonly #target: GdbTarget;
	readonly #send: (bytes: Uint8Array) => void;
	readonly #onEnd: (how: "detached" | "killed") => void;
	readonly #reader = new PacketReader();
	#acks = true;
	#lastSent: Uint8Array | undefined;
	#last: GdbStop;
	#general: number;
	#continues = -1;
	#busy = false;
	#ended = false;
	readonly #waiting: Uint8Array[] = [];
	/** gdb understands `swbreak` and `hwbreak`. */
	#knowsBreaks = false;
	/** Documents under way, so that the pieces of one reading fit together. */
	readonly #documents = new Map<string, Uint8Array>();

	constructor(options: GdbServerOptions) {
		this.#target = options.target;
		this.#send = (bytes) => options.send(bytes);
		this.#onEnd = (how) => options.onEnd(how);
		this.#general = this.#target.threads[0]!;
		this.#last = { kind: "signal", thread: this.#general, signal: SIGTRAP };
	}

	/** Takes what came from gdb. */
	receive(bytes: Uint8Array): void {
		for (const incoming of this.#reader.push(bytes)) if (!this.#ended) this.#take(incoming);
	}

	/** The connection is gone: the guest runs on. */
	close(): void {
		if (this.#ended) return;
		this.#ended = true;
		if (this.#busy) this.#target.interrupt();
		this.#target.detach();
	}

	#take(incoming: Incoming): void {
		switch (incoming.kind) {
			case "interrupt":
				if (this.#busy) this.#target.interrupt();
				return;
			case "nak":
				if (this.#acks && this.#lastSent !== undefined) this.#send(this.#lastSent);
				return;
			case "broken":
				if (this.#acks) this.#send(latin1("-"));
				return;
			case "packet":
				if (this.#acks) this.#send(latin1("+"));
				if (!this.#busy) this.#handle(incoming.data);
				else if (this.#waiting.length < MOST_WAITING) this.#waiting.push(incoming.data);
				return;
			case "ack":
				this.#lastSent = undefined;
		}
	}

	#reply(contents: string | Uint8Array): void {
		if (this.#ended) return;
		const packet = encodePacket(contents);
		if (this.#acks) this.#lastSent = packet;
		this.#send(packet);
	}

	#handle(data: Uint8Array): void {
		const text = fromLatin1(data);
		try {
			const answer = this.#command(text, data);
			if (answer !== undefined) this.#reply(answer);
		} catch {
			this.#reply(EFAULT);
		}
	}

	/** Answers a packet; undefined when the answer comes later or there is none. */
	#command(text: string, data: Uint8Array): string | Uint8Array | undefined {
		switch (text[0]) {
			case "?":
				return this.#stopReply(this.#last);
			case "g":
				return this.#readAll();
			case "G":
				return this.#writeAll(text.slice(1));
			case "p":
				return this.#readOne(text.slice(1));
			case "P":
				return this.#writeOne(text.slice(1));
			case "m":
				return this.#readMemory(text.slice(1));
			case "M":
				return this.#writeMemory(text.slice(1));
			case "X":
				return this.#writeBinary(text, data);
			case "H":
				return this.#selectThread(text.slice(1));
			case "T":
				return this.#thread(text.slice(1)) === undefined ? EINVAL : OK;
			case "c":
			case "s":
				return this.#resumeAt(text[0], text.slice(1));
			case "C":
			case "S":
				return this.#resumeAt(text[0].toLowerCase(), /^..(?:;(.*))?$/.exec(text.slice(1))?.[1] ?? "");
			case "b":
				return this.#reverse(text);
			case "Z":
			case "z":
				return this.#point(text);
			case "v":
				return this.#verbose(text);
			case "q":
				return this.#query(text);
			case "Q":
				return this.#set(text);
			case "D":
				this.#reply(OK);
				this.#end("detached");
				return undefined;
			case "k":
				this.#end("killed");
				return undefined;
			default:
				return UNSUPPORTED;
		}
	}

	#end(how: "detached" | "killed"): void {
		this.#ended = true;
		if (how === "killed") this.#target.kill();
		else this.#target.detach();
		this.#onEnd(how);
	}

	// ---- registers and memory ----------------------------------------------------------------------------------

	get #registers(): typeof REGISTERS_64 {
		return this.#target.bits === 64 ? REGISTERS_64 : REGISTERS_32;
	}

	#readAll(): string {
		const values = this.#target.readRegisters(this.#general);
		return this.#registers
			.map(({ bytes }, i) => (values[i] === undefined ? "xx".repeat(bytes) : toHex(values[i])))
			.join("");
	}

	#writeAll(digits: string): string {
		const values: [number: number, value: Uint8Array][] = [];
		let at = 0;
		for (const [number, { bytes }] of this.#registers.entries()) {
			const part = digits.slice(at, at + 2 * bytes);
			at += 2 * bytes;
			// gdb may send fewer registers than there are, and x for what it does not know.
			if (part.length < 2 * bytes) break;
			if (/^x+$/i.test(part)) continue;
			const value = fromHex(part);
			if (value === undefined) return EINVAL;
			values.push([number, value]);
		}
		if (values.length === 0) return EINVAL;
		return this.#target.writeRegisters(this.#general, values) ? OK : EINVAL;
	}

	#readOne(digits: string): string {
		const number = hexNumber(digits);
		const register = number === undefined ? undefined : this.#registers[number];
		if (register === undefined) return EINVAL;
		const value = this.#target.readRegisters(this.#general)[number!];
		return value === undefined ? "xx".repeat(register.bytes) : toHex(value);
	}

	#writeOne(text: string): string {
		const [, digits, contents] = /^([0-9a-fA-F]+)=([0-9a-fA-F]+)$/.exec(text) ?? [];
		const number = digits === undefined ? undefined : hexNumber(digits);
		const register = number === undefined ? undefined : this.#registers[number];
		const value = contents === undefined ? undefined : fromHex(contents);
		if (register === undefined || value?.length !== register.bytes) return EINVAL;
		return this.#target.writeRegisters(this.#general, [[number!, value]]) ? OK : EINVAL;
	}

	#readMemory(text: string): string {
		const range = addressAndLength(text);
		if (range === undefined) return EINVAL;
		const length = Math.min(range.length, (PACKET_BYTES - 16) / 2);
		const bytes = this.#target.readMemory(this.#general, range.address, length);
		return bytes.length === 0 && length > 0 ? EFAULT : toHex(bytes);
	}

	#writeMemory(text: string): string {
		const colon = text.indexOf(":");
		const range = addressAndLength(text.slice(0, colon));
		const bytes = fromHex(text.slice(colon + 1));
		if (colon < 0 || range === undefined || bytes?.length !== range.length) return EINVAL;
		this.#target.writeMemory(this.#general, range.address, bytes);
		return OK;
	}

	#writeBinary(text: string, data: Uint8Array): string {
		const colon = text.indexOf(":");
		const range = addressAndLength(text.slice(1, colon));
		const bytes = data.subarray(colon + 1);
		if (colon < 0 || range === undefined || bytes.length !== range.length) return EINVAL;
		this.#target.writeMemory(this.#general, range.address, bytes);
		return OK;
	}

	#point(text: string): string {
		const [, type, address, length] = /^[zZ]([0-4]),([0-9a-fA-F]+),([0-9a-fA-F]+)(?:;.*)?$/.exec(text) ?? [];
		const at = address === undefined ? undefined : hexBigint(address);
		const size = length === undefined ? undefined : hexNumber(length);
		// Types 0 to 4 are all there are.
		if (at === undefined || size === undefined) return /^[zZ][0-4],/.test(text) ? EINVAL : UNSUPPORTED;
		const kind = POINTS[Number(type)]!;
		if (text[0] === "Z") this.#target.addPoint(kind, at, size);
		else this.#target.removePoint(kind, at, size);
		return OK;
	}

	// ---- threads -----------------------------------------------------------------------------------------------

	#thread(digits: string): number | undefined {
		const thread = hexNumber(digits);
		return thread !== undefined && this.#target.threads.includes(thread) ? thread : undefined;
	}

	#selectThread(text: string): string {
		const all = text.slice(1) === "-1";
		const any = /^0+$/.test(text.slice(1));
		const thread = all || any ? undefined : this.#thread(text.slice(1));
		if (!all && !any && thread === undefined) return EINVAL;
		if (text[0] === "g") {
			if (all) return EINVAL;
			this.#general = thread ?? this.#target.threads[0]!;
		} else if (text[0] === "c") this.#continues = thread ?? -1;
		else return EINVAL;
		return OK;
	}

	// ---- running -----------------------------------------------------------------------------------------------

	#resumeAt(what: string, address: string): string | undefined {
		const thread = this.#continues >= 0 ? this.#continues : this.#general;
		if (address !== "") {
			const at = hexBigint(address);
			if (at === undefined) return EINVAL;
			this.#target.jump(thread, at);
		}
		if (what === "s") this.#go(() => this.#target.resume({ run: [], step: thread }));
		else this.#go(() => this.#target.resume({ run: this.#continues >= 0 ? [thread] : this.#target.threads }));
		return undefined;
	}

	#reverse(text: string): string | undefined {
		if ((text !== "bs" && text !== "bc") || !this.#target.reversible) return UNSUPPORTED;
		this.#go(() => this.#target.reverse(this.#general, text === "bs"));
		return undefined;
	}

	#verbose(text: string): string | undefined {
		if (text === "vCont?") return "vCont;c;C;s;S;r";
		if (text === "vCtrlC") return OK;
		if (text.startsWith("vKill")) {
			this.#reply(OK);
			this.#end("killed");
			return undefined;
		}
		if (!text.startsWith("vCont;")) return UNSUPPORTED;
		const resume: GdbResume | undefined = parseVCont(text.slice(6), this.#target.threads);
		if (resume === undefined) return EINVAL;
		this.#go(() => this.#target.resume(resume));
		return undefined;
	}

	/** Starts what ends with a stop reply. */
	#go(work: () => Promise<GdbStop>): void {
		this.#busy = true;
		work()
			.then(
				(stop) => this.#stopped(stop),
				(error: unknown) => {
					this.#say(`${error instanceof Error ? error.message : String(error)}\n`);
					this.#stopped({ kind: "signal", thread: this.#general, signal: SIGTRAP });
				},
			)
			.catch(() => this.close());
	}

	#stopped(stop: GdbStop): void {
		this.#busy = false;
		this.#last = stop;
		if (stop.kind === "signal") this.#general = stop.thread;
		this.#reply(this.#stopReply(stop));
		this.#drain();
	}

	#drain(): void {
		while (!this.#busy && !this.#ended) {
			const next = this.#waiting.shift();
			if (next === undefined) return;
			this.#handle(next);
		}
	}

	#stopReply(stop: GdbStop): string {
		if (stop.kind === "exited") return `W${byteHex(stop.status)}`;
		const { thread, signal, because } = stop;
		let text = `T${byteHex(signal)}`;
		const values = this.#target.readRegisters(thread);
		for (const number of this.#target.bits === 64 ? EXPEDITED_64 : EXPEDITED_32) {
			const value = values[number];
			if (value !== undefined) text += `${number.toString(16)}:${toHex(value)};`;
		}
		if (because !== undefined) {
			if ("end" in because) text += `replaylog:${because.end};`;
			else if ("address" in because) text += `${because.kind}:${because.address.toString(16)};`;
			else if (this.#knowsBreaks) text += `${because.kind}:;`;
		}
		return `${text}thread:${thread.toString(16)};core:${(thread - 1).toString(16)};`;
	}

	/** Text for gdb's user, while gdb waits for an answer. */
	#say(text: string): void {
		const bytes = new TextEncoder().encode(text);
		const most = (PACKET_BYTES - 16) / 2;
		for (let at = 0; at < bytes.length; at += most) this.#reply(`O${toHex(bytes.subarray(at, at + most))}`);
	}

	// ---- queries -----------------------------------------------------------------------------------------------

	#query(text: string): string | Uint8Array | undefined {
		if (text.startsWith("qSupported")) return this.#supported(text);
		if (text.startsWith("qXfer:")) return this.#transfer(text);
		if (text.startsWith("qRcmd,")) return this.#monitor(text.slice(6));
		if (text.startsWith("qThreadExtraInfo,")) {
			const thread = this.#thread(text.slice(17));
			return thread === undefined ? EINVAL : toHex(new TextEncoder().encode(this.#target.describeThread(thread)));
		}
		if (text.startsWith("qAttached")) return "1";
		if (text.startsWith("qSymbol")) return OK;
		switch (text) {
			case "qC":
				return `QC${this.#general.toString(16)}`;
			case "qfThreadInfo":
				return `m${this.#target.threads.map((thread) => thread.toString(16)).join(",")}`;
			case "qsThreadInfo":
				return "l";
			default:
				return UNSUPPORTED;
		}
	}

	#set(text: string): string | undefined {
		if (text !== "QStartNoAckMode") return UNSUPPORTED;
		// The answer is the last that gdb acknowledges.
		this.#reply(OK);
		this.#acks = false;
		this.#lastSent = undefined;
		return undefined;
	}

	#supported(text: string): string {
		this.#knowsBreaks = /[:;]swbreak\+/.test(text) && /[:;]hwbreak\+/.test(text);
		const features = [
			`PacketSize=${PACKET_BYTES.toString(16)}`,
			"QStartNoAckMode+",
			"qXfer:features:read+",
			"qXfer:memory-map:read+",
			"qXfer:threads:read+",
			"swbreak+",
			"hwbreak+",
			"vContSupported+",
		];
		if (this.#target.reversible) features.push("ReverseStep+", "ReverseContinue+");
		return features.join(";");
	}

	#transfer(text: string): string | Uint8Array {
		const [, object, annex, offset, length] =
			/^qXfer:([a-z-]+):read:([^:]*):([0-9a-fA-F]+),([0-9a-fA-F]+)$/.exec(text) ?? [];
		const at = offset === undefined ? undefined : hexNumber(offset);
		const most = length === undefined ? undefined : hexNumber(length);
		if (object === undefined || at === undefined || most === undefined || most === 0) return EINVAL;
		const key = `${object}:${annex}`;
		if (at === 0) {
			const made = this.#document(object, annex!);
			if (made === undefined) return object === "features" ? "E00" : UNSUPPORTED;
			this.#documents.set(key, new TextEncoder().encode(made));
		}
		const document = this.#documents.get(key);
		if (document === undefined || at > document.length) return EINVAL;
		const part = document.subarray(at, at + Math.min(most, PACKET_BYTES / 2));
		const reply = new Uint8Array(part.length + 1);
		reply[0] = at + part.length < document.length ? 0x6d : 0x6c;
		reply.set(part, 1);
		return reply;
	}

	#document(object: string, annex: string): string | undefined {
		if (object === "features" && annex === "target.xml") return targetDescription(this.#target.bits);
		if (object === "memory-map" && annex === "") return this.#target.memoryMap();
		if (object !== "threads" || annex !== "") return undefined;
		const threads = this.#target.threads.map((thread) => {
			const name = this.#target.describeThread(thread).replace(/[<>&"]/g, " ");
			return `<thread id="${thread.toString(16)}" core="${thread - 1}" name="vCPU ${thread - 1}">${name}</thread>`;
		});
		return `<?xml version="1.0"?><threads>${threads.join("")}</threads>`;
	}

	#monitor(digits: string): string | undefined {
		const bytes = fromHex(digits);
		if (bytes === undefined) return EINVAL;
		this.#busy = true;
		this.#target
			.monitor(new TextDecoder().decode(bytes))
			.catch((error: unknown) => `${error instanceof Error ? error.message : String(error)}\n`)
			.then((answer) => {
				this.#say(answer);
				this.#busy = false;
				this.#reply(OK);
				this.#drain();
			})
			.catch(() => this.close());
		return undefined;
	}
}

function hexNumber(digits: string): number | undefined {
	return /^[0-9a-fA-F]{1,12}$/.test(digits) ? Number.parseInt(digits, 16) : undefined;
}

function hexBigint(digits: string): bigint | undefined {
	return /^[0-9a-fA-F]{1,16}$/.test(digits) ? BigInt(`0x${digits}`) : undefined;
}

function addressAndLength(text: string): { address: bigint; length: number } | undefined {
	const [, address, length] = /^([0-9a-fA-F]+),([0-9a-fA-F]+)$/.exec(text) ?? [];
	const at = address === undefined ? undefined : hexBigint(address);
	const size = length === undefined ? undefined : hexNumber(length);
	return at === undefined || size === undefined ? undefined : { address: at, length: size };
}

function byteHex(value: number): string {
	return (value & 0xff).toString(16).padStart(2, "0");
}
