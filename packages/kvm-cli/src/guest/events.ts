import { type CliIo, jsonDocument, write } from "../io.ts";

/** Where a guest's output goes: through, or as lines of JSON. */
export interface OutputSink {
	/** The array is valid during the call only. */
	push(stream: "console" | "stdout" | "stderr", bytes: Uint8Array): void;
	/** Says which streams the reader is too slow for, and calls back when it has caught up. */
	onPause(listener: (stream: "console" | "stdout" | "stderr", paused: boolean) => void): void;
	/** Resolves when everything has been handed to the operating system. */
	flush(): Promise<void>;
}

/** Passes output on as it is: the console and stdout to stdout, stderr to stderr. */
export function plainSink(io: CliIo): OutputSink {
	let listener: ((stream: "console" | "stdout" | "stderr", paused: boolean) => void) | undefined;
	const pending = new Set<Promise<void>>();
	return {
		push(stream, bytes) {
			const output = stream === "stderr" ? io.stderr : io.stdout;
			const written = write(output, bytes.slice());
			if (!output.writableNeedDrain) return;
			listener?.(stream, true);
			const settled = written.then(() => {
				pending.delete(settled);
				listener?.(stream, false);
			});
			pending.add(settled);
		},
		onPause(callback) {
			listener = callback;
		},
		async flush() {
			await Promise.all(pending);
		},
	};
}

/** Turns output into NDJSON on stdout; bytes that are no UTF-8 become U+FFFD. */
export function jsonSink(io: CliIo): OutputSink {
	const decoders = { console: new TextDecoder(), stdout: new TextDecoder(), stderr: new TextDecoder() };
	return {
		push(stream, bytes) {
			const data = decoders[stream].decode(bytes, { stream: true });
			if (data !== "") io.stdout.write(jsonDocument({ event: "output", stream, data }));
		},
		onPause() {},
		async flush() {},
	};
}
