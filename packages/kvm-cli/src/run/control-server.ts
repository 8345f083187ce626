import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import type { Readable } from "node:stream";
import type { CliIo } from "../io.ts";
import { SandboxError } from "../sandbox/errors.ts";
import type { Execution } from "../sandbox/execution.ts";
import type { Sandbox } from "../sandbox/sandbox.ts";
import { CONTROL, type ControlRequest, encodeControl, parseJson, readControl } from "./control-frames.ts";
import { openRuntimeFolder, socketPath } from "./runtime-folder.ts";

/** What `xkvm ps` shows of a sandbox. */
export interface SandboxInfo {
	readonly image: string;
	readonly command: readonly string[];
}

/** The socket by which other processes of the same user reach a sandbox. */
export interface ControlServer {
	readonly id: string;
	close(): Promise<void>;
}

/** Listens for `xkvm ps`, `exec` and `stop`; undefined where no folder for it can be had. */
export async function serveControl(
	sandbox: Sandbox,
	info: SandboxInfo,
	env: CliIo["env"],
): Promise<ControlServer | undefined> {
	let folder: string;
	try {
		folder = await openRuntimeFolder(env);
	} catch {
		// The sandbox runs as well without: a read-only system, or a folder that is somebody else's.
		return undefined;
	}
	const id = randomBytes(4).toString("hex");
	const path = socketPath(folder, id);
	const started = new Date().toISOString();
	const sockets = new Set<Socket>();
	const server = createServer((socket) => {
		sockets.add(socket);
		socket.on("close", () => sockets.delete(socket));
		socket.on("error", () => {});
		void serve(socket, sandbox, { id, pid: process.pid, started, ...info });
	});
	server.listen(path);
	try {
		await once(server, "listening");
		await chmod(path, 0o600);
	} catch {
		server.close();
		return undefined;
	}
	server.unref();
	const removeNow = (): void => {
		server.close();
	};
	process.once("exit", removeNow);
	return {
		id,
		async close() {
			process.off("exit", removeNow);
			for (const socket of sockets) socket.destroy();
			server.close();
			await rm(path, { force: true });
		},
	};
}

async function serve(socket: Socket, sandbox: Sandbox, info: object): Promise<void> {
	let execution: Execution | undefined;
	try {
		for await (const { type, payload } of readControl(socket)) {
			if (type === CONTROL.REQUEST && execution === undefined) {
				const request = parseJson(payload) as ControlRequest;
				if (request.op === "info") socket.end(encodeControl(CONTROL.ANSWER, info));
				else if (request.op === "stop") {
					socket.end(encodeControl(CONTROL.ANSWER, {}));
					await sandbox.close();
				} else if (request.op === "exec") {
					execution = start(sandbox, request);
					void answer(socket, execution);
				}
			} else if (type === CONTROL.INPUT && execution !== undefined) {
				if (!execution.stdin.write(Buffer.from(payload))) {
					await Promise.race([once(execution.stdin, "drain"), execution.exit.catch(() => {})]);
				}
			} else if (type === CONTROL.END_INPUT) execution?.stdin.end();
			else if (type === CONTROL.RESIZE) execution?.resize(parseJson(payload) as { rows: number; columns: number });
		}
	} catch {
		socket.destroy();
	}
	// Whoever asked for it has gone.
	if (execution !== undefined) {
		execution.kill("SIGHUP");
		execution.stdin.end();
	}
}

function start(sandbox: Sandbox, request: Extract<ControlRequest, { op: "exec" }>): Execution {
	const execution = sandbox.exec(request.command.map(String), {
		stdin: "pipe",
		env: request.env,
		...(request.cwd !== undefined && { cwd: request.cwd }),
		...(request.user !== undefined && { user: request.user }),
		...(request.tty !== undefined && { tty: request.tty }),
	});
	execution.stdin.on("error", () => {});
	return execution;
}

async function answer(socket: Socket, execution: Execution): Promise<void> {
	const carry = async (source: Readable, type: number): Promise<void> => {
		for await (const chunk of source) {
			if (!socket.write(encodeControl(type, chunk as Buffer)) && !socket.destroyed) {
				await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => {});
			}
		}
	};
	try {
		const [exit] = await Promise.all([
			execution.exit,
			carry(execution.stdout, CONTROL.STDOUT),
			carry(execution.stderr, CONTROL.STDERR),
		]);
		socket.end(encodeControl(CONTROL.ANSWER, exit));
	} catch (error) {
		const code = error instanceof SandboxError ? error.code : "FAILED";
		socket.end(encodeControl(CONTROL.ANSWER, { error: { code, message: (error as Error).message } }));
	}
}
