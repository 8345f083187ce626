import type { Duplex } from "node:stream";

const text = (value: string): Buffer => Buffer.from(`${value}\0`);

/** A message of PostgreSQL's protocol, version 3.0: a letter, a length, a body. */
function message(letter: string, ...parts: Buffer[]): Buffer {
	const body = Buffer.concat(parts);
	const head = Buffer.alloc(5);
	head.write(letter);
	head.writeUInt32BE(body.length + 4, 1);
	return Buffer.concat([head, body]);
}

const int16 = (value: number): Buffer => Buffer.from([(value >> 8) & 0xff, value & 0xff]);
const int32 = (value: number): Buffer =>
	Buffer.from([value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff]);
const ready = message("Z", Buffer.from("I"));

function answer(query: string): Buffer {
	if (query === "fail")
		return Buffer.concat([message("E", text("SERROR"), text("C42601"), text("Mno"), Buffer.of(0)), ready]);
	const column = Buffer.concat([text("word"), int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0)]);
	const row = (word: string) => message("D", int16(1), int32(word.length), Buffer.from(word));
	return Buffer.concat([message("T", int16(1), column), row("one"), row("two"), message("C", text("SELECT 2")), ready]);
}

/** Speaks as much of a PostgreSQL server as a client needs to log in and ask. */
export function scriptedPostgres(socket: Duplex): void {
	let pending = Buffer.alloc(0);
	let started = false;
	socket.on("error", () => undefined);
	socket.on("data", (chunk: Buffer) => {
		pending = Buffer.concat([pending, chunk]);
		for (;;) {
			const at = started ? 1 : 0;
			if (pending.length < at + 4) return;
			const length = at + pending.readUInt32BE(at);
			if (pending.length < length) return;
			const letter = started ? String.fromCharCode(pending[0]!) : "";
			const body = pending.subarray(at + 4, length);
			pending = pending.subarray(length);
			if (!started) {
				started = true;
				socket.write(Buffer.concat([message("R", int32(0)), ready]));
			} else if (letter === "Q") socket.write(answer(body.subarray(0, -1).toString()));
			else if (letter === "X") socket.end();
		}
	});
}
