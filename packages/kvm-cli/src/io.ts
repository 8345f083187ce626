import type { Readable, Writable } from "node:stream";

/** An output that may be a terminal. */
export type Output = Writable & { isTTY?: boolean; columns?: number; rows?: number };

/** An input that may be a terminal. */
export type Input = Readable & { isTTY?: boolean; setRawMode?(on: boolean): unknown };

/** What a command touches of the process it runs in. */
export interface CliIo {
	readonly stdin: Input;
	readonly stdout: Output;
	readonly stderr: Output;
	readonly env: Readonly<Record<string, string | undefined>>;
	/** Aborts on SIGINT or SIGTERM, with an `Interrupted` as its reason. */
	readonly signal: AbortSignal;
}

/** Writes, and waits while the reader is slower. A reader that went away is no error. */
export async function write(output: Output, data: string | Uint8Array): Promise<void> {
	if (output.destroyed || output.writableEnded || data.length === 0) return;
	if (output.write(data)) return;
	await new Promise<void>((resolve) => {
		const done = (): void => {
			output.off("drain", done);
			output.off("close", done);
			output.off("error", done);
			resolve();
		};
		output.on("drain", done);
		output.on("close", done);
		output.on("error", done);
	});
}

/** One JSON document of a command's answer. */
export function jsonDocument(value: object): string {
	return `${JSON.stringify({ schemaVersion: 1, ...value })}\n`;
}
