/** Native links against C and against what Node.js has, in network namespaces of their own. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { interleave, median, pairedRatio, type Report } from "../suite.ts";

const script = fileURLToPath(new URL("./native-side.mjs", import.meta.url));

const ip = (...words: string[]): void => void execFileSync("ip", words, { stdio: ["ignore", "ignore", "pipe"] });

function whyNot(): string | undefined {
	if (process.platform !== "linux" || !existsSync("/dev/net/tun")) return "no /dev/net/tun";
	if (spawnSync("ip", ["netns", "add", "ncbenchprobe"]).status !== 0)
		return "may not make network namespaces, or no iproute2";
	ip("netns", "del", "ncbenchprobe");
	return undefined;
}

const lacks = (program: string): boolean => spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0;

interface Running {
	child: ChildProcess;
	/** The words of its last line, once it ended. */
	result: Promise<number[]>;
}

/** Starts a receiver in a namespace and waits until it is ready. */
async function start(space: string | undefined, command: string, ...words: string[]): Promise<Running> {
	const [program, ...rest] =
		space === undefined ? [command, ...words] : ["ip", "netns", "exec", space, command, ...words];
	const child = spawn(program!, rest, { stdio: ["ignore", "pipe", "inherit"] });
	let output = "";
	let isReady: () => void = () => {};
	const ready = new Promise<void>((resolve) => (isReady = resolve));
	child.stdout!.on("data", (data: Buffer) => {
		output += data.toString();
		if (output.includes("ready")) isReady();
	});
	const result = new Promise<number[]>((resolve) => {
		child.once("close", () => {
			isReady();
			resolve((output.trim().split("\n").at(-1) ?? "").split(" ").map(Number));
		});
	});
	await ready;
	return { child, result };
}

const ours = (role: string, ...words: string[]): [string, ...string[]] => [process.execPath, script, role, ...words];
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ratio = (a: number, b: number): number => Number((a / b).toFixed(2));

/** Bursts a round on each TAP, and frames of one: the sides take turns every 50 ms, so a slow moment hits all of them. */
const ROUND = 10;
const BURST = 2000;
const ROUNDS = 5;

/** CPU a received frame on a TAP that a C program floods, which also reads the receivers' clocks. */
async function tapReceive(report: Report, peer: string): Promise<void> {
	const space = "ncbench0";
	const sides: Record<string, [string, ...string[]]> = {
		ours: ours("tap", "bt0"),
		"ours, wait()": ours("tapWait", "bt1"),
		stream: ours("tapStream", "bt2"),
		C: [peer, "tap", "bt3"],
	};
	const names = Object.keys(sides);
	const receivers: Running[] = [];
	let output: string;
	ip("netns", "add", space);
	try {
		const turns: string[] = [];
		for (const [index, [program, ...words]] of Object.values(sides).entries()) {
			const receiver = await start(space, program, ...words);
			receivers.push(receiver);
			ip("-n", space, "address", "add", `10.90.${index}.1/24`, "dev", `bt${index}`);
			ip("-n", space, "neighbour", "add", `10.90.${index}.2`, "lladdr", "02:00:00:00:00:99", "dev", `bt${index}`);
			turns.push(`bt${index}`, `10.90.${index}.2`, String(receiver.child.pid));
		}
		// One round more: the first is the compiler's.
		const slices = [String((ROUNDS + 1) * ROUND), String(BURST), "40000"];
		output = execFileSync("ip", ["netns", "exec", space, peer, "slices", ...slices, ...turns], { encoding: "utf8" });
	} finally {
		for (const { child } of receivers) child.kill("SIGKILL");
		ip("netns", "del", space);
	}
	const costs = output
		.trim()
		.split("\n")
		.map((line) => line.trim().split(" ").map(Number))
		.slice(ROUND);
	const of = (name: string): number[] => costs.map((cost) => cost[names.indexOf(name)]!);
	const against = (name: string, other: string): number => Number(pairedRatio(of(name), of(other), ROUND).toFixed(2));
	report.note(`TAP receive: ${names.map((name) => `${name} ${median(of(name)).toFixed(2)} us`).join(", ")}`);
	report.table("TAP receive, CPU a frame", [
		{ what: "ours / C read+poll", ratio: against("ours", "C"), target: "2 or less" },
		{
			what: "ours, blocking in wait(), / C read+poll",
			ratio: against("ours, wait()", "C"),
			target: "2 or less",
		},
		{ what: "ours / fs.createReadStream", ratio: against("ours", "stream"), target: "0.25 or less" },
	]);
}

/** 20,000 pings are sent in groups: one wait for a processor spoils a group's average, not all of them. */
const PING_GROUPS = 20;

async function tapPing(report: Report, peer: string): Promise<void> {
	if (lacks("ping")) return report.note("skipped ping: not installed");
	const space = "ncbench1";
	const losses: number[] = [];
	const whole = new Map<string, number[]>();
	const ping = async (side: string, command: [string, ...string[]]): Promise<number> => {
		ip("netns", "add", space);
		try {
			const [program, ...words] = command;
			const responder = await start(space, program!, ...words);
			ip("-n", space, "address", "add", "10.91.0.1/24", "dev", "bp0");
			const loop = `for group in $(seq ${PING_GROUPS}); do ping -q -f -c ${20_000 / PING_GROUPS} 10.91.0.2; done`;
			const output = execFileSync("ip", ["netns", "exec", space, "sh", "-c", loop], { encoding: "utf8" });
			responder.child.kill();
			await responder.result;
			const all = (pattern: RegExp): number[] => [...output.matchAll(pattern)].map((match) => Number(match[1]));
			losses.push(...all(/([\d.]+)% packet loss/g));
			const averages = all(/= [\d.]+\/([\d.]+)\//g);
			whole.set(side, [
				...(whole.get(side) ?? []),
				averages.reduce((sum, average) => sum + average, 0) / averages.length,
			]);
			return median(averages);
		} finally {
			ip("netns", "del", space);
		}
	};
	const figures = await interleave([
		{ name: "ours", run: () => ping("ours", ours("echo", "bp0", "10.91.0.2")) },
		{ name: "C", run: () => ping("C", [peer, "echo", "bp0", "10.91.0.2"]) },
	]);
	report.note(`ping: ${[...figures].map(([name, ms]) => `${name} ${(ms * 1000).toFixed(1)} us`).join(", ")}`);
	report.table("ping -f, 20,000 a run, answered over a TAP", [
		{
			what: `average round trip, ours / C, median of ${PING_GROUPS} groups`,
			ratio: ratio(figures.get("ours")!, figures.get("C")!),
			target: "1.5 or less",
		},
		{
			what: "the same over all 20,000",
			ratio: ratio(median(whole.get("ours")!), median(whole.get("C")!)),
			target: "1.5 or less",
		},
		{ what: "lost, percent, worst of all", ratio: Math.max(...losses), target: "0" },
	]);
}

async function tapForward(report: Report, peer: string): Promise<void> {
	if (lacks("iperf3")) return report.note("skipped iperf3: not installed");
	const [a, b] = ["ncbench2", "ncbench3"];
	const transfer = async (command: [string, ...string[]]): Promise<number> => {
		ip("netns", "add", a);
		ip("netns", "add", b);
		try {
			const [program, ...words] = command;
			const forwarder = await start(a, program!, ...words);
			ip("-n", a, "address", "add", "10.92.0.1/24", "dev", "bf0");
			ip("-n", b, "address", "add", "10.92.0.2/24", "dev", "bf1");
			const server = spawn("ip", ["netns", "exec", b, "iperf3", "-s", "-1", "--forceflush"], {
				stdio: ["ignore", "pipe", "ignore"],
			});
			await new Promise((resolve) => server.stdout.once("data", resolve));
			const output = execFileSync("ip", ["netns", "exec", a, "iperf3", "-c", "10.92.0.2", "-t", "2", "-J"], {
				encoding: "utf8",
			});
			server.kill();
			forwarder.child.kill();
			await forwarder.result;
			return (JSON.parse(output) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received
				.bits_per_second;
		} finally {
			ip("netns", "del", a);
			ip("netns", "del", b);
		}
	};
	const figures = await interleave([
		{ name: "ours", run: () => transfer(ours("forward", "bf0", "bf1", b, "1")) },
		{ name: "plain", run: () => transfer(ours("forward", "bf0", "bf1", b, "0")) },
		{ name: "C", run: () => transfer([peer, "forward", "bf0", "bf1", b]) },
	]);
	report.note(`iperf3: ${[...figures].map(([name, rate]) => `${name} ${(rate / 1e9).toFixed(2)} Gbit/s`).join(", ")}`);
	report.table("iperf3 through two TAPs and the switch", [
		{
			what: "with offload, ours / C forwarder",
			ratio: ratio(figures.get("ours")!, figures.get("C")!),
			target: "0.8 or more",
		},
		{ what: "with offload / without", ratio: ratio(figures.get("ours")!, figures.get("plain")!), target: "5 or more" },
	]);
}

async function packetReceive(report: Report, peer: string): Promise<void> {
	const space = "ncbench4";
	const count = 200_000;
	const drops: number[] = [];
	const rates: number[] = [];
	const receive = async (command: [string, ...string[]], isOurs: boolean): Promise<number> => {
		ip("netns", "add", space);
		try {
			ip("-n", space, "link", "add", "v0", "type", "veth", "peer", "name", "v1");
			ip("-n", space, "link", "set", "v0", "up");
			ip("-n", space, "link", "set", "v1", "up");
			ip("-n", space, "address", "add", "10.93.0.1/24", "dev", "v0");
			ip("-n", space, "neighbour", "add", "10.93.0.2", "lladdr", "02:00:00:00:00:99", "dev", "v0");
			await pause(50);
			const [program, ...words] = command;
			const receiver = await start(space, program!, ...words);
			const sender = await start(space, peer, "flood", "10.93.0.2", "9", String(count), "170000");
			const [, rate] = await sender.result;
			const [cost, , dropped] = await receiver.result;
			if (isOurs) {
				rates.push(rate!);
				drops.push(dropped!);
			}
			return cost!;
		} finally {
			ip("netns", "del", space);
		}
	};
	const wanted = String(count - 2000);
	const figures = await interleave([
		{ name: "ours", run: () => receive(ours("packet", "v1", wanted), true) },
		{ name: "C recvmmsg", run: () => receive([peer, "packet", "v1", wanted], false) },
	]);
	report.note(`AF_PACKET: ${[...figures].map(([name, cost]) => `${name} ${cost.toFixed(3)} us`).join(", ")}`);
	report.table("AF_PACKET V3 in place against C's recvmmsg", [
		{
			what: "CPU a packet, ours / C recvmmsg",
			ratio: ratio(figures.get("ours")!, figures.get("C recvmmsg")!),
			target: "0.2 or less",
		},
		{ what: "packets a second sent, median", ratio: Math.round(median(rates)), target: "150000 or more" },
		{ what: "dropped, worst of all runs", ratio: Math.max(...drops), target: "0" },
	]);
}

async function udp(report: Report, peer: string): Promise<void> {
	const count = 60_000;
	let port = 30_000 + (process.pid % 10_000);
	const receive = async (role: string): Promise<number> => {
		port += 2;
		const [program, ...words] = ours(role, String(port), String(count / 2));
		const receiver = await start(undefined, program, ...words);
		// The receivers are connected to the port above their own: that is where the sender must come from.
		const sender = await start(
			undefined,
			peer,
			"flood",
			"127.0.0.1",
			String(port),
			String(count),
			"40000",
			String(port + 1),
		);
		await sender.result;
		const [cost] = await receiver.result;
		return cost!;
	};
	const send = async (role: string): Promise<number> => {
		port += 2;
		const sink = await start(undefined, peer, "udp", String(port), String(10_000_000));
		const [program, ...words] = ours(role, String(port), String(200_000));
		const sender = await start(undefined, program, ...words);
		const [rate] = await sender.result;
		sink.child.kill();
		await sink.result;
		return rate!;
	};
	const received = await interleave([
		{ name: "ours", run: () => receive("udp") },
		{ name: "dgram", run: () => receive("dgram") },
	]);
	const sent = await interleave([
		{ name: "ours", run: () => send("udpSend") },
		{ name: "dgram", run: () => send("dgramSend") },
	]);
	report.note(
		`UDP: receive ${received.get("ours")!.toFixed(2)} and ${received.get("dgram")!.toFixed(2)} us; send ${sent.get("ours")!.toFixed(0)} and ${sent.get("dgram")!.toFixed(0)} a ms`,
	);
	report.table("UDP over loopback, 64 bytes, against node:dgram", [
		{
			what: "receive, CPU a datagram",
			ratio: ratio(received.get("ours")!, received.get("dgram")!),
			target: "0.8 or less",
		},
		{ what: "send, datagrams a second", ratio: ratio(sent.get("ours")!, sent.get("dgram")!), target: "1.2 or more" },
	]);
}

/** Runs a comparison where the host has what it needs, and says what is missing where not. */
function withPeer(part: (report: Report, peer: string) => Promise<void>) {
	return async (report: Report, peer: string | undefined): Promise<void> => {
		const reason = peer === undefined ? "no C++ compiler" : whyNot();
		if (peer !== undefined && reason === undefined) return part(report, peer);
		report.note(`skipped ${part.name}: ${reason}`);
	};
}

/** The comparisons of native links, by name. */
export const nativeParts = {
	tap: [withPeer(tapReceive), withPeer(tapPing), withPeer(tapForward)],
	packet: [withPeer(packetReceive)],
	udp: [withPeer(udp)],
};
