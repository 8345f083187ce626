import { StackError } from "../errors.ts";
import { Stack } from "../ip/stack.ts";
import { seededBytes } from "../link/model.ts";
import type { TcpConfig } from "../tcp/config.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import { TcpLayer } from "../tcp/layer.ts";
import { Cidr, type IpAddress, toAddress } from "../wire/address.ts";
import { ACK, PSH, SYN } from "../wire/tcp.ts";
import { checkAsserts } from "./assertion.ts";
import { checkOutputs } from "./check.ts";
import type { Attempt, Outcome } from "./files.ts";
import { Flow } from "./flow.ts";
import { infoNames } from "./info.ts";
import {
	type EventTime,
	parseScript,
	type Script,
	type ScriptEvent,
	type ScriptOption,
	type ScriptSegment,
} from "./script.ts";
import { runShell } from "./shell.ts";
import { Syscalls } from "./syscalls.ts";
import { applySysctl, type DrillSettings } from "./sysctl.ts";
import {
	buildIcmp,
	buildSegment,
	type DrillAddresses,
	describe,
	flagBits,
	type LiveSegment,
	readLive,
} from "./wire.ts";

/** Whose timers and defaults a script expects. */
export type DrillProfile = "linux" | "freebsd";

/** Options of {@link runScript}. */
export interface DrillOptions {
	/** @default "linux" */
	profile?: DrillProfile;
	/** Settings on top of the profile's. */
	config?: Partial<TcpConfig>;
	/** IP version to run over, where the script does not say. @default 4 */
	ipVersion?: 4 | 6;
	/** Settings of the tested machine before the script, by sysctl's names. */
	sysctls?: Readonly<Record<string, string>>;
	/** Names put in for what scripts leave open (packetdrill's -D). */
	defines?: Readonly<Record<string, string>>;
}

/** How a script went. */
export interface DrillResult {
	readonly ok: boolean;
	/** Where it failed. */
	readonly line?: number;
	readonly message?: string;
}

const PROFILES: Record<DrillProfile, Partial<TcpConfig>> = {
	// Half of a buffer is window, the rest overhead; the defaults are of 6.x.
	linux: {
		answerUnsentAck: false,
		synLinearTimeouts: 4,
		beyondWindow: "whole",
		cubicStyle: "linux",
		receiveBuffer: 65_536,
		maxReceiveBuffer: 6_291_456,
		sendBuffer: 16_384,
		maxSendBuffer: 4_194_304,
	},
	freebsd: { delayedAckMs: 100, congestion: "reno", minRtoMs: 230, rack: false, tlp: false },
};

const START_MS = 1_000;
const DEFAULT_TOLERANCE_MS = 4;
const LONGEST_MS = 3_600_000;
const FIRST_PORT = 33_000;
const SERVER_PORT = 8080;
/** Calls whose result is a new descriptor; scripts number those as they like. */
const CREATES = new Set(["socket", "accept", "accept4", "epoll_create", "epoll_create1", "open"]);

/** What google's runner defines: the cookies of the key in its `defaults.sh` and of none, a code of ICMP errors. */
const DEFINES: Record<4 | 6, Record<string, string>> = {
	4: { TFO_COOKIE: "3021b9d889017eeb", TFO_COOKIE_ZERO: "b7c12350a90dc8f5", CODE: "host_unreachable" },
	6: { TFO_COOKIE: "c1d1e9742a47a9bc", TFO_COOKIE_ZERO: "82af1a8f9a205c34", CODE: "address_unreachable" },
};
const ADDRESSES: Record<4 | 6, { local: string; remote: string; prefix: number }> = {
	4: { local: "192.168.0.1", remote: "192.0.2.1", prefix: 16 },
	6: { local: "fd3d:a0b:17d6::1", remote: "fd3d:fa7b:d17d::1", prefix: 48 },
};
const ICMP4_CODES: Record<string, number> = {
	net_unreachable: 0,
	host_unreachable: 1,
	protocol_unreachable: 2,
	port_unreachable: 3,
	frag_needed: 4,
	source_route_failed: 5,
	net_unknown: 6,
	host_unknown: 7,
	source_host_isolated: 8,
	net_prohibited: 9,
	host_prohibited: 10,
	net_unreachable_for_tos: 11,
	host_unreachable_for_tos: 12,
	packet_filtered: 13,
	precedence_violation: 14,
	precedence_cutoff: 15,
};
/** Messages that TCP takes no notice of. */
const ICMP4_TYPES: Record<string, number> = {
	echo_reply: 0,
	source_quench: 4,
	redirect: 5,
	echo_request: 8,
	router_advertisement: 9,
	router_solicitation: 10,
	parameter_problem: 12,
	timestamp_request: 13,
	timestamp_reply: 14,
	information_request: 15,
	information_reply: 16,
	address_mask_request: 17,
	address_mask_reply: 18,
};
const ICMP6_TYPES: Record<string, number> = {
	parameter_problem: 4,
	echo_request: 128,
	echo_reply: 129,
	router_solicitation: 133,
	router_advertisement: 134,
	neighbor_solicitation: 135,
	neighbor_advertisement: 136,
};
const ICMP6_CODES: Record<string, number> = {
	no_route: 0,
	admin_prohibited: 1,
	not_neighbour: 2,
	address_unreachable: 3,
	port_unreachable: 4,
};

/** What a link says of a packet it merged of several. */
const MERGED = {
	needsCsum: false,
	dataValid: true,
	csumStart: 0,
	csumOffset: 0,
	gsoType: "tcpv4" as const,
	gsoSize: 0,
	hdrLen: 0,
	ecn: false,
};

class Failure extends Error {
	readonly line: number;

	constructor(line: number, message: string) {
		super(message);
		this.line = line;
	}
}

/** Runs a packetdrill script against a fresh stack in virtual time; the same every time. */
export function runScript(text: string, options: DrillOptions = {}): DrillResult {
	let script: Script;
	try {
		script = parseScript(text);
	} catch (error) {
		const { message } = error as Error;
		return { ok: false, line: Number(/^line (\d+)/.exec(message)?.[1] ?? 1), message };
	}
	let run: Run | undefined;
	try {
		run = new Run(script, options);
		run.all();
		return { ok: true };
	} catch (error) {
		if (error instanceof Failure) return { ok: false, line: error.line, message: error.message };
		const line = run?.line ?? 1;
		if (error instanceof StackError && error.code === "ERR_BAD_SCRIPT")
			return { ok: false, line, message: error.message };
		return { ok: false, line, message: `${(error as Error).name}: ${(error as Error).message}` };
	}
}

interface Blocked {
	endsAt: number;
	event: ScriptEvent & { kind: "syscall" };
	attempt: () => Attempt;
}

class Run {
	line = 0;
	private readonly script: Script;
	private readonly defines: Readonly<Record<string, string>>;
	private readonly stack: Stack;
	private readonly tcp: TcpLayer;
	private readonly calls: Syscalls;
	private readonly settings: DrillSettings = { notSentLowWater: Number.POSITIVE_INFINITY };
	private readonly fileLengths = new Map<string, number>();
	private readonly variables = new Map<string, number>();
	private now = START_MS;
	/** Script time of the event before, in milliseconds. */
	private eventAt = START_MS;
	private readonly tolerance: number;
	private readonly addresses: DrillAddresses;
	private readonly remote: IpAddress;
	private sent: LiveSegment[] = [];
	private readonly blocked: Blocked[] = [];
	private blackholed = false;
	private nextPort = FIRST_PORT;
	/** The connection the script's packets are about; undefined where the next one in makes it. */
	private flow: Flow | undefined;
	/** The connection asserts speak of. */
	private connection: TcpConnection | undefined;

	constructor(script: Script, options: DrillOptions) {
		this.script = script;
		const given = script.options.get("ip_version");
		const version = given === undefined ? (options.ipVersion ?? 4) : given === "ipv6" ? 6 : 4;
		this.defines = { ...DEFINES[version], ...options.defines };
		this.stack = new Stack({ random: seededBytes(7) });
		this.stack.now = this.now;
		this.tcp = new TcpLayer(this.stack, { ...PROFILES[options.profile ?? "linux"], ...options.config });
		const link = {
			medium: "ip" as const,
			mtu: Number(script.options.get("mtu") ?? 1500),
			features: { checksum: false, tso4: false, tso6: false, uso: false },
			send: (frame: Uint8Array) => {
				const live = this.blackholed ? undefined : readLive(frame, this.now);
				if (live !== undefined) this.sent.push(live);
				return true;
			},
			onFrame: undefined,
			onWritable: undefined,
			onError: undefined,
			close: () => undefined,
		};
		const iface = this.stack.attach(link);
		const defaults = ADDRESSES[version];
		const local = toAddress(script.options.get("local_ip") ?? defaults.local);
		this.remote = toAddress(script.options.get("remote_ip") ?? defaults.remote);
		this.addresses = { local, remote: this.remote };
		this.stack.addAddress(iface, new Cidr(local, defaults.prefix));
		this.stack.addRoute(version === 4 ? "0.0.0.0/0" : "::/0", undefined, iface);
		this.calls = new Syscalls({
			tcp: this.tcp,
			remote: this.remote.toString(),
			now: () => this.now,
			settle: () => this.pollStack(),
			created: () => {
				this.flow = undefined;
				this.connection = undefined;
			},
			opened: (socket) => {
				const c = socket.connection!;
				if (socket.connecting) this.flow = new Flow(c.localPort, c.remotePort);
				this.connection = c;
			},
			lowWater: () => this.settings.notSentLowWater,
			fileLength: (name) => this.fileLengths.get(name),
		});
		for (const [name, value] of Object.entries(options.sysctls ?? {})) {
			if (!applySysctl(this.tcp.config, this.settings, name, value))
				throw new StackError("ERR_BAD_SCRIPT", `the setting ${name}=${value} has no meaning here`);
		}
		const tolerance = script.options.get("tolerance_usecs");
		this.tolerance = tolerance === undefined ? DEFAULT_TOLERANCE_MS : Number(tolerance) / 1000;
	}

	private fail(message: string): never {
		throw new Failure(this.line, message);
	}

	all(): void {
		for (const event of this.script.events) {
			this.line = event.line;
			this.one(event);
		}
		this.finishBlocked(true);
	}

	/** Script time of an event; a range gives its start. */
	private startOf(time: EventTime): number {
		if (time.kind === "any") return this.eventAt;
		return time.kind === "relative" ? this.eventAt + time.at * 1000 : START_MS + time.at * 1000;
	}

	private endOf(time: EventTime): number {
		if (time.kind === "any") return this.eventAt + LONGEST_MS;
		if (time.until === undefined) return this.startOf(time);
		return time.kind === "relative" ? this.eventAt + time.until * 1000 : START_MS + time.until * 1000;
	}

	private one(event: ScriptEvent): void {
		if (event.kind === "packet" && event.direction === "out") {
			this.expect(event.segment, event.time);
			return;
		}
		const at = this.startOf(event.time);
		const endsAt = event.kind === "syscall" && event.end !== undefined ? this.callEnd(event.end, event.time) : 0;
		this.advance(at);
		this.eventAt = Math.max(at, this.eventAt);
		switch (event.kind) {
			case "packet":
				this.inject(event.segment);
				break;
			case "icmp":
				if (event.direction === "out") this.fail("outgoing ICMP is not compared");
				this.injectIcmp(event);
				break;
			case "command":
				this.command(event.text);
				break;
			case "code": {
				const wrong = checkAsserts(event.text, (name) => infoNames(this.tested(), name), this.variables);
				if (wrong !== undefined) this.fail(wrong);
				break;
			}
			case "syscall":
				this.syscall(event, endsAt);
				break;
		}
		this.settle();
	}

	/** The connection asserts speak of: the socket's, or the newest one before anybody accepted it. */
	private tested(): TcpConnection | undefined {
		if (this.connection !== undefined) return this.connection;
		let newest: TcpConnection | undefined;
		for (const c of this.tcp.connections()) newest = c;
		return newest;
	}

	private pollStack(): void {
		for (let i = 0; i < 1000 && this.stack.nextDeadline() <= this.now; i++) this.stack.poll(this.now);
	}

	/** Lets the stack do all it wants at the present moment, and what waits for it go on. */
	private settle(): void {
		this.pollStack();
		this.calls.news();
		this.finishBlocked(false);
	}

	/** Moves the clock, stopping at every deadline of the stack; or at the first packet with `untilSent`. */
	private advance(to: number, untilSent = false): void {
		this.settle();
		while (this.now < to) {
			if (untilSent && this.haveSent()) return;
			const next = this.stack.nextDeadline();
			if (next > to) break;
			this.now = Math.max(this.now, next);
			this.settle();
		}
		if (untilSent && this.haveSent()) return;
		this.now = Math.max(this.now, to);
		this.stack.now = this.now;
	}

	/** Whether a packet of the tested connection waits to be compared; others nobody looks at. */
	private haveSent(): boolean {
		const { flow } = this;
		if (flow === undefined) this.sent = [];
		else while (this.sent.length > 0 && !flow.owns(this.sent[0]!)) this.sent.shift();
		return this.sent.length > 0;
	}

	/** When a blocking call is to return; start and end count from the same moment. */
	private callEnd(end: EventTime, start: EventTime): number {
		if (end.kind === "any") return LONGEST_MS;
		return start.kind === "absolute" && end.kind === "absolute" ? this.startOf(end) : this.eventAt + end.at * 1000;
	}

	private syscall(event: ScriptEvent & { kind: "syscall" }, endsAt: number): void {
		const attempt = this.calls.prepare(event.name, event.args);
		const result = attempt();
		this.settle();
		if (result === "blocked") {
			if (event.end === undefined) {
				// The expected result may need the frames the call itself sent.
				this.fail(`${event.name}() blocks, and the script does not let it`);
			}
			this.blocked.push({ event, attempt, endsAt });
			return;
		}
		if (event.end !== undefined && endsAt - this.now > this.tolerance) {
			this.fail(`${event.name}() should block until ${((endsAt - START_MS) / 1000).toFixed(3)} s and returns at once`);
		}
		this.compare(event, result);
	}

	private finishBlocked(last: boolean): void {
		for (const blocked of [...this.blocked]) {
			const result = blocked.attempt();
			const end = blocked.endsAt;
			const { line } = this;
			this.line = blocked.event.line;
			if (result !== "blocked") {
				this.blocked.splice(this.blocked.indexOf(blocked), 1);
				if (Math.abs(this.now - end) > this.tolerance) {
					this.fail(
						`${blocked.event.name}() returned at ${((this.now - START_MS) / 1000).toFixed(3)} s, expected at ${((end - START_MS) / 1000).toFixed(3)} s`,
					);
				}
				this.compare(blocked.event, result);
			} else if (last) {
				const until = end + this.tolerance;
				this.blocked.splice(this.blocked.indexOf(blocked), 1);
				while (this.now < until && this.stack.nextDeadline() <= until) {
					this.now = Math.max(this.now, this.stack.nextDeadline());
					this.stack.poll(this.now);
					const late = blocked.attempt();
					if (late === "blocked") continue;
					this.compare(blocked.event, late);
					this.line = line;
					return;
				}
				this.fail(`${blocked.event.name}() never returned`);
			}
			this.line = line;
		}
	}

	private compare(event: ScriptEvent & { kind: "syscall" }, result: Outcome): void {
		const { result: expected, errno } = event;
		if (errno !== undefined && result.errno !== errno) {
			this.fail(`${event.name}() gave ${result.errno ?? result.value}, expected -1 ${errno}`);
		}
		if (expected !== undefined && expected.type === "number" && errno === undefined) {
			if (CREATES.has(event.name) && expected.value > 0 && result.value > 0)
				this.calls.rename(result.value, expected.value);
			else if (expected.value !== result.value)
				this.fail(`${event.name}() gave ${result.errno ?? result.value}, expected ${expected.value}`);
		}
		if (event.name === "pipe" && result.fds !== undefined && event.args[0]?.type === "list") {
			for (const [i, item] of event.args[0].items.entries())
				if (item.type === "number" && i < 2) this.calls.rename(result.fds[i as 0 | 1], item.value);
		}
		const wrong = checkOutputs(event.name, event.args, result, START_MS, this.tolerance);
		if (wrong !== undefined) this.fail(wrong);
	}

	private command(text: string): void {
		runShell(
			{
				tcp: this.tcp,
				settings: this.settings,
				files: this.fileLengths,
				sleep: (seconds) => {
					this.advance(this.now + seconds * 1000);
					this.eventAt = this.now;
				},
				blackhole: (on) => {
					this.blackholed = on;
				},
				route: (metrics) => this.route(metrics),
			},
			text,
		);
	}

	private route(metrics: ReadonlyMap<string, number>): void {
		const { config } = this.tcp;
		const mtu = metrics.get("mtu lock") ?? metrics.get("mtu");
		if (mtu !== undefined) this.stack.lockMtu(this.remote, mtu);
		config.maxSegmentSize = metrics.get("advmss") ?? config.maxSegmentSize;
		config.initialWindowSegments = metrics.get("initcwnd") ?? config.initialWindowSegments;
	}

	private inject(segment: ScriptSegment): void {
		const flags = flagBits(segment.flags);
		const flow = this.flow ?? new Flow(SERVER_PORT, this.nextPort++);
		this.flow = flow;
		if ((flags & SYN) !== 0) flow.receivesSyn(segment);
		const scaled = this.script.options.has("tcp_ts_ecr_scaled");
		const bytes = buildSegment(
			segment,
			this.addresses,
			[flow.remotePort, flow.localPort],
			flow.inboundSeq(segment),
			flow.inboundAck(segment),
			segment.win ?? 65_535,
			(option) => flow.inbound(this.defined(option), scaled),
		);
		const mss = Number(this.script.options.get("mss") ?? 0);
		const merged = mss > 0 && segment.length > mss;
		this.stack.input(bytes, this.now, merged ? { ...MERGED, gsoSize: mss } : undefined);
	}

	/** An option with the script's open names put in. */
	private defined(option: ScriptOption): ScriptOption {
		const value = option.cookie === undefined ? undefined : this.defines[option.cookie];
		return value === undefined ? option : { ...option, cookie: value };
	}

	private injectIcmp(event: ScriptEvent & { kind: "icmp" }): void {
		const { flow } = this;
		if (flow === undefined) this.fail("no packet went out that an ICMP error could quote");
		const v4 = this.addresses.local.family === 4;
		const name = this.defines[event.code] ?? event.code;
		let type: number;
		let code: number;
		if (event.type === "unreachable") {
			const known = /^(code_\d+)?$/.test(name) ? Number(name.slice(5)) : (v4 ? ICMP4_CODES : ICMP6_CODES)[name];
			if (known === undefined) this.fail(`ICMP ${event.type} ${name} is not known here`);
			type = v4 ? 3 : 1;
			code = known;
		} else if (event.type === "packet_too_big" && !v4) {
			type = 2;
			code = 0;
		} else if (event.type === "time_exceeded") {
			type = v4 ? 11 : 3;
			code = name === "exceeded_reassembly" || name === "exceeded_frag_time" ? 1 : 0;
		} else {
			const numbered = /^type_(\d+)$/.exec(event.type);
			const known = numbered !== null ? Number(numbered[1]) : (v4 ? ICMP4_TYPES : ICMP6_TYPES)[event.type];
			if (known === undefined) this.fail(`ICMP ${event.type} is not known here`);
			type = known;
			code = Number(name.replace("code_", "")) || 0;
		}
		const seq = (event.seq + flow.localIsn) | 0;
		const ports = [flow.remotePort, flow.localPort] as const;
		this.stack.input(buildIcmp(type, code, event.mtu, this.addresses, ports, seq, event.length), this.now);
	}

	/** Waits for the segment, or for the pieces one scripted large segment is made of. */
	private expect(segment: ScriptSegment, time: EventTime): void {
		const earliest = this.startOf(time) - this.tolerance;
		const latest = this.endOf(time) + this.tolerance;
		const want = describeScript(segment);
		let covered = 0;
		let at = this.now;
		const strict = this.script.options.has("strict_segments");
		do {
			if (!this.haveSent()) this.advance(latest, true);
			const live = this.haveSent() ? this.sent.shift() : undefined;
			if (live === undefined) this.fail(`nothing was sent, expected ${want}`);
			const flow = this.flow!;
			at = live.at;
			if ((live.flags & SYN) !== 0) flow.sentSyn(live, segment);
			const seen = `sent ${describe(live, flow.localIsn, flow.ackBase)}, expected ${want}`;
			if (time.kind !== "any" && (live.at < earliest || live.at > latest)) {
				this.fail(
					`${seen}: at ${((live.at - START_MS) / 1000).toFixed(4)} s instead of ${((this.startOf(time) - START_MS) / 1000).toFixed(4)} s`,
				);
			}
			const whole = live.length >= segment.length && covered === 0;
			covered += live.length;
			const wrong = this.differs(flow, segment, live, covered - live.length, covered >= segment.length, whole);
			if (wrong !== undefined) this.fail(`${seen}: ${wrong}`);
		} while (covered < segment.length && !strict);
		if (covered !== segment.length) this.fail(`sent ${covered} bytes, expected ${want}`);
		// As packetdrill has it: what follows counts from when the packet was seen, not from when it was due.
		this.eventAt = Math.max(this.eventAt, at);
	}

	private differs(
		flow: Flow,
		segment: ScriptSegment,
		live: LiveSegment,
		before: number,
		last: boolean,
		whole: boolean,
	): string | undefined {
		const syn = (live.flags & SYN) !== 0;
		if (live.seq !== ((flow.outboundSeq(segment, syn) + before) | 0)) return "the sequence number differs";
		let expected = flagBits(segment.flags);
		let flags = live.flags;
		if (!whole) {
			// A large segment's PSH is its cutting's doing; FIN and CWR are on one piece only.
			expected &= ~PSH;
			flags &= ~PSH;
			if (!last) expected &= ~1;
			if (before > 0) expected &= ~0x80;
		}
		if (flags !== expected) return "the flags differ";
		if (segment.ack !== undefined && (live.flags & ACK) !== 0 && live.ack !== flow.outboundAck(segment.ack, syn))
			return "the acknowledgement differs";
		if (segment.win !== undefined && live.window !== segment.win) return "the window differs";
		if (segment.ecn !== undefined && segment.ecn !== "ect01") {
			const names = ["noecn", "ect1", "ect0", "ce"];
			if (names[live.ecn] !== segment.ecn) return `the ECN field is ${names[live.ecn]}`;
		}
		return segment.options === undefined ? undefined : this.optionsDiffer(flow, segment.options, live);
	}

	private optionsDiffer(flow: Flow, wanted: readonly ScriptOption[], live: LiveSegment): string | undefined {
		// Scripts leave timestamps out where none matter only when the connection has none.
		if (wanted.length !== live.options.length) return "the options differ";
		for (const [i, open] of wanted.entries()) {
			const option = this.defined(open);
			const other = live.options[i]!;
			if (option.kind !== other.kind) return `option ${option.kind} is ${other.kind}`;
			if (option.kind === "TS") {
				flow.learnStamp(option.values[0]!, other.values[0]!);
				const tick = Number(this.script.options.get("tcp_ts_tick_usecs") ?? 0) / 1000;
				const off = (flow.stampAt(option.values[0]!)! - other.values[0]!) | 0;
				if (tick > 0 && Math.abs(off) * tick > this.tolerance) return `the timestamp is ${off} ticks early`;
				if (option.values[1] !== other.values[1]) return `the timestamp echo is ${other.values[1]}`;
			} else if (option.kind === "sack") {
				const edges = option.values.map((value) => flow.outboundAck(value, false));
				if (edges.join() !== other.values.join()) return "the SACK blocks differ";
			} else if (option.kind === "FO" || option.kind === "FOEXP") {
				if (option.cookie !== "..." && option.cookie?.toLowerCase() !== other.cookie)
					return "the Fast Open cookie differs";
			} else if (option.values.join() !== other.values.join()) return `${option.kind} is ${other.values.join()}`;
		}
		return undefined;
	}
}

function describeScript(segment: ScriptSegment): string {
	return `${segment.flags} ${segment.seq}:${segment.seq + segment.length}(${segment.length})${segment.ack === undefined ? "" : ` ack ${segment.ack}`}`;
}
