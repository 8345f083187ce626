import { Duplex } from "node:stream";
import type { OutboundStream } from "../outbound.ts";

/** An outside connection as a stream of node's, for TLS and HTTP on it. */
export class OutboundDuplex extends Duplex {
	private readonly outside: OutboundStream;
	private blocked: (() => void) | undefined = undefined;
	private over = false;

	constructor(outside: OutboundStream) {
		super({ allowHalfOpen: true, autoDestroy: true });
		this.outside = outside;
		outside.onData = (bytes) => {
			if (!this.push(bytes)) outside.pause();
		};
		outside.onEnd = () => this.push(null);
		outside.onDrain = () => {
			const go = this.blocked;
			this.blocked = undefined;
			go?.();
		};
		outside.onClose = (code) => {
			this.over = true;
			if (code === undefined) this.destroy();
			else this.destroy(Object.assign(new Error(`the server's connection failed: ${code}`), { code }));
		};
	}

	override _read(): void {
		this.outside.resume();
	}

	override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error | null) => void): void {
		if (this.outside.write(chunk)) callback();
		else this.blocked = callback;
	}

	override _final(callback: (error?: Error | null) => void): void {
		this.outside.end();
		callback();
	}

	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		if (!this.over) this.outside.destroy();
		callback(error);
	}

	/** As net.Socket has them; HTTP and TLS call them. */
	setNoDelay(): this {
		return this;
	}

	setKeepAlive(): this {
		return this;
	}

	setTimeout(): this {
		return this;
	}

	ref(): this {
		return this;
	}

	unref(): this {
		return this;
	}
}
