import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AgentClient } from "../../src/agent/client.ts";
import { agentExecutable } from "../../src/agent/executable.ts";
import type { SpawnRequest } from "../../src/agent/protocol.ts";

/** Why the agent cannot run on this host, if it cannot. */
export const noNativeAgent: string | undefined =
	process.platform === "linux" && process.arch === "x64" ? undefined : "the agent is a program for x86-64 Linux";

export interface NativeAgent {
	readonly child: ChildProcess;
	readonly socket: Socket;
	/** Removes everything, and says how the agent ended. */
	close(): Promise<number | null>;
}

/** Runs the agent as a plain process whose port is a socket. */
export function startNativeAgent(): NativeAgent {
	const folder = mkdtempSync(join(tmpdir(), "xkvm-agent-"));
	const path = join(folder, "agent");
	writeFileSync(path, agentExecutable(), { mode: 0o755 });
	const child = spawn("/bin/sh", ["-c", `exec "$0" 0<&3 3<&-`, path], {
		stdio: ["ignore", "ignore", "inherit", "pipe"],
		env: {},
	});
	const socket = child.stdio[3] as Socket;
	socket.on("error", () => {});
	const ended = once(child, "exit");
	return {
		child,
		socket,
		async close() {
			socket.destroy();
			const [code] = (await ended) as [number | null];
			rmSync(folder, { recursive: true });
			return code;
		},
	};
}

/** A client of a native agent. */
export function clientOf({ socket }: NativeAgent, onBroken: (error: Error) => void = () => {}): AgentClient {
	const client = new AgentClient((bytes) => socket.write(bytes), onBroken);
	socket.on("data", (bytes) => client.receive(bytes));
	socket.on("close", () => client.close(new Error("the agent has gone")));
	return client;
}

export function request(argv: readonly string[], more: Partial<SpawnRequest> = {}): SpawnRequest {
	return {
		candidates: argv[0]!.includes("/")
			? [argv[0]!]
			: [`/usr/local/bin/${argv[0]}`, `/usr/bin/${argv[0]}`, `/bin/${argv[0]}`],
		argv,
		environment: ["PATH=/usr/bin:/bin"],
		directory: "/",
		uid: 0,
		gid: 0,
		credit: 65_536,
		...more,
	};
}
