import { createLinkPair } from "@x/netchannel";
import { connectStreams, createHost, type Host, RawLayer, streamsOf, toAddress } from "../../src/index.ts";
import { feed, pattern, Sink, warm, world } from "../world.ts";

/** What the tests in Node check as well, in a page: each throws where it fails. */
const cases: Record<string, () => void | Promise<void>> = {
	"a lossy transfer in virtual time arrives right": () => transfer("10.0.0.2"),
	"the same over IPv6": () => transfer("fd00::2"),
	"datagrams, and a closed port's error": datagrams,
	"streams echo in real time": () => streams("10.0.0.2"),
	"the same streams over IPv6": () => streams("fd00::2"),
	"a refused connection rejects": refused,
	"a raw socket sees a ping": raw,
};

function check(holds: boolean, what: string): void {
	if (!holds) throw new Error(what);
}

function equal(x: Uint8Array, y: Uint8Array): boolean {
	return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

function transfer(host: string): void {
	const wire = { delayMs: 10, loss: 0.02, duplicate: 0.02, reorder: 0.02, corrupt: 0.01 };
	const w = world(wire, {}, 7);
	warm(w);
	const data = pattern(500_000);
	const sink = new Sink();
	w.b.tcp.listen({ port: 7, onConnection: () => sink.handlers });
	const sender = new Sink();
	w.a.tcp.connect(host, 7, feed(sender, data));
	check(
		w.network.run(600_000, () => sink.ended),
		"the transfer did not end",
	);
	check(equal(sink.bytes(), data), "bytes differ");
}

function realHosts(): { a: Host; b: Host; close(): void } {
	const [left, right] = createLinkPair();
	const a = createHost();
	const b = createHost();
	a.attach(left, { addresses: ["10.0.0.1/24", "fd00::1/64"] });
	b.attach(right, { addresses: ["10.0.0.2/24", "fd00::2/64"] });
	return {
		a,
		b,
		close() {
			a.close();
			b.close();
		},
	};
}

async function datagrams(): Promise<void> {
	const { a, b, close } = realHosts();
	b.udp.open({ port: 7, onMessage: (data, from, socket) => socket.send(data, from.address, from.port) });
	const back = await new Promise<Uint8Array>((resolve) => {
		const socket = a.udp.open({ onMessage: (data) => resolve(data.slice()) });
		socket.send(pattern(20_000), "10.0.0.2", 7);
	});
	check(equal(back, pattern(20_000)), "the datagram came back changed");
	const code = await new Promise<string>((resolve) => {
		const socket = a.udp.open({ onError: (error) => resolve(error.code) });
		socket.connect(toAddress("fd00::2"), 8);
		socket.send(Uint8Array.of(1));
	});
	check(code === "ECONNREFUSED", code);
	close();
}

async function streams(host: string): Promise<void> {
	const { a, b, close } = realHosts();
	b.tcp.listen({
		port: 7,
		onConnection: (c) => {
			const socket = streamsOf(c);
			void socket.readable.pipeTo(socket.writable);
			return c.handlers;
		},
	});
	const socket = await connectStreams(a, host, 7);
	const back = new Response(socket.readable as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer();
	const data = pattern(2_000_000);
	const writer = socket.writable.getWriter();
	for (let at = 0; at < data.length; at += 70_000) await writer.write(data.subarray(at, at + 70_000));
	await writer.close();
	check(equal(new Uint8Array(await back), data), "bytes differ");
	await socket.closed;
	close();
}

async function refused(): Promise<void> {
	const { a, close } = realHosts();
	const code = await connectStreams(a, "10.0.0.2", 8).then(
		() => "connected",
		(error: { code: string }) => error.code,
	);
	check(code === "ECONNREFUSED", code);
	close();
}

function raw(): void {
	const w = world();
	warm(w);
	const socket = new RawLayer(w.a.stack).open({ family: 6, protocol: 58 });
	socket.send(Uint8Array.of(128, 0, 0, 0, 0, 7, 0, 1), "fd00::2");
	w.network.run(100);
	let replies = 0;
	for (let next = socket.receive(); next !== undefined; next = socket.receive()) if (next.data[0] === 129) replies++;
	check(replies === 1, `${replies} replies`);
}

/** Results by name: "ok", or why not. */
async function run(): Promise<Record<string, string>> {
	const results: Record<string, string> = {};
	for (const [name, body] of Object.entries(cases)) {
		try {
			await body();
			results[name] = "ok";
		} catch (error) {
			results[name] = String((error as Error).stack);
		}
	}
	return results;
}

void run().then((results) => fetch("/report", { method: "POST", body: JSON.stringify(results) }));
