import { createLinkPair } from "@x/netchannel";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Stack } from "../src/ip/stack.ts";
import { seededBytes, VirtualNetwork, type WireOptions } from "../src/link/model.ts";
import { restoreHost, restoreStack, type SavedStack, type StackParts, saveStack } from "../src/save/stack.ts";
import { saveTcp } from "../src/save/tcp.ts";
import { saveUdp } from "../src/save/udp.ts";
import { createHost } from "../src/socket/host.ts";
import type { TcpConnection, TcpHandlers } from "../src/tcp/connection.ts";
import { TcpLayer } from "../src/tcp/layer.ts";
import { UdpLayer } from "../src/udp/layer.ts";
import { feed, pattern, Sink, same } from "./world.ts";

interface Side extends StackParts {
	/** Handlers of its connections, by what the connections' owner is. */
	users: Map<string, TcpHandlers>;
	datagrams: Uint8Array[];
	revived: number;
}

/** Two stacks that can be taken out of the world and put back as new objects, whatever is going on. */
class Revivable {
	readonly network: VirtualNetwork;
	readonly ends;
	readonly sides: [Side, Side];
	private readonly seed: number;

	constructor(wire: WireOptions, seed: number) {
		this.seed = seed;
		this.network = new VirtualNetwork(seed);
		this.ends = this.network.wire(wire);
		this.sides = [0, 1].map((i): Side => {
			const stack = new Stack({ random: seededBytes(seed * 10 + i) });
			this.network.add(stack);
			const side = { stack, tcp: new TcpLayer(stack), udp: new UdpLayer(stack), users: new Map(), datagrams: [] };
			const iface = this.network.attach(stack, this.ends[i]!);
			stack.addAddress(iface, `10.0.0.${i + 1}/24`);
			stack.addAddress(iface, `fd00::${i + 1}/64`);
			return { ...side, revived: 0 };
		}) as [Side, Side];
	}

	listen(side: Side, port: number): void {
		side.tcp.listen({ port, ...this.callbacks(side) });
	}

	private callbacks(side: Side) {
		return {
			configure: (c: TcpConnection) => {
				c.owner = `server ${c.remotePort}`;
			},
			onConnection: (c: TcpConnection) => {
				c.owner = "server";
				return side.users.get("server");
			},
		};
	}

	/** Saves a side, forgets it, and lets a new stack go on from the text of its state. */
	revive(i: 0 | 1): void {
		const old = this.sides[i];
		const text = JSON.stringify(saveStack(old));
		const state = JSON.parse(text) as SavedStack;
		this.network.remove(old.stack);
		const { users, datagrams } = old;
		const parts = restoreStack(state, {
			link: () => this.ends[i]!,
			random: seededBytes(this.seed * 10 + i + 1000 * ++old.revived),
			connection: (c) => users.get(String(c.owner)),
			listener: (port) => (port === 81 ? {} : this.callbacks(this.sides[i])),
			socket: () => ({ onMessage: (data) => void datagrams.push(data.slice()) }),
		});
		this.sides[i] = { ...parts, users, datagrams, revived: old.revived };
		this.network.add(parts.stack);
		this.network.adopt(parts.stack.interfaces[1]!, this.ends[i]!);
	}
}

/** Both directions of one connection, cut at the given moments. */
function transfer(wire: WireOptions, seed: number, host: string, bytes: number, cuts: [number, 0 | 1 | 2][]): void {
	const w = new Revivable(wire, seed);
	const [up, down] = [pattern(bytes, seed), pattern(bytes >> 1, seed + 1)];
	const [atServer, atClient] = [new Sink(), new Sink()];
	w.listen(w.sides[1], 80);
	// The server sends as soon as its user has the connection.
	const serving = feed(atServer, down);
	w.sides[1].users.set("server", {
		...serving,
		onReadable: (c) => {
			serving.onConnect!(c);
			serving.onReadable!(c);
		},
	});
	w.sides[0].users.set("client", feed(atClient, up));
	w.sides[0].tcp.connect(host, 80, w.sides[0].users.get("client"), {
		configure: (c) => {
			c.owner = "client";
		},
	});
	for (const [after, which] of cuts) {
		w.network.run(after);
		if (which !== 1) w.revive(0);
		if (which !== 0) w.revive(1);
	}
	const done = () => atServer.ended && atClient.ended;
	expect(w.network.run(7_200_000, done)).toBe(true);
	expect(same(atServer.bytes(), up)).toBe(true);
	expect(same(atClient.bytes(), down)).toBe(true);
	expect([atServer.error, atClient.error]).toEqual([undefined, undefined]);
}

describe("a stack saved, written as JSON, and restored in a new object", () => {
	test("goes on with every byte, whenever it is cut", () => {
		fc.assert(
			fc.property(
				fc.integer({ min: 1, max: 1e6 }),
				fc.constantFrom("10.0.0.2", "fd00::2"),
				fc.array(
					fc.tuple(fc.double({ min: 0, max: 400, noNaN: true }), fc.constantFrom(0 as const, 1 as const, 2 as const)),
					{ minLength: 1, maxLength: 12 },
				),
				fc.record({
					delayMs: fc.integer({ min: 0, max: 40 }),
					loss: fc.constantFrom(0, 0.01, 0.1),
					reorder: fc.constantFrom(0, 0.1),
					duplicate: fc.constantFrom(0, 0.05),
					corrupt: fc.constantFrom(0, 0.02),
				}),
				(seed, host, cuts, wire) => transfer(wire, seed, host, 300_000, cuts),
			),
			{ seed: 20_260_101, numRuns: Number(process.env["SAVE_RUNS"] ?? 12) },
		);
	});

	test("every few milliseconds of a lossy transfer, both ends", () => {
		const cuts = Array.from({ length: 60 }, (_, i): [number, 0 | 1 | 2] => [3, (i % 3) as 0 | 1 | 2]);
		transfer({ delayMs: 10, loss: 0.03 }, 7, "10.0.0.2", 400_000, cuts);
	});

	test("in the middle of a handshake, and of address resolution", () => {
		transfer({ delayMs: 20 }, 3, "10.0.0.2", 10_000, [
			[0, 0],
			[10, 0],
			[15, 1],
			[20, 2],
			[20, 1],
			[20, 0],
			[20, 1],
		]);
	});

	test("is saved again as the same state", () => {
		const w = new Revivable({ delayMs: 20, loss: 0.05 }, 11);
		const sink = new Sink();
		sink.paused = true;
		w.listen(w.sides[1], 80);
		w.sides[1].users.set("server", sink.handlers);
		w.sides[0].tcp.connect("10.0.0.2", 80, { onConnect: (c) => void c.write(pattern(200_000)) });
		w.network.run(3_000);
		const strip = (saved: ReturnType<typeof saveTcp>) => ({
			...saved,
			connections: saved.connections.map(({ events: _events, ...rest }) => rest),
		});
		for (const i of [0, 1] as const) {
			const before = strip(saveTcp(w.sides[i].tcp));
			const udp = saveUdp(w.sides[i].udp);
			w.revive(i);
			expect(strip(saveTcp(w.sides[i].tcp))).toEqual(before);
			expect(saveUdp(w.sides[i].udp)).toEqual(udp);
			expect(before.connections).toHaveLength(1);
		}
	});

	test("keeps listeners, TIME-WAIT, datagram sockets, and what nobody has accepted", () => {
		const w = new Revivable({ delayMs: 5 }, 5);
		w.sides[1].tcp.listen({ port: 81 });
		const socket = w.sides[1].udp.open({ port: 9, onMessage: () => undefined });
		socket.tos = 8;
		const closing = w.sides[0].tcp.connect("10.0.0.2", 81, { onConnect: (c) => c.end() });
		w.network.run(100);
		w.revive(1);
		const [listener] = w.sides[1].tcp.listeners.all();
		const accepted = listener!.accept()!;
		expect(accepted.remotePort).toBe(closing.localPort);
		accepted.end();
		w.network.run(100);
		expect([...w.sides[0].tcp.timeWaits.entries.keys()]).toHaveLength(1);
		w.revive(0);
		expect([...w.sides[0].tcp.timeWaits.entries.keys()]).toHaveLength(1);
		w.sides[0].udp.open().send(Uint8Array.of(1, 2, 3), "10.0.0.2", 9);
		w.sides[0].tcp.connect("fd00::2", 81);
		w.network.run(100);
		expect(w.sides[1].datagrams).toEqual([Uint8Array.of(1, 2, 3)]);
		expect([...w.sides[1].udp.ports.values()].flat()[0]!.tos).toBe(8);
		expect([...w.sides[1].tcp.listeners.all()][0]!.accept()).toBeDefined();
		w.network.run(60_000);
		expect([...w.sides[0].tcp.timeWaits.entries.keys()]).toHaveLength(0);
	});

	test("learns nothing anew: neighbours, routes, path MTUs, groups, addresses with their lifetimes", () => {
		const w = new Revivable({ delayMs: 1 }, 6);
		const { stack } = w.sides[0];
		const iface = stack.interfaces[1]!;
		stack.addRoute("default", "10.0.0.2");
		stack.addRoute("2001:db8::/32", "fd00::2");
		w.sides[0].udp.open().send(new Uint8Array(1), "10.0.0.2", 9);
		w.network.run(100);
		const { destination } = stack.path(stack.parse("10.0.0.2")!)!;
		stack.paths.learnMtu(destination, 1300);
		stack.joinGroup(iface, stack.parse("224.1.2.3")!);
		stack.now = w.network.now;
		const before = saveStack(w.sides[0]);
		w.revive(0);
		expect(saveStack(w.sides[0])).toEqual(before);
		expect(w.sides[0].stack.interfaces[1]!.neighbors.find(destination)?.state).toBe("reachable");
		expect(w.sides[0].stack.path(destination)!.mtu).toBe(1300);
		// The group's reports are out.
		w.network.run(1_000);
		const { carried } = w.network.stats;
		w.sides[0].udp.open().send(new Uint8Array(1), "10.0.0.2", 9);
		w.network.run(10);
		// The datagram and the answer to it, no question for the address.
		expect(w.network.stats.carried - carried).toBe(2);
	});

	test("a state that reaches for what all objects share is refused, and reaches nothing", () => {
		const stack = new Stack({ random: seededBytes(1) });
		const state = saveStack({ stack, tcp: new TcpLayer(stack), udp: new UdpLayer(stack) });
		const text = JSON.stringify({ ...state, udp: { ...state.udp, stats: { __x__: { reached: true } } } });
		const hostile = JSON.parse(text.replace("__x__", "__proto__")) as SavedStack;
		expect(() => restoreStack(hostile, { link: () => createLinkPair()[0] })).toThrowError(
			expect.objectContaining({ code: "ERR_BAD_STATE" }),
		);
		expect(({} as Record<string, unknown>)["reached"]).toBeUndefined();
	});

	test("a state of another version is refused", () => {
		const w = new Revivable({}, 1);
		const state = { ...saveStack(w.sides[0]), version: 99 } as never;
		expect(() => restoreStack(state, { link: () => w.ends[0]! })).toThrow(
			expect.objectContaining({ code: "ERR_BAD_STATE" }),
		);
	});

	test("a host goes on in real time, over a link of its own", async () => {
		const [left, right] = createLinkPair();
		const client = createHost();
		client.attach(left, { addresses: ["10.0.0.1/24"] });
		const server = createHost();
		server.attach(right, { addresses: ["10.0.0.2/24"] });
		const sink = new Sink();
		server.tcp.listen({ port: 80, onConnection: () => sink.handlers });
		const c = client.tcp.connect("10.0.0.2", 80, {});
		c.owner = "upload";
		await new Promise<void>((resolve) => {
			c.handlers = { onConnect: () => resolve() };
		});
		c.write(pattern(50_000));
		const state = structuredClone(saveStack(client));
		left.onFrame = undefined;
		const restored = await new Promise<TcpConnection>((resolve) => {
			const host = restoreHost(state, {
				link: () => left,
				connection: (connection) => {
					expect(connection.owner).toBe("upload");
					setTimeout(() => resolve(connection));
					return {};
				},
			});
			expect(host.driver.now()).toBeGreaterThanOrEqual(state.ip.now);
		});
		restored.write(pattern(50_000, 1));
		restored.end();
		while (!sink.ended) await new Promise((resolve) => setTimeout(resolve, 5));
		expect(sink.length).toBe(100_000);
		expect(same(sink.bytes().subarray(50_000), pattern(50_000, 1))).toBe(true);
		server.close();
		restored.layer.stack.interfaces[1]!.link!.close();
	});
});
