import { StackError } from "../errors.ts";
import { Stack } from "../ip/stack.ts";
import { seededBytes } from "../link/model.ts";
import type { TcpConfig } from "../tcp/config.ts";
import { TcpLayer } from "../tcp/layer.ts";
import { Cidr, toAddress } from "../wire/address.ts";
import { ACK, PSH, SYN } from "../wire/tcp.ts";
import { checkAsserts } from "./assertion.ts";
import { infoNames } from "./info.ts";
import {
	type EventTime,
	parseScript,
	type Script,
	type ScriptEvent,
	type ScriptOption,
	type ScriptSegment,
} from "./script.ts";
import { type Attempt, Sockets } from "./sockets.ts";
import { applyGoogleDefaults, applySysctl } from "./sysctl.ts";
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
}

/** How a script went. */
export interface DrillResult {
	readonly ok: boolean;
	/** Where it failed. */
	readonly line?: number;
	readonly message?: string;
}

const PROFILES: Record<DrillProfile, Partial<TcpConfig>> = {
	linux: {},
	freebsd: { delayedAckMs: 100, congestion: "reno", minRtoMs: 230, rack: false, tlp: false },
};

const START_MS = 1_000;
const DEFAULT_TOLERANCE_MS = 4;
const REMOTE_ISN = 0x20000000;
const LONGEST_MS = 3_600_000;
/** Calls whose result is a new descriptor; scripts number those as they like. */
const CREATES = new Set(["socket", "accept", "accept4", "epoll_create", "epoll_create1"]);

/** What google's runner defines this name as: the cookie of the key in its `defaults.sh`. */
const TFO_COOKIE = "3021b9d889017eeb";

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
	const run = new Run(script, options);
	try {
		run.all();
		return { ok: true };
	} catch (error) {
		if (error instanceof Failure) return { ok: false, line: error.line, message: error.message };
		if (error instanceof StackError && error.code === "ERR_BAD_SCRIPT")
			return { ok: false, line: run.line, message: error.message };
		return { ok: false, line: run.line, message: `${(error as Error).name}: ${(error as Error).message}` };
	}
}

interface Blocked {
	endsAt: number;
	event: ScriptEvent & { kind: "syscall" };
	attempt: () => Attempt;
	startedAt: number;
}

class Run {
	line = 0;
	private readonly script: Script;
	private readonly stack: Stack;
	private readonly tcp: TcpLayer;
	private readonly sockets: Sockets;
	private now = START_MS;
	/** Script time of the event before, in milliseconds. */
	private eventAt = START_MS;
	private readonly tolerance: number;
	private readonly addresses: DrillAddresses;
	private readonly sent: LiveSegment[] = [];
	private readonly blocked: Blocked[] = [];
	private localPort = 8080;
	private remotePort = 33_000;
	private localIsn = 0;
	/** What the scripts call the initial sequence numbers; only SYN segments name them. */
	private localName = 0;
	private remoteName = 0;
	private haveIsn = false;
	private sawRemoteSyn = false;
	/** Script's timestamp values of the tested host to live ones. */
	private readonly stamps = new Map<number, number>();

	constructor(script: Script, options: DrillOptions) {
		this.script = script;
		this.stack = new Stack({ random: seededBytes(7) });
		this.stack.now = this.now;
		this.tcp = new TcpLayer(this.stack, { ...PROFILES[options.profile ?? "linux"], ...options.config });
		const link = {
			medium: "ip" as const,
			mtu: Number(script.options.get("mtu") ?? 1500),
			features: { checksum: false, tso4: false, tso6: false, uso: false },
			send: (frame: Uint8Array) => {
				const live = readLive(frame, this.now);
				if (live !== undefined) this.sent.push(live);
				return true;
			},
			onFrame: undefined,
			onWritable: undefined,
			onError: undefined,
			close: () => undefined,
		};
		const iface = this.stack.attach(link);
		const local = toAddress(script.options.get("local_ip") ?? "192.168.0.1");
		const remote = toAddress(script.options.get("remote_ip") ?? "192.0.2.1");
		this.addresses = { local: local.d, remote: remote.d };
		this.stack.addAddress(iface, new Cidr(local, 16));
		this.stack.addRoute("0.0.0.0/0", undefined, iface);
		this.sockets = new Sockets(this.tcp, remote.toString(), () => {
			this.haveIsn = false;
		});
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
				const connection = this.sockets.current();
				const wrong = checkAsserts(event.text, (name) => infoNames(connection, name));
				if (wrong !== undefined) this.fail(wrong);
				break;
			}
			case "syscall":
				this.syscall(event, endsAt);
				break;
		}
		this.settle();
	}

	/** Lets the stack do all it wants at the present moment. */
	private settle(): void {
		for (let i = 0; i < 1000 && this.stack.nextDeadline() <= this.now; i++) this.stack.poll(this.now);
		this.finishBlocked(false);
	}

	/** Moves the clock, stopping at every deadline of the stack; or at the first packet with `untilSent`. */
	private advance(to: number, untilSent = false): void {
		this.settle();
		while (this.now < to) {
			if (untilSent && this.sent.length > 0) return;
			const next = this.stack.nextDeadline();
			if (next > to) break;
			this.now = Math.max(this.now, next);
			this.settle();
		}
		if (untilSent && this.sent.length > 0) return;
		this.now = Math.max(this.now, to);
	}

	/** When a blocking call is to return; start and end count from the same moment. */
	private callEnd(end: EventTime, start: EventTime): number {
		if (end.kind === "any") return LONGEST_MS;
		return start.kind === "absolute" && end.kind === "absolute" ? this.startOf(end) : this.eventAt + end.at * 1000;
	}

	private syscall(event: ScriptEvent & { kind: "syscall" }, endsAt: number): void {
		const attempt = this.sockets.prepare(event.name, event.args, () => this.now);
		const result = attempt();
		this.settle();
		if (result === "blocked") {
			if (event.end === undefined) {
				// The expected result may need the frames the call itself sent.
				this.fail(`${event.name}() blocks, and the script does not let it`);
			}
			this.blocked.push({ event, attempt, startedAt: this.now, endsAt });
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

	private compare(event: ScriptEvent & { kind: "syscall" }, result: Exclude<Attempt, "blocked">): void {
		const { result: expected, errno } = event;
		if (errno !== undefined && result.errno !== errno) {
			this.fail(`${event.name}() gave ${result.errno ?? result.value}, expected -1 ${errno}`);
		}
		if (expected !== undefined && expected.type === "number" && errno === undefined) {
			if (CREATES.has(event.name) && expected.value > 0 && result.value > 0)
				this.sockets.rename(result.value, expected.value);
			else if (expected.value !== result.value)
				this.fail(`${event.name}() gave ${result.errno ?? result.value}, expected ${expected.value}`);
		}
		const wrong = this.sockets.checkOutputs(event.name, event.args, result);
		if (wrong !== undefined) this.fail(wrong);
	}

	private command(text: string): void {
		const { config } = this.tcp;
		for (const raw of text.replace(/\\\n/g, " ").split(/\n|&&|;/)) {
			const line = raw.replace(/\s[0-9]?>\s*\/dev\/null.*$/, "").trim();
			if (line === "" || line.startsWith("#")) continue;
			const words = line.split(/\s+/);
			if (/defaults\.sh$/.test(words[0]!)) {
				applyGoogleDefaults(config);
				continue;
			}
			if (/^(ip tcp_metrics|nstat|\/tmp\/sysctl_restore|tc qdisc |ethtool -K |2>)/.test(line)) continue;
			if (/^sleep /.test(line)) {
				this.advance(this.now + Number(words[1]) * 1000);
				this.eventAt = this.now;
				continue;
			}
			if (words[0] === "sysctl" || /set_sysctls\.py$/.test(words[0]!)) {
				for (const match of line.matchAll(/((?:\/proc\/sys\/|net\.)[A-Za-z0-9_./]+)\s*=\s*("[^"]*"|'[^']*'|\S+)/g)) {
					const value = match[2]!.replace(/^["']|["']$/g, "");
					if (!applySysctl(config, match[1]!, value)) this.fail(`the setting ${match[1]}=${value} has no meaning here`);
				}
				continue;
			}
			this.fail(`the command "${line}" cannot be run here`);
		}
	}

	private remember(live: LiveSegment): void {
		this.localPort = live.sourcePort;
		this.remotePort = live.destinationPort;
		this.localIsn = live.seq;
		this.haveIsn = true;
	}

	private inject(segment: ScriptSegment): void {
		const flags = flagBits(segment.flags);
		if ((flags & (SYN | ACK)) === SYN && this.haveIsn && !this.sockets.connecting()) {
			// A SYN behind a finished handshake is another connection, unless it repeats this one's.
			const connection = this.sockets.latest();
			if (connection === undefined || (segment.seq === 0 && connection.segsIn > 0 && connection.state === 0)) {
				this.remotePort++;
				this.haveIsn = false;
			}
		}
		if ((flags & SYN) !== 0) {
			this.sawRemoteSyn = true;
			this.remoteName = segment.seq;
		}
		const listening = this.sockets.listeningPort();
		if (!this.haveIsn && listening !== undefined) this.localPort = listening;
		const window = segment.win ?? 65_535;
		const syn = (flags & SYN) !== 0;
		const ack =
			segment.ack === undefined
				? (flags & ACK) !== 0
					? this.localIsn
					: 0
				: (segment.ack - (syn ? this.localName : 0) + this.localIsn) | 0;
		const seq = (REMOTE_ISN + (syn ? 0 : segment.seq)) | 0;
		const bytes = buildSegment(segment, this.addresses, [this.remotePort, this.localPort], seq, ack, window, (option) =>
			this.inwards(option),
		);
		this.stack.input(bytes, this.now);
	}

	private inwards(option: ScriptOption): ScriptOption {
		if (option.kind === "sack") return { ...option, values: option.values.map((value) => (value + this.localIsn) | 0) };
		if (option.cookie === "TFO_COOKIE") return { ...option, cookie: TFO_COOKIE };
		if (option.kind === "TS")
			return { ...option, values: [option.values[0]!, this.stamps.get(option.values[1]!) ?? option.values[1]!] };
		return option;
	}

	private injectIcmp(event: ScriptEvent & { kind: "icmp" }): void {
		const codes: Record<string, number> = {
			net_unreachable: 0,
			host_unreachable: 1,
			protocol_unreachable: 2,
			port_unreachable: 3,
			frag_needed: 4,
			source_route_failed: 5,
		};
		const code = codes[event.code];
		if (event.type !== "unreachable" || code === undefined)
			this.fail(`ICMP ${event.type} ${event.code} is not known here`);
		this.stack.input(
			buildIcmp(
				3,
				code,
				event.mtu,
				this.addresses,
				[this.remotePort, this.localPort],
				(event.seq + this.localIsn) | 0,
				event.length,
			),
			this.now,
		);
	}

	/** Waits for the segment, or for the pieces one scripted large segment is made of. */
	private expect(segment: ScriptSegment, time: EventTime): void {
		const earliest = this.startOf(time) - this.tolerance;
		const latest = this.endOf(time) + this.tolerance;
		const want = describeScript(segment);
		let covered = 0;
		let first: LiveSegment | undefined;
		do {
			if (this.sent.length === 0) this.advance(latest, true);
			const live = this.sent.shift();
			if (live === undefined) this.fail(`nothing was sent, expected ${want}`);
			if (first === undefined) {
				first = live;
				if ((live.flags & SYN) !== 0) {
					this.remember(live);
					this.localName = segment.seq;
				}
			}
			const seen = `sent ${describe(live, this.localIsn, this.sawRemoteSyn ? REMOTE_ISN : 0)}, expected ${want}`;
			if (time.kind !== "any" && (live.at < earliest || live.at > latest)) {
				this.fail(
					`${seen}: at ${((live.at - START_MS) / 1000).toFixed(4)} s instead of ${((this.startOf(time) - START_MS) / 1000).toFixed(4)} s`,
				);
			}
			const whole = live.length >= segment.length && covered === 0;
			covered += live.length;
			const wrong = this.differs(segment, live, covered - live.length, covered >= segment.length, whole);
			if (wrong !== undefined) this.fail(`${seen}: ${wrong}`);
		} while (covered < segment.length);
		if (covered > segment.length) this.fail(`sent ${covered} bytes, expected ${want}`);
		if (time.kind !== "any") this.eventAt = Math.max(this.eventAt, this.startOf(time));
		else this.eventAt = Math.max(this.eventAt, first.at);
	}

	private differs(
		segment: ScriptSegment,
		live: LiveSegment,
		before: number,
		last: boolean,
		whole: boolean,
	): string | undefined {
		if (live.sourcePort !== this.localPort) return `from port ${live.sourcePort}`;
		const syn = (live.flags & SYN) !== 0;
		const seq = (live.seq - this.localIsn) | 0;
		if (seq !== segment.seq - (syn ? this.localName : 0) + before) return "the sequence number differs";
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
		if (
			segment.ack !== undefined &&
			(live.flags & ACK) !== 0 &&
			((live.ack - REMOTE_ISN) | 0) !== segment.ack - (syn ? this.remoteName : 0)
		)
			return "the acknowledgement differs";
		if (segment.win !== undefined && live.window !== segment.win) return "the window differs";
		if (segment.ecn !== undefined && segment.ecn !== "ect01") {
			const names = ["noecn", "ect1", "ect0", "ce"];
			if (names[live.ecn] !== segment.ecn) return `the ECN field is ${names[live.ecn]}`;
		}
		return segment.options === undefined ? undefined : this.optionsDiffer(segment.options, live);
	}

	private optionsDiffer(wanted: readonly ScriptOption[], live: LiveSegment): string | undefined {
		// Scripts leave timestamps out where none matter only when the connection has none.
		if (wanted.length !== live.options.length) return "the options differ";
		for (const [i, option] of wanted.entries()) {
			const other = live.options[i]!;
			if (option.kind !== other.kind) return `option ${option.kind} is ${other.kind}`;
			if (option.kind === "TS") {
				this.stamps.set(option.values[0]!, other.values[0]!);
				if (option.values[1] !== other.values[1]) return `the timestamp echo is ${other.values[1]}`;
			} else if (option.kind === "sack") {
				const edges = other.values.map((value) => (value - REMOTE_ISN) | 0);
				if (edges.join() !== option.values.join()) return "the SACK blocks differ";
			} else if (option.kind === "FO" || option.kind === "FOEXP") {
				const cookie = option.cookie === "TFO_COOKIE" ? TFO_COOKIE : option.cookie;
				if (cookie !== "..." && cookie !== other.cookie) return "the Fast Open cookie differs";
			} else if (option.values.join() !== other.values.join()) return `${option.kind} is ${other.values.join()}`;
		}
		return undefined;
	}
}

function describeScript(segment: ScriptSegment): string {
	return `${segment.flags} ${segment.seq}:${segment.seq + segment.length}(${segment.length})${segment.ack === undefined ? "" : ` ack ${segment.ack}`}`;
}
