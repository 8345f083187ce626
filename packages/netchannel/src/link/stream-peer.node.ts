import type { Socket } from "node:net";
import { LengthDeframer, writeLength } from "./length-framing.ts";

const CHUNK = 65536;
/** Milliseconds what was sent may still take to leave after close. */
const LINGER_MS = 1000;

/** What a {@link StreamPeer} reports to the link that owns it. */
export interface StreamPeerEvents {
	frame(frame: Uint8Array): void;
	drain(): void;
	/** The connection is gone; `error` tells why, undefined for an orderly end. */
	gone(error: Error | undefined): void;
}

/** One connection with QEMU's stream framing; frames of one turn of the event loop leave in one write. */
export class StreamPeer {
	private readonly socket: Socket;
	private readonly highWater: number;
	private readonly events: StreamPeerEvents;
	private chunk: Buffer = Buffer.allocUnsafe(CHUNK);
	private start = 0;
	private end = 0;
	private scheduled = false;
	private over = false;

	constructor(socket: Socket, highWater: number, events: StreamPeerEvents) {
		this.socket = socket;
		this.highWater = highWater;
		this.events = events;
		const deframer = new LengthDeframer();
		socket.setNoDelay(true);
		socket.on("data", (data) => {
			try {
				deframer.push(data, (frame) => {
					if (!this.over) events.frame(frame);
				});
			} catch (error) {
				this.finish(error as Error);
			}
		});
		socket.on("drain", () => events.drain());
		socket.on("error", (error) => this.finish(error));
		socket.on("close", () => this.finish(undefined));
	}

	/** Copies the frame into the next write; false when too much waits already. */
	write(frame: Uint8Array): boolean {
		if (this.socket.writableLength + this.end - this.start > this.highWater) {
			this.flush();
			if (this.socket.writableLength > this.highWater) return false;
		}
		const need = 4 + frame.length;
		if (this.end + need > this.chunk.length) {
			this.flush();
			this.chunk = Buffer.allocUnsafe(Math.max(CHUNK, need));
			this.start = this.end = 0;
		}
		writeLength(this.chunk, this.end, frame.length);
		this.chunk.set(frame, this.end + 4);
		this.end += need;
		if (!this.scheduled) {
			this.scheduled = true;
			queueMicrotask(() => {
				this.scheduled = false;
				this.flush();
			});
		}
		return true;
	}

	/** Sends what waits and hangs up; reports nothing any more. */
	destroy(): void {
		if (this.over) return;
		this.flush();
		this.over = true;
		this.socket.destroySoon();
		// A peer that reads no more must not hold the process.
		this.socket.setTimeout(LINGER_MS, () => this.socket.destroy());
		this.socket.on("error", () => {});
	}

	private flush(): void {
		if (this.start === this.end || this.over) return;
		const part = this.chunk.subarray(this.start, this.end);
		this.start = this.end;
		this.socket.write(part);
	}

	private finish(error: Error | undefined): void {
		if (this.over) return;
		this.over = true;
		this.socket.destroy();
		this.events.gone(error);
	}
}
