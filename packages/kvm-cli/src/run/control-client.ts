import { once } from "node:events";
import { readdir, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { PassThrough, Writable } from "node:stream";
import { CliError, EXIT } from "../exit.ts";
import type { CliIo } from "../io.ts";
import { SandboxError, type SandboxErrorCode } from "../sandbox/errors.ts";
import type { ExecExit } from "../sandbox/execution.ts";
import type { AttachableProcess } from "./attach.ts";
import { CONTROL, type ControlRequest, encodeControl, parseJson, readControl } from "./control-frames.ts";
import { isSandboxId, openRuntimeFolder, socketPath } from "./runtime-folder.ts";

/** A sandbox that runs in some process of this user. */
export interface RunningSandbox {
	readonly id: string;
	readonly pid: number;
	readonly started: string;
	readonly image: string;
	readonly command: readonly string[];
}

async function open(path: string): Promise<Socket> {
	const socket = connect(path);
	await once(socket, "connect");
	return socket;
}

/** @throws CliError NO_SANDBOX */
async function openById(id: string, env: CliIo["env"]): Promise<Socket> {
	const missing = new CliError(EXIT.notFound, "NO_SANDBOX", `no sandbox ${id}; \`xkvm ps\` shows those that run`);
	if (!isSandboxId(id)) throw missing;
	try {
		return await open(socketPath(await openRuntimeFolder(env), id));
	} catch (error) {
		if (error instanceof CliError) throw error;
		throw missing;
	}
}

/** Asks one thing and gives the answer. */
async function ask(socket: Socket, request: ControlRequest): Promise<unknown> {
	socket.write(encodeControl(CONTROL.REQUEST, request));
	for await (const { type, payload } of readControl(socket)) {
		if (type === CONTROL.ANSWER) {
			socket.destroy();
			return parseJson(payload);
		}
	}
	throw new CliError(EXIT.io, "LOST", "the sandbox ended without an answer");
}

/** Sandboxes that answer; sockets of processes that died are removed. */
export async function runningSandboxes(env: CliIo["env"]): Promise<RunningSandbox[]> {
	const folder = await openRuntimeFolder(env);
	const found: RunningSandbox[] = [];
	for (const name of (await readdir(folder)).sort()) {
		const id = /^([0-9a-f]{8})\.sock$/.exec(name)?.[1];
		if (id === undefined) continue;
		try {
			found.push((await ask(await open(socketPath(folder, id)), { op: "info" })) as RunningSandbox);
		} catch (error) {
			if ((error as { code?: unknown }).code === "ECONNREFUSED") await rm(socketPath(folder, id), { force: true });
		}
	}
	return found;
}

/** @throws CliError NO_SANDBOX */
export async function stopSandbox(id: string, env: CliIo["env"]): Promise<void> {
	await ask(await openById(id, env), { op: "stop" });
}

/**
 * Starts a command in a running sandbox.
 *
 * @throws CliError NO_SANDBOX
 */
export async function execInSandbox(
	id: string,
	request: Extract<ControlRequest, { op: "exec" }>,
	env: CliIo["env"],
): Promise<AttachableProcess & { close(): void }> {
	const socket = await openById(id, env);
	socket.on("error", () => {});
	socket.write(encodeControl(CONTROL.REQUEST, request));
	const stdout = new PassThrough();
	const stderr = new PassThrough();
	const send = (type: number, payload: Uint8Array | object, done: () => void): void => {
		if (socket.destroyed || socket.writableEnded || socket.write(encodeControl(type, payload))) done();
		else {
			const go = (): void => {
				socket.off("drain", go);
				socket.off("close", go);
				done();
			};
			socket.on("drain", go);
			socket.on("close", go);
		}
	};
	const read = async (): Promise<ExecExit> => {
		try {
			for await (const { type, payload } of readControl(socket)) {
				if (type === CONTROL.STDOUT || type === CONTROL.STDERR) {
					const output = type === CONTROL.STDOUT ? stdout : stderr;
					if (!output.write(Buffer.from(payload))) await once(output, "drain");
				} else if (type === CONTROL.ANSWER) {
					const { error, ...exit } = parseJson(payload) as ExecExit & {
						error?: { code: SandboxErrorCode; message: string };
					};
					if (error !== undefined) throw new SandboxError(error.code, error.message);
					return exit;
				}
			}
			throw new CliError(EXIT.failed, "LOST", "the sandbox ended before the command did");
		} finally {
			stdout.end();
			stderr.end();
			socket.destroy();
		}
	};
	return {
		stdin: new Writable({
			write: (bytes: Uint8Array, _encoding, done) => send(CONTROL.INPUT, bytes, () => done()),
			final: (done) => send(CONTROL.END_INPUT, new Uint8Array(0), () => done()),
		}),
		stdout,
		stderr,
		exit: read(),
		resize: (size) => send(CONTROL.RESIZE, size, () => {}),
		close: () => socket.destroy(),
	};
}
