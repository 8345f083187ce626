import {
	type ChildProcess,
	type ChildProcessWithoutNullStreams,
	execFile,
	execFileSync,
	spawn,
} from "node:child_process";
import net from "node:net";
import { promisify } from "node:util";
import { openLink } from "@x/netchannel/node";
import type { Host } from "../src/index.ts";
import { createNet } from "../src/node/index.node.ts";

const run = promisify(execFile);

/** Whether a program is installed. */
export function has(program: string): boolean {
	try {
		execFileSync("sh", ["-c", `PATH=$PATH:/usr/sbin:/sbin command -v ${program}`], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
}

/** What a program in the namespace printed. */
export interface Output {
	stdout: Buffer;
	stderr: Buffer;
}

/** A network namespace with the kernel's own stack, our opposite over TAP. */
export class Namespace {
	readonly name: string;
	private readonly children = new Set<ChildProcess>();

	constructor(name: string) {
		this.name = name;
		execFileSync("ip", ["netns", "add", name], { stdio: "ignore" });
		this.ip("link set lo up");
	}

	/** Runs `ip` on it. */
	ip(line: string): string {
		return execFileSync("ip", ["-n", this.name, ...line.split(" ")], { encoding: "utf8" });
	}

	/** Runs a program in it to its end. */
	run(program: string, ...args: string[]): Promise<Output> {
		return run("ip", ["netns", "exec", this.name, program, ...args], {
			encoding: "buffer",
			maxBuffer: 2 ** 31 - 1,
			timeout: 290_000,
		}) as Promise<Output>;
	}

	/** Starts a program in it; it ends with the namespace. */
	start(program: string, ...args: string[]): ChildProcessWithoutNullStreams {
		const child = spawn("ip", ["netns", "exec", this.name, program, ...args]);
		this.children.add(child);
		child.once("close", () => this.children.delete(child));
		return child;
	}

	close(): void {
		for (const child of this.children) child.kill("SIGKILL");
		execFileSync("ip", ["netns", "del", this.name], { stdio: "ignore" });
	}
}

let serial = 0;

/** Makes a namespace that TAP works in, or says why there is none. */
export async function openNamespace(): Promise<Namespace | string> {
	if (process.platform !== "linux") return "not Linux";
	if (process.getuid?.() !== 0) return "not root";
	if (!has("ip")) return "no ip (iproute2)";
	let namespace: Namespace;
	try {
		namespace = new Namespace(`ustack-${process.pid}-${serial++}`);
	} catch {
		return "no network namespaces";
	}
	try {
		(await openLink(`tap:probe0?netns=${namespace.name}`)).close();
		return namespace;
	} catch (error) {
		namespace.close();
		return `no TAP: ${(error as Error).message}`;
	}
}

/** Joins two byte streams, half-closes and failures included. */
function join(a: net.Socket, b: net.Socket): void {
	a.on("error", () => b.destroy()).pipe(b);
	b.on("error", () => a.destroy()).pipe(a);
}

/** Makes our stack's `port` lead to a program on this machine's loopback: our stack is the server. */
export function serveOn(host: Host, port: number, localPort: number): void {
	createNet(host)
		.createServer({ allowHalfOpen: true }, (socket) =>
			join(socket as never, net.connect({ host: "127.0.0.1", port: localPort, allowHalfOpen: true })),
		)
		.listen(port);
}

/** Makes a port of this machine's loopback lead through our stack to a server in the namespace: our stack is the client. */
export function reachFrom(host: Host, to: string, port: number): Promise<{ port: number; close(): void }> {
	return new Promise((resolve) => {
		const server = net.createServer({ allowHalfOpen: true }, (socket) =>
			join(socket, createNet(host).connect({ host: to, port, allowHalfOpen: true }) as never),
		);
		server.listen(0, "127.0.0.1", () =>
			resolve({ port: (server.address() as net.AddressInfo).port, close: () => void server.close() }),
		);
	});
}

/** Waits until something listens on a port in the namespace. */
export async function listening(namespace: Namespace, port: number): Promise<void> {
	const hex = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
	for (let i = 0; i < 300; i++) {
		const table = execFileSync("ip", ["netns", "exec", namespace.name, "cat", "/proc/net/tcp", "/proc/net/tcp6"]);
		if (String(table).includes(hex)) return;
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	throw new Error(`nothing listens on port ${port}`);
}
