import { Stack } from "../src/ip/stack.ts";
import type { Interface } from "../src/link/interface.ts";
import { seededBytes, VirtualNetwork, type WireOptions } from "../src/link/model.ts";
import type { TcpConfig } from "../src/tcp/config.ts";
import type { TcpConnection, TcpHandlers } from "../src/tcp/connection.ts";
import { TcpLayer } from "../src/tcp/layer.ts";

export interface Host {
	stack: Stack;
	tcp: TcpLayer;
	iface: Interface;
}

export interface World {
	network: VirtualNetwork;
	a: Host;
	b: Host;
	wire: WireOptions;
}

/** Two hosts, 10.0.0.1 / fd00::1 and 10.0.0.2 / fd00::2, on one wire. */
export function world(
	wire: WireOptions = {},
	config: Partial<TcpConfig> = {},
	seed = 1,
	configB: Partial<TcpConfig> = config,
): World {
	const network = new VirtualNetwork(seed);
	const ends = network.wire(wire);
	const hosts = [config, configB].map((each, i) => {
		const stack = new Stack({ random: seededBytes(seed * 100 + i) });
		network.add(stack);
		const tcp = new TcpLayer(stack, each);
		const iface = network.attach(stack, ends[i]!);
		stack.addAddress(iface, `10.0.0.${i + 1}/24`);
		stack.addAddress(iface, `fd00::${i + 1}/64`);
		return { stack, tcp, iface };
	});
	return { network, a: hosts[0]!, b: hosts[1]!, wire };
}

/** Bytes that tell their own position, so that any mix-up shows. */
export function pattern(length: number, salt = 0): Uint8Array {
	const bytes = new Uint8Array(length);
	let state = (salt * 2654435761 + 12345) >>> 0;
	for (let i = 0; i < length; i++) {
		state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
		bytes[i] = state >>> 24;
	}
	return bytes;
}

export class Sink {
	readonly chunks: Uint8Array[] = [];
	length = 0;
	ended = false;
	closed = false;
	error: string | undefined;
	connected = false;
	paused = false;
	readonly handlers: TcpHandlers = {
		onConnect: () => {
			this.connected = true;
		},
		onReadable: (c) => {
			if (!this.paused) this.drain(c);
		},
		onEnd: (c) => {
			if (!this.paused) this.drain(c);
			this.ended = true;
		},
		onClose: (_c, error) => {
			this.closed = true;
			this.error = error?.code;
		},
	};

	drain(c: TcpConnection): void {
		for (;;) {
			const view = c.peek();
			if (view.length === 0) return;
			this.chunks.push(view.slice());
			this.length += view.length;
			c.consume(view.length);
		}
	}

	bytes(): Uint8Array {
		const all = new Uint8Array(this.length);
		let at = 0;
		for (const chunk of this.chunks) {
			all.set(chunk, at);
			at += chunk.length;
		}
		return all;
	}
}

/** Writes all of `data`, as room comes, then ends. */
export function feed(sink: Sink, data: Uint8Array): TcpHandlers {
	let at = 0;
	const push = (c: TcpConnection) => {
		if (at < data.length) at += c.write(data.subarray(at));
		if (at === data.length) {
			at++;
			c.end();
		}
	};
	return {
		...sink.handlers,
		onConnect: (c) => {
			sink.connected = true;
			push(c);
		},
		onWritable: push,
	};
}

export function same(x: Uint8Array, y: Uint8Array): boolean {
	return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

/** Lets the hosts learn each other's MAC before the wire turns bad. */
export function warm(w: World): void {
	for (const [host, other] of [
		[w.a, w.b],
		[w.b, w.a],
	] as const) {
		for (const { address } of other.iface.addresses) {
			host.iface.neighbors.obtain(address);
			host.iface.neighbors.learn(address, other.iface.mac, 0, w.network.now, true, true);
		}
	}
}
