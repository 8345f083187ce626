import { afterEach, beforeEach, expect, test } from "vitest";
import { connectStreams, streamsOf } from "../src/index.ts";
import { hosts } from "./hosts.ts";
import { pattern, same } from "./world.ts";

let pair: ReturnType<typeof hosts>;

beforeEach(() => {
	pair = hosts();
});

afterEach(() => pair.close());

async function collect(readable: ReadableStream<Uint8Array>): Promise<Uint8Array> {
	return new Uint8Array(await new Response(readable as never).arrayBuffer());
}

test.each(["10.0.0.2", "fd00::2"])("streams echo 2 MB over %s and close", async (name) => {
	pair.b.tcp.listen({
		port: 7,
		onConnection: (c) => {
			const socket = streamsOf(c);
			void socket.readable.pipeTo(socket.writable);
			return c.handlers;
		},
	});
	const socket = await connectStreams(pair.a, name, 7);
	expect(socket.remoteAddress).toBe(name);
	const data = pattern(2_000_000);
	const back = collect(socket.readable);
	const writer = socket.writable.getWriter();
	for (let at = 0; at < data.length; at += 70_000) await writer.write(data.subarray(at, at + 70_000));
	await writer.close();
	expect(same(await back, data)).toBe(true);
	await socket.closed;
});

test("a refused connection rejects, an aborted peer errors the stream", async () => {
	await expect(connectStreams(pair.a, "10.0.0.2", 8)).rejects.toMatchObject({ code: "ECONNREFUSED" });
	pair.b.tcp.listen({ port: 9, onConnection: (c) => ({ onReadable: () => c.abort() }) });
	const socket = await connectStreams(pair.a, "10.0.0.2", 9);
	await socket.writable.getWriter().write(Uint8Array.of(1));
	await expect(collect(socket.readable)).rejects.toThrow();
	await expect(socket.closed).rejects.toMatchObject({ code: "ECONNRESET" });
});
