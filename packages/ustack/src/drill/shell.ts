import { StackError } from "../errors.ts";
import type { TcpLayer } from "../tcp/layer.ts";
import { applyGoogleDefaults, applySysctl, type DrillSettings } from "./sysctl.ts";

/** What a script's shell commands act upon. */
export interface ShellHost {
	readonly tcp: TcpLayer;
	readonly settings: DrillSettings;
	/** Files made by commands, by name, with their lengths. */
	readonly files: Map<string, number>;
	/** Lets time pass. */
	sleep(seconds: number): void;
	/** The interface's queue takes nothing any more (`pfifo limit 0`), or does again. */
	blackhole(on: boolean): void;
	/** `ip route change`: metrics of the route to the scripted side. */
	route(metrics: ReadonlyMap<string, number>): void;
}

/** Commands whose outcome nothing here depends on. */
const IGNORED =
	/^(nstat\b|grep\b|ss\b|ethtool -[Kk] |\/?\S*sysctl_restore\S*|tc qdisc (add|delete|del|replace|show)|ip tcp_metrics|ip link set|modprobe |cat \/proc\/net\/|true$|:$|2>)/;

/**
 * Runs the commands between a script's backquotes, as far as they mean something here.
 *
 * @throws StackError `ERR_BAD_SCRIPT` for what does not
 */
export function runShell(host: ShellHost, text: string): void {
	for (const raw of text.replace(/\\\n/g, " ").split(/\n|&&|;/)) {
		const [first, ...alternatives] = raw.split("||");
		// Both of HyStart's detections, as they are here.
		if (/^\s*echo 3\s*>\s*\/sys\/module\/tcp_cubic\/parameters\/hystart_detect\s*$/.test(first!)) continue;
		const line = clean(first!);
		if (line === "" || line.startsWith("#")) continue;
		try {
			runLine(host, line);
		} catch (error) {
			if (alternatives.length === 0) throw error;
			for (const other of alternatives) runLine(host, clean(other));
		}
	}
}

function clean(text: string): string {
	return text
		.replace(/\s*(?:[0-9]?>&[0-9]|&>\s*\S+|[0-9]?>>?\s*\S+)/g, "")
		.trim()
		.replace(/^sudo\s+/, "");
}

function runLine(host: ShellHost, line: string): void {
	const words = line.split(/\s+/);
	const command = words[0]!;
	if (/defaults\.sh$/.test(command)) {
		host.tcp.fastOpen.forget();
		applyGoogleDefaults(host.tcp.config, host.settings);
		// Suites that keep the file elsewhere than beside their scripts are older than Linux 6.5.
		if (!command.startsWith("./")) host.tcp.config.synLinearTimeouts = 0;
		return;
	}
	if (command === "sysctl" || /set_sysctls\.py$/.test(command)) {
		setSysctls(
			host,
			line.replace(/\$\(\(([\d*+\s]+)\)\)/g, (_all, sum: string) => String(product(sum))),
		);
		return;
	}
	if (command === "sleep") {
		host.sleep(Number(words[1]));
		return;
	}
	if (/^ip tcp_metrics flush/.test(line)) {
		host.tcp.fastOpen.forget();
		return;
	}
	if (/^ip (-[46] )?route (change|replace)\b/.test(line)) {
		const metrics = new Map<string, number>();
		for (const match of line.matchAll(/\b(advmss|mtu lock|mtu|initcwnd|initrwnd|rto_min)\s+(\d+)(ms)?/g))
			metrics.set(match[1]!, Number(match[2]));
		host.route(metrics);
		return;
	}
	if (/^tc qdisc/.test(line)) {
		host.blackhole(/\blimit 0\b/.test(line));
		return;
	}
	if (/^(\/bin\/)?rm /.test(line)) {
		for (const name of words.slice(1)) host.files.delete(name);
		return;
	}
	if (/^(\/bin\/)?dd /.test(line)) {
		const operand = (name: string) => new RegExp(`\\b${name}=(\\S+)`).exec(line)?.[1];
		host.files.set(operand("of") ?? "", Number(operand("bs") ?? 512) * Number(operand("count") ?? 1));
		return;
	}
	if (IGNORED.test(line)) return;
	throw new StackError("ERR_BAD_SCRIPT", `the command "${line}" cannot be run here`);
}

function product(text: string): number {
	return text.split("+").reduce((sum, term) => sum + term.split("*").reduce((all, each) => all * Number(each), 1), 0);
}

function setSysctls(host: ShellHost, line: string): void {
	const tolerant = /\s-e\b/.test(line);
	const pattern = /((?:\/proc\/sys\/|net[./])[A-Za-z0-9_./]+)\s*=\s*("[^"]*"|'[^']*'|\S+)/g;
	for (const match of line.matchAll(pattern)) {
		const value = match[2]!.replace(/^["']|["']$/g, "");
		if (applySysctl(host.tcp.config, host.settings, match[1]!, value) || tolerant) continue;
		throw new StackError("ERR_BAD_SCRIPT", `the setting ${match[1]}=${value} has no meaning here`);
	}
}
