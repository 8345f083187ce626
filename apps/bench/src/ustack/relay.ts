import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createLinkPair, type Impairment, type Link, shapeFrames } from "@x/netchannel";
import { openLink } from "@x/netchannel/node";
import { createHost, type TcpConfig, type TcpConnection } from "@x/ustack";

const FLOW = fileURLToPath(new URL("./kernel-flow.mjs", import.meta.url));
const run = promisify(execFile);
const clock = {
	now: () => performance.now(),
	after: (ms: number, action: () => void) => {
		const timer = setTimeout(action, ms);
		return () => clearTimeout(timer);
	},
};

/** What a way through a relay is like: both directions alike. */
export interface RelayPath {
	oneWayMs: number;
	loss: number;
	seed: number;
}

function impairment(path: RelayPath): Impairment {
	return { delayMs: path.oneWayMs, loss: path.loss, limit: 100_000 };
}

/** Joins two links by a wire of that kind; the impairment is on the first, both ways. The result closes both. */
function join(first: Link, second: Link, path: RelayPath): () => void {
	const shaped = shapeFrames(first, { out: impairment(path), in: impairment(path), clock, seed: path.seed });
	shaped.onFrame = (frame, offload) => void second.send(frame, offload);
	second.onFrame = (frame, offload) => void shaped.send(frame, offload);
	return () => {
		shaped.onFrame = second.onFrame = undefined;
		shaped.close();
		second.close();
	};
}

/** Why the kernel's side cannot run here, undefined when it can. */
export function whyNoKernel(): string | undefined {
	if (process.platform !== "linux") return "not Linux";
	if (process.getuid?.() !== 0) return "not root: no network namespaces";
	try {
		execFileSync("ip", ["-V"], { stdio: "ignore" });
		const known = execFileSync("sysctl", ["-n", "net.ipv4.tcp_available_congestion_control"], { encoding: "utf8" });
		return /cubic/.test(known) && /reno/.test(known) ? undefined : `the kernel has ${known.trim()} only`;
	} catch (error) {
		return (error as Error).message;
	}
}

let serial = 0;

/** The kernel's own TCP between two namespaces, joined by a relay. */
export class KernelPair {
	private readonly names: [string, string];
	private closeLinks: (() => void) | undefined;
	private server: ChildProcess | undefined;

	private constructor() {
		const id = `bench-${process.pid}-${serial++}`;
		this.names = [`${id}a`, `${id}b`];
	}

	static async open(path: RelayPath, congestion: string): Promise<KernelPair> {
		const pair = new KernelPair();
		const links: Link[] = [];
		try {
			for (const [i, name] of pair.names.entries()) {
				execFileSync("ip", ["netns", "add", name]);
				const inside = (...words: string[]) => execFileSync("ip", ["netns", "exec", name, ...words]);
				inside("sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1", "net.ipv6.conf.all.disable_ipv6=1");
				// Without offloads: what is lost is one segment, not a burst of them.
				links.push(await openLink(`tap:flow0?netns=${name}&offload=0`));
				inside("ip", "address", "add", `10.9.0.${i + 1}/24`, "dev", "flow0");
				inside("ip", "link", "set", "flow0", "up", "txqueuelen", "10000");
				// By the route: a namespace's sysctl takes unrestricted controllers only.
				inside("ip", "route", "replace", "10.9.0.0/24", "dev", "flow0", "congctl", congestion);
			}
			pair.closeLinks = join(links[0]!, links[1]!, path);
			pair.server = spawn("ip", ["netns", "exec", pair.names[1], process.execPath, FLOW, "serve", "5000"], {
				stdio: ["ignore", "pipe", "inherit"],
			});
			await once(pair.server.stdout!, "data");
			return pair;
		} catch (error) {
			pair.close();
			throw error;
		}
	}

	/** Bytes a second of each of `flows` transfers at once. */
	async transfer(bytes: number, flows: number): Promise<number[]> {
		const words = ["netns", "exec", this.names[0], process.execPath, FLOW, "send", "10.9.0.2", "5000"];
		const { stdout } = await run("ip", [...words, String(bytes), String(flows)]);
		return (JSON.parse(stdout) as number[]).map((ms) => bytes / (ms / 1000));
	}

	close(): void {
		this.server?.kill("SIGKILL");
		this.closeLinks?.();
		for (const name of this.names) {
			try {
				execFileSync("ip", ["netns", "del", name], { stdio: "ignore" });
			} catch {
				// It was never made.
			}
		}
	}
}

/** Two of our stacks joined by the same relay in this process. */
export class OwnPair {
	private readonly a;
	private readonly b;
	private readonly closeRelay: () => void;

	constructor(path: RelayPath, tcp: Partial<TcpConfig>) {
		const [left, near] = createLinkPair({ mtu: 1500 });
		const [far, right] = createLinkPair({ mtu: 1500 });
		this.closeRelay = join(near, far, path);
		this.a = createHost({ tcp });
		this.b = createHost({ tcp });
		this.a.attach(left, { addresses: ["10.9.0.1/24"] });
		this.b.attach(right, { addresses: ["10.9.0.2/24"] });
		this.b.tcp.listen({
			port: 5000,
			onConnection: () => ({
				onReadable: (c) => c.consume(c.readable),
				onEnd: (c) => c.end(),
			}),
		});
	}

	/** Bytes a second of each of `flows` transfers at once. */
	transfer(bytes: number, flows: number): Promise<number[]> {
		const block = new Uint8Array(65_536).fill(7);
		const flow = () =>
			new Promise<number>((resolve, reject) => {
				const start = performance.now();
				let left = bytes;
				const push = (c: TcpConnection) => {
					while (left > 0) {
						const taken = c.write(left < block.length ? block.subarray(0, left) : block);
						left -= taken;
						if (taken === 0) return;
					}
					c.end();
				};
				this.a.tcp.connect("10.9.0.2", 5000, {
					onConnect: push,
					onWritable: push,
					onEnd: () => resolve(bytes / ((performance.now() - start) / 1000)),
					onClose: (_c, error) => error !== undefined && reject(error),
				});
			});
		return Promise.all(Array.from({ length: flows }, flow));
	}

	close(): void {
		this.closeRelay();
		this.a.close();
		this.b.close();
	}
}
