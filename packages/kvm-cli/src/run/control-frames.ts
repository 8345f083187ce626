/** Messages on a sandbox's control socket: length u32 (little-endian, of the rest), type u8, payload. */
export const CONTROL = {
	/** What is wanted, as JSON: {@link ControlRequest}. First, and once. */
	REQUEST: 1,
	INPUT: 2,
	END_INPUT: 3,
	/** Rows and columns, as JSON. */
	RESIZE: 4,
	STDOUT: 16,
	STDERR: 17,
	/** Last, as JSON. */
	ANSWER: 18,
} as const;

/** What can be asked of a running sandbox. */
export type ControlRequest =
	| { readonly op: "info" }
	| { readonly op: "stop" }
	| {
			readonly op: "exec";
			readonly command: readonly string[];
			readonly env: Readonly<Record<string, string>>;
			readonly cwd?: string;
			readonly user?: string;
			readonly tty?: { readonly rows: number; readonly columns: number };
	  };

const HEADER = 5;
/** Longest message. */
const MOST = 2 ** 20;

export function encodeControl(type: number, payload: Uint8Array | object): Uint8Array {
	const bytes = payload instanceof Uint8Array ? payload : new TextEncoder().encode(JSON.stringify(payload));
	const frame = new Uint8Array(HEADER + bytes.length);
	new DataView(frame.buffer).setUint32(0, 1 + bytes.length, true);
	frame[4] = type;
	frame.set(bytes, HEADER);
	return frame;
}

/** Reads messages of a byte stream, one after another. */
export async function* readControl(
	source: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ readonly type: number; readonly payload: Uint8Array }> {
	let buffered = new Uint8Array(0);
	for await (const chunk of source) {
		const joined = new Uint8Array(buffered.length + chunk.length);
		joined.set(buffered);
		joined.set(chunk, buffered.length);
		buffered = joined;
		for (;;) {
			if (buffered.length < HEADER) break;
			const length = new DataView(buffered.buffer, buffered.byteOffset).getUint32(0, true);
			if (length < 1 || length > MOST) throw new RangeError(`a control message of ${length} bytes`);
			if (buffered.length < 4 + length) break;
			yield { type: buffered[4]!, payload: buffered.subarray(HEADER, 4 + length) };
			buffered = buffered.slice(4 + length);
		}
	}
}

export function parseJson(payload: Uint8Array): unknown {
	return JSON.parse(new TextDecoder().decode(payload));
}
