import { createSocket } from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import { createLinkPair } from "@x/netchannel";
import { describe, expect, test } from "vitest";
import { createGateway } from "../src/gateway/index.ts";
import { createHost, DhcpClient, DnsClient, parseAddress } from "../src/index.ts";
import { createNet, createNodeOutbound } from "../src/node/index.node.ts";
import { hostServer, opened, setup, throughAlias } from "./guest.ts";
import { pattern } from "./world.ts";

describe("configuration", () => {
	test("a guest gets address, router, DNS and MTU, and the same again", async () => {
		const { dhcp, gateway } = await setup();
		const { configuration } = dhcp;
		expect(configuration!.address.prefix).toBe(24);
		expect(configuration!.routers.map(String)).toEqual(["10.0.2.2"]);
		expect(configuration!.dns.map(String)).toEqual(["10.0.2.2"]);
		expect(gateway.leases()).toHaveLength(1);
		expect(gateway.leases()[0]).toMatchObject({ hostName: "guest", active: true });
	});

	test("and an IPv6 address by advertisement", async () => {
		const { guest } = await setup();
		await expect
			.poll(() =>
				guest.stack.interfaces[1]!.addresses.some(
					(entry) => entry.origin === "ra" && entry.address.toString().startsWith("fd00:2::"),
				),
			)
			.toBe(true);
		expect(guest.stack.routes.lookup(parseAddress("2001:db8::1")!)?.origin).toBe("ra");
	});

	test("a fixed lease is kept for its MAC", async () => {
		const [guestEnd, gatewayEnd] = createLinkPair();
		const gateway = createGateway({ outbound: createNodeOutbound(), fixed: { "52:54:00:00:00:01": "10.0.2.77" } });
		gateway.attach(gatewayEnd);
		const guest = createHost();
		const iface = guest.attach(guestEnd, { mac: Uint8Array.of(0x52, 0x54, 0, 0, 0, 1) });
		opened.push(
			() => guest.close(),
			() => gateway.close(),
		);
		const address = await new Promise(
			(resolve) => new DhcpClient(guest.udp, iface, { onChange: (c) => resolve(String(c?.address)) }),
		);
		expect(address).toBe("10.0.2.77/24");
	});
});

describe("TCP", () => {
	test("reaches a host outside, whole, and is in the audit", async () => {
		const { guest, audit } = await setup({ ...throughAlias() });
		const data = pattern(5_000_000);
		const port = await hostServer((socket) => {
			socket.on("error", () => {});
			socket.resume();
			socket.on("end", () => socket.end(data));
		});
		const socket = createNet(guest).connect({ host: "192.0.2.10", port, allowHalfOpen: true });
		socket.end("give");
		const chunks: Buffer[] = [];
		for await (const chunk of socket) chunks.push(chunk as Buffer);
		expect(Buffer.compare(Buffer.concat(chunks), data)).toBe(0);
		await expect
			.poll(() =>
				audit.some((event) => event.action === "close" && event.bytesIn === data.length && event.bytesOut === 4),
			)
			.toBe(true);
		expect(
			audit.some(
				(event) => event.action === "allow" && event.destination === `192.0.2.10:${port}` && event.reason === "default",
			),
		).toBe(true);
	});

	test("a slow reader in the guest holds the host back", async () => {
		const { guest } = await setup({ ...throughAlias() });
		let sent = 0;
		const port = await hostServer((socket) => {
			socket.on("error", () => {});
			const block = Buffer.alloc(1 << 16);
			const more = () => {
				while (!socket.destroyed && sent < 400 << 20) {
					sent += block.length;
					if (!socket.write(block)) {
						socket.once("drain", more);
						return;
					}
				}
			};
			more();
		});
		const socket = createNet(guest).connect({ host: "192.0.2.10", port });
		await once(socket, "connect");
		socket.on("error", () => {});
		socket.pause();
		let last = -1;
		await expect
			.poll(
				() => {
					const still = sent === last;
					last = sent;
					return still;
				},
				{ interval: 300, timeout: 10_000 },
			)
			.toBe(true);
		expect(sent).toBeLessThan(64 << 20);
		socket.destroy();
	});

	test("a refused port is refused, not accepted and dropped", async () => {
		const { guest } = await setup({ ...throughAlias() });
		const port = await hostServer(() => {});
		opened.pop()!();
		const socket = createNet(guest).connect({ host: "192.0.2.10", port });
		const [error] = await once(socket, "error");
		expect(error.code).toBe("ECONNREFUSED");
	});

	test("private ranges and the host itself are closed", async () => {
		const { guest, audit } = await setup();
		for (const host of ["10.1.2.3", "192.168.1.1", "169.254.169.254", "172.16.0.1"]) {
			const start = performance.now();
			const [error] = await once(createNet(guest).connect({ host, port: 80 }), "error");
			expect(error.code).toBe("ECONNREFUSED");
			expect(performance.now() - start).toBeLessThan(1_000);
			expect(audit.at(-1)).toMatchObject({
				action: "deny",
				protocol: "tcp",
				destination: `${host}:80`,
				reason: "private",
			});
		}
	});

	test("a published port leads to the guest, and stops when closed", async () => {
		const { guest, gateway } = await setup();
		const listener = createNet(guest).createServer((socket) => socket.on("error", () => {}).pipe(socket));
		listener.listen(8080);
		await once(listener, "listening");
		const forward = await gateway.publish({ hostPort: 0, guestPort: 8080 });
		const socket = net.connect(forward.port, "127.0.0.1");
		const data = pattern(1_000_000);
		socket.end(data);
		const chunks: Buffer[] = [];
		for await (const chunk of socket) chunks.push(chunk as Buffer);
		expect(Buffer.compare(Buffer.concat(chunks), data)).toBe(0);
		gateway.unpublish(forward);
		const [error] = await once(net.connect(forward.port, "127.0.0.1"), "error");
		expect(error.code).toBe("ECONNREFUSED");
	});

	test("an exposed service is reached at the gateway's address, others are refused", async () => {
		const { guest, gateway } = await setup();
		const port = await hostServer((socket) => socket.end("service"));
		gateway.expose({ port: 9000, address: "127.0.0.1", hostPort: port });
		const socket = createNet(guest).connect({ host: "10.0.2.2", port: 9000 });
		const [data] = await once(socket, "data");
		expect(String(data)).toBe("service");
		socket.destroy();
		const [error] = await once(createNet(guest).connect({ host: "10.0.2.2", port: 9001 }), "error");
		expect(error.code).toBe("ECONNREFUSED");
	});
});

describe("policy", () => {
	test("a name rule binds what the name resolved to, and nothing else gets out", async () => {
		const { guest, audit, asked } = await setup({ policy: { allow: ["good.example:1-65535"] } });
		expect((await guest.resolve("good.example", 4)).map(String)).toEqual(["192.0.2.10"]);
		await expect(guest.resolve("bad.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		await expect(guest.resolve("secret-data.evil.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		// Denied names never leave: a query is a way out for data.
		expect(asked).toEqual(["good.example"]);
		const [error] = await once(createNet(guest).connect({ host: "192.0.2.66", port: 443 }), "error");
		expect(error.code).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ action: "deny", reason: "default" });
		expect(audit.some((event) => event.protocol === "dns" && event.destination === "bad.example")).toBe(true);
	});

	test("DNS sent to another server is answered by the gateway, under the same rules", async () => {
		const { guest, asked } = await setup({ policy: { allow: ["good.example"] } });
		const direct = new DnsClient(guest, { servers: ["8.8.8.8"], timeoutMs: 500, attempts: 1 });
		expect((await direct.lookup("good.example", 4)).map(String)).toEqual(["192.0.2.10"]);
		await expect(direct.lookup("bad.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		expect(asked).toEqual(["good.example"]);
	});

	test("a public name with a private address is cleaned", async () => {
		const { guest } = await setup();
		await expect(guest.resolve("rebind.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		const wide = await setup({ policy: { allow: ["*", "10.0.0.0/24"] } });
		expect((await wide.guest.resolve("rebind.example", 4)).map(String)).toEqual(["10.0.0.5"]);
	});

	test("a denied name's address is denied even where the rest is open", async () => {
		const { guest, audit } = await setup({ policy: { deny: ["bad.example"] } });
		await expect(guest.resolve("bad.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		const [error] = await once(createNet(guest).connect({ host: "192.0.2.66", port: 443 }), "error");
		expect(error.code).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ action: "deny", reason: "bad.example", names: ["bad.example"] });
	});

	test("an asynchronous decision denies what the rules allow", async () => {
		const { guest, audit } = await setup({
			decide: async (request) => {
				await new Promise((resolve) => setTimeout(resolve, 20));
				return request.port !== 25;
			},
		});
		const [error] = await once(createNet(guest).connect({ host: "192.0.2.10", port: 25 }), "error");
		expect(error.code).toBe("ECONNREFUSED");
		expect(audit.at(-1)).toMatchObject({ action: "deny", reason: "hook" });
	});

	test("zones and wildcards are answered without asking anybody", async () => {
		const { guest, asked } = await setup({ zones: { "*.svc.internal": ["10.0.2.9"], "one.internal": ["fd00::1"] } });
		expect((await guest.resolve("a.svc.internal", 4)).map(String)).toEqual(["10.0.2.9"]);
		expect((await guest.resolve("one.internal", 0)).map(String)).toEqual(["fd00::1"]);
		expect((await guest.resolve("gateway.internal", 4)).map(String)).toEqual(["10.0.2.2"]);
		expect(asked).toEqual([]);
	});
});

describe("UDP and ping", () => {
	test("datagrams go out and answers come back from whom they were sent to", async () => {
		const { guest, gateway } = await setup();
		const server = createSocket("udp4", (data, info) =>
			server.send(Buffer.concat([Buffer.from("re:"), data]), info.port, info.address),
		);
		server.bind(0, "127.0.0.1");
		await once(server, "listening");
		opened.push(() => server.close());
		gateway.expose({ port: 9999, address: "127.0.0.1", hostPort: server.address().port, protocol: "udp" });
		const got = new Promise<[string, string, number]>((resolve) => {
			const socket = guest.udp.open({
				onMessage: (data, from) => resolve([Buffer.from(data).toString(), from.address.toString(), from.port]),
			});
			socket.send(Buffer.from("hello"), "10.0.2.2", 9999);
		});
		expect(await got).toEqual(["re:hello", "10.0.2.2", 9999]);
	});

	test("a denied datagram is silent and in the audit", async () => {
		const { guest, audit } = await setup({ policy: { default: "deny" } });
		guest.udp.open({}).send(Buffer.from("out"), "192.0.2.1", 443);
		guest.driver.wake();
		await expect
			.poll(() => audit.at(-1))
			.toMatchObject({ action: "deny", protocol: "udp", destination: "192.0.2.1:443" });
	});

	test("a published UDP port", async () => {
		const { guest, gateway, dhcp } = await setup();
		expect(dhcp.configuration).toBeDefined();
		const echo = guest.udp.open({ port: 7, onMessage: (data, from) => echo.send(data, from.address, from.port) });
		const forward = await gateway.publish({ hostPort: 0, guestPort: 7, protocol: "udp" });
		opened.push(() => void gateway.unpublish(forward));
		const client = createSocket("udp4");
		opened.push(() => client.close());
		client.send("ping", forward.port, "127.0.0.1");
		const [data] = await once(client, "message");
		expect(String(data)).toBe("ping");
	});

	test("the gateway itself answers pings; others by the host's ping", async () => {
		const { guest } = await setup({
			outbound: { ...createNodeOutbound(), ping: async (address) => address === "192.0.2.1" },
		});
		const ping = (to: string) =>
			new Promise<string>((resolve) => {
				const id = guest.stack.icmp.openEcho(
					{
						onReply: (packet, reply) => resolve(`${packet.source()} ${reply.sequence} ${reply.payload.length}`),
						onError: (kind) => resolve(kind),
					},
					77,
				);
				guest.stack.icmp.sendEcho(undefined, guest.stack.path(parseAddress(to)!), id, 5, new Uint8Array(32), 0);
				setTimeout(() => {
					guest.stack.icmp.closeEcho(id);
					resolve("silent");
				}, 300);
			});
		expect(await ping("10.0.2.2")).toBe("10.0.2.2 5 32");
		expect(await ping("192.0.2.1")).toBe("192.0.2.1 5 32");
		expect(await ping("192.0.2.9")).toBe("silent");
	});
});
