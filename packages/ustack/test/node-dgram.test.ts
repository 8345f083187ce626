import { once } from "node:events";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createDgram, type DgramModule } from "../src/node/index.node.ts";
import { hosts } from "./hosts.ts";
import { pattern } from "./world.ts";

let pair: ReturnType<typeof hosts>;
let left: DgramModule;
let right: DgramModule;

beforeEach(() => {
	pair = hosts();
	left = createDgram(pair.a);
	right = createDgram(pair.b);
});

afterEach(() => pair.close());

test.each([
	["udp4", "10.0.0.2", "10.0.0.1"],
	["udp6", "fd00::2", "fd00::1"],
] as const)("%s: messages both ways, with their source", async (type, host, own) => {
	const server = right.createSocket(type, (data, info) => server.send(data, info.port, info.address));
	server.bind(0);
	await once(server, "listening");
	const client = left.createSocket(type);
	client.send("hello", server.address().port, host);
	const [data, info] = await once(client, "message");
	expect(String(data)).toBe("hello");
	expect(info).toMatchObject({
		address: host,
		port: server.address().port,
		size: 5,
		family: type === "udp4" ? "IPv4" : "IPv6",
	});
	expect(own).not.toBe(info.address);
});

test.each(["10.0.0.2", "fd00::2"])("60,000 bytes in fragments to %s", async (host) => {
	const type = host.includes(":") ? "udp6" : "udp4";
	const server = right.createSocket(type);
	server.bind(9);
	await once(server, "listening");
	const data = pattern(60_000);
	const client = left.createSocket(type);
	client.send(data, 9, host);
	const [got] = await once(server, "message");
	expect(Buffer.compare(got, data)).toBe(0);
});

test("a datagram too large: EMSGSIZE", async () => {
	const client = left.createSocket("udp4");
	const error = await new Promise<Error | null>((resolve) => client.send(Buffer.alloc(65_508), 9, "10.0.0.2", resolve));
	expect(error).toMatchObject({ code: "EMSGSIZE", syscall: "send" });
});

test("a connected socket hears of a closed port", async () => {
	const client = left.createSocket("udp4");
	client.connect(5, "10.0.0.2");
	await once(client, "connect");
	expect(client.remoteAddress()).toMatchObject({ address: "10.0.0.2", port: 5 });
	client.send("anybody?");
	const [error] = await once(client, "error");
	expect(error.code).toBe("ECONNREFUSED");
});

test("multicast reaches members only", async () => {
	const member = right.createSocket("udp4");
	member.bind(5353);
	await once(member, "listening");
	const sender = left.createSocket("udp4");
	sender.send("before", 5353, "239.1.2.3");
	await new Promise((resolve) => setTimeout(resolve, 10));
	member.addMembership("239.1.2.3");
	sender.send("after", 5353, "239.1.2.3");
	const [data] = await once(member, "message");
	expect(String(data)).toBe("after");
	member.dropMembership("239.1.2.3");
	expect(() => member.dropMembership("239.1.2.3")).toThrow(expect.objectContaining({ code: "EADDRNOTAVAIL" }));
});

test("broadcast must be asked for", async () => {
	const server = right.createSocket("udp4");
	server.bind(67);
	await once(server, "listening");
	const client = left.createSocket("udp4");
	const refused = await new Promise<Error | null>((resolve) => client.send("x", 67, "10.0.0.255", resolve));
	expect(refused).toMatchObject({ code: "EACCES" });
	client.setBroadcast(true);
	client.send("y", 67, "10.0.0.255");
	const [data] = await once(server, "message");
	expect(String(data)).toBe("y");
});

test("a port in use: EADDRINUSE; shared with reuseAddr", async () => {
	const first = right.createSocket("udp4");
	first.bind(7);
	await once(first, "listening");
	const second = right.createSocket("udp4");
	second.bind(7);
	const [error] = await once(second, "error");
	expect(error).toMatchObject({ code: "EADDRINUSE", syscall: "bind" });
	const third = right.createSocket({ type: "udp4", reuseAddr: true });
	third.bind(8);
	await once(third, "listening");
	const fourth = right.createSocket({ type: "udp4", reuseAddr: true });
	fourth.bind(8);
	await once(fourth, "listening");
});
