import { lstat, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CliError, EXIT } from "../exit.ts";
import type { CliIo } from "../io.ts";

const ID = /^[0-9a-f]{8}$/;

/**
 * The folder of the running sandboxes' sockets: only its owner may enter it.
 *
 * @throws CliError when it is somebody else's, or open to others
 */
export async function openRuntimeFolder(env: CliIo["env"]): Promise<string> {
	const xdg = env["XDG_RUNTIME_DIR"];
	const owner = process.getuid?.();
	const folder = xdg?.startsWith("/") ? join(xdg, "xkvm") : join(tmpdir(), `xkvm-${owner ?? 0}`);
	await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
		if (error.code !== "EEXIST") throw error;
	});
	const found = await lstat(folder);
	if (!found.isDirectory() || (owner !== undefined && found.uid !== owner) || (found.mode & 0o077) !== 0) {
		throw new CliError(
			EXIT.permission,
			"BAD_RUNTIME_FOLDER",
			`${folder}: expected a folder of yours with mode 0700; set XDG_RUNTIME_DIR to one`,
		);
	}
	return folder;
}

export function isSandboxId(text: string): boolean {
	return ID.test(text);
}

export function socketPath(folder: string, id: string): string {
	return join(folder, `${id}.sock`);
}
