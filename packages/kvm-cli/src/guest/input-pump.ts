import type { Input } from "../io.ts";

/** Carries a stream to a guest at the guest's pace. */
export interface InputPump {
	/** Takes up again what the guest had no room for. */
	drained(): void;
	/** Lets go of the stream. */
	stop(): void;
}

/**
 * @param send - gives bytes to the guest and says how many it took
 * @param onEnd - called when all there was has been taken
 * @param transform - what of the input is for the guest
 */
export function pumpInput(
	input: Input,
	send: (bytes: Uint8Array) => number,
	onEnd: () => void,
	transform: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
): InputPump {
	let waiting = new Uint8Array(0);
	let ended = false;
	const push = (): void => {
		const taken = waiting.length > 0 ? send(waiting) : 0;
		waiting = waiting.slice(taken);
		if (waiting.length > 0) input.pause();
		else if (ended) onEnd();
		else input.resume();
	};
	const onData = (chunk: Buffer): void => {
		const bytes = transform(chunk);
		const joined = new Uint8Array(waiting.length + bytes.length);
		joined.set(waiting);
		joined.set(bytes, waiting.length);
		waiting = joined;
		push();
	};
	const onClose = (): void => {
		if (ended) return;
		ended = true;
		if (waiting.length === 0) onEnd();
	};
	input.on("data", onData);
	input.on("end", onClose);
	input.on("error", onClose);
	if (input.readableEnded || input.destroyed) onClose();
	return {
		drained: push,
		stop() {
			input.off("data", onData);
			input.off("end", onClose);
			input.off("error", onClose);
			input.pause();
		},
	};
}
