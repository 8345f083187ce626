import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLink } from "@x/netchannel/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGateway, type Gateway, type GuestLease, Mdns } from "../src/gateway/index.ts";
import {
	createHost,
	Dhcp6Client,
	type Dhcp6Configuration,
	DhcpClient,
	type DhcpConfiguration,
	DnsClient,
	type Host,
	type Interface,
	parseAddress,
} from "../src/index.ts";
import { CertificateAuthority, createHttpInterceptor, createNodeOutbound } from "../src/node/index.node.ts";
import { addressRecord, DNS_TYPE, dnsQuery, dnsReply, encodeDns, parseDns } from "../src/wire/dns.ts";
import { has, Namespace, openNamespace } from "./namespace.ts";

const namespace = await openNamespace();
const ready = namespace instanceof Namespace;
const space = namespace as Namespace;

afterAll(() => {
	if (ready) space.close();
});

/** dnsmasq's options that every use here has. */
const DNSMASQ = ["-d", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root", "--pid-file=", "--log-dhcp"];

describe.skipIf(!ready || !has("dnsmasq"))(
	`dnsmasq as the server of our clients${ready ? "" : ` (skipped: ${namespace})`}`,
	() => {
		let client: Host;
		let iface: Interface;
		let log = "";
		let configuration: DhcpConfiguration;
		let dhcp: DhcpClient;

		beforeAll(async () => {
			client = createHost();
			iface = client.attach(await openLink(`tap:umasq0?netns=${space.name}`), { slaac: true });
			space.ip("addr add 10.78.0.1/24 dev umasq0");
			space.ip("addr add fd78::1/64 dev umasq0 nodad");
			space.ip("link set umasq0 up");
			const big = Array.from({ length: 60 }, (_, i) => `--host-record=big.test,10.78.1.${i}`);
			const server = space.start(
				"dnsmasq",
				...DNSMASQ,
				"--interface=umasq0",
				"--dhcp-range=10.78.0.50,10.78.0.60,2m",
				"--dhcp-range=fd78::100,fd78::1ff,slaac,64,2m",
				"--enable-ra",
				"--ra-param=umasq0,4,1800",
				"--dhcp-option=option:mtu,1400",
				"--dhcp-option=option:domain-search,corp.test,test",
				"--dhcp-option=option:classless-static-route,10.99.0.0/16,10.78.0.9,0.0.0.0/0,10.78.0.1",
				"--domain=corp.test",
				"--dhcp-leasefile=/dev/null",
				"--address=/web.test/10.78.0.9",
				"--host-record=six.test,fd78::9",
				"--cname=alias.test,six.test",
				"--txt-record=text.test,hello",
				"--dhcp-authoritative",
				...big,
			);
			server.stderr.on("data", (chunk) => {
				log += chunk;
			});
			configuration = await new Promise((resolve) => {
				dhcp = new DhcpClient(client.udp, iface, {
					hostName: "ustack",
					onChange: (given) => given !== undefined && resolve(given),
				});
			});
		});

		afterAll(() => client?.close());

		test("DHCP: an address, the MTU, and routes by the classless option", async () => {
			expect(configuration.address.toString()).toMatch(/^10\.78\.0\.(5\d|60)\/24$/);
			expect(configuration).toMatchObject({ mtu: 1400, domain: "corp.test", leaseSeconds: 120 });
			expect(iface.mtu).toBe(1400);
			expect(client.stack.routes.lookup(parseAddress("10.99.1.1")!)?.gateway?.toString()).toBe("10.78.0.9");
			expect(client.stack.routes.lookup(parseAddress("192.0.2.1")!)?.gateway?.toString()).toBe("10.78.0.1");
			await expect.poll(() => log).toMatch(/DHCPACK\(umasq0\) 10\.78\.0\.\d+ [0-9a-f:]+ ustack/);
			// The kernel reaches the address.
			const own = configuration.address.address.toString();
			expect(String((await space.run("ping", "-c", "1", "-q", own)).stdout)).toContain("1 received");
		});

		test("router advertisements: an address, the route, the resolver", async () => {
			await expect
				.poll(
					() => iface.addresses.filter(({ origin, state }) => origin === "ra" && state === "preferred").map(String),
					{
						timeout: 15_000,
					},
				)
				.toHaveLength(1);
			const own = iface.addresses.find(({ origin }) => origin === "ra")!.address;
			expect(own.toString()).toMatch(/^fd78::/);
			expect(client.stack.routes.lookup(parseAddress("2001:db8::1")!)?.gateway?.isLinkLocal).toBe(true);
			expect(String((await space.run("ping", "-6", "-c", "1", "-q", own.toString())).stdout)).toContain("1 received");
		});

		test("DHCPv6: an address, or the configuration alone", async () => {
			const given = await new Promise<Dhcp6Configuration>((resolve) => {
				const six: Dhcp6Client = new Dhcp6Client(client.udp, iface, {
					onChange: (change) => {
						if (change === undefined) return;
						resolve(change);
						setTimeout(() => six.close(), 50);
					},
				});
			});
			expect(given.address!.toString()).toMatch(/^fd78::1[0-9a-f]{2}$/);
			expect(given.dns.map(String)).toEqual([expect.stringMatching(/^fd78::/)]);
			await expect.poll(() => log).toMatch(/DHCPREPLY\(umasq0\) fd78::1[0-9a-f]{2}/);
			await expect.poll(() => log).toMatch(/DHCPRELEASE\(umasq0\)/);
			await expect.poll(() => iface.find(given.address!)).toBeUndefined();
			const stateless = await new Promise<Dhcp6Configuration>((resolve) => {
				const six: Dhcp6Client = new Dhcp6Client(client.udp, iface, {
					stateful: false,
					onChange: (change) => {
						resolve(change!);
						queueMicrotask(() => six.close());
					},
				});
			});
			expect(stateless).toMatchObject({ address: undefined });
			expect(stateless.dns.map(String)).toEqual(given.dns.map(String));
		});

		test("DNS: both families, aliases, the search list, and TCP for what is long", async () => {
			for (const server of [configuration.dns[0]!, parseAddress("fd78::1")!]) {
				const resolver = new DnsClient(client, { servers: [server], search: ["corp.test", "test"] });
				expect((await resolver.lookup("web.test", 4)).map(String)).toEqual(["10.78.0.9"]);
				expect((await resolver.lookup("web", 4)).map(String)).toEqual(["10.78.0.9"]);
				expect((await resolver.lookup("alias.test", 6)).map(String)).toEqual(["fd78::9"]);
				expect(await resolver.lookup("big.test", 4)).toHaveLength(60);
				const text = await resolver.query("text.test", DNS_TYPE.TXT);
				expect(Buffer.from(text.answers[0]!.data).toString()).toBe("\x05hello");
				await expect(resolver.lookup("nowhere.invalid", 4)).rejects.toMatchObject({ code: /ENOTFOUND|EAI_AGAIN/ });
			}
		});

		test("mDNS: a program on the kernel's side finds us, and we its answers", async () => {
			const ours = new Mdns(client, iface, { hostName: "ustack-host" });
			await expect
				.poll(
					async () => {
						const script = `
							const s = require("dgram").createSocket("udp4");
							s.bind(0, () => { s.setMulticastInterface("10.78.0.1"); s.send(Buffer.from(process.argv[1], "hex"), 5353, "224.0.0.251"); });
							s.on("message", m => { console.log(m.toString("hex")); process.exit(); });
							setTimeout(() => process.exit(), 1000);`;
						const query = Buffer.from(encodeDns(dnsQuery(9, "ustack-host.local", DNS_TYPE.A))!).toString("hex");
						const { stdout } = await space.run(process.execPath, "-e", script, query);
						return parseDns(Buffer.from(String(stdout).trim(), "hex"))?.answers.map(({ data }) => data.join("."));
					},
					{ timeout: 20_000, interval: 300 },
				)
				.toEqual([configuration.address.address.toString()]);
			const answerer = `
				const s = require("dgram").createSocket({ type: "udp4", reuseAddr: true });
				s.bind(5353, () => { s.addMembership("224.0.0.251", "10.78.0.1"); s.setMulticastInterface("10.78.0.1"); s.setMulticastTTL(255); console.log("up"); });
				s.on("message", m => { if (m.includes("kernel-side")) s.send(Buffer.from(process.argv[1], "hex"), 5353, "224.0.0.251"); });`;
			const record = { ...addressRecord("kernel-side.local", parseAddress("10.78.0.1")!, 120), class: 0x8001 };
			const reply = { ...dnsReply(dnsQuery(0, "x.local", DNS_TYPE.A), 0), questions: [], answers: [record] };
			const peer = space.start(process.execPath, "-e", answerer, Buffer.from(encodeDns(reply)!).toString("hex"));
			await once(peer.stdout, "data");
			const found = await ours.query("kernel-side.local", DNS_TYPE.A, 5_000);
			expect(found.map(({ data }) => data.join("."))).toEqual(["10.78.0.1"]);
			peer.kill();
			ours.close();
		});

		test("the lease is given back", async () => {
			dhcp.close();
			await expect.poll(() => log).toMatch(/DHCPRELEASE\(umasq0\) 10\.78\.0/);
			expect(iface.addressOf(4)).toBeUndefined();
		});
	},
);

describe.skipIf(!ready)(`the kernel's clients behind our servers${ready ? "" : ` (skipped: ${namespace})`}`, () => {
	let gateway: Gateway;
	let folder: string;
	const leases: GuestLease[] = [];
	const world = new CertificateAuthority({ name: "the world" });
	const seen: string[] = [];
	const interceptor = createHttpInterceptor({
		serverAuthorities: [world.certificate],
		secrets: [{ name: "token", placeholder: "placeholder-token", value: "the-real-token", hosts: ["web.test"] }],
	});
	const { key, certificate } = world.issue("web.test");
	const secure = https.createServer({ key, cert: certificate }, (request, response) => {
		seen.push(request.headers.authorization ?? "");
		response.end(`you sent ${request.headers.authorization}\n`);
	});
	const portOf = (server: { address(): unknown }) => (server.address() as { port: number }).port;
	const outside = createServer((socket) => {
		socket.on("error", () => undefined);
		socket.end("from outside\n");
	});

	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), "ustack-"));
		outside.listen(0, "127.0.0.1");
		await once(outside, "listening");
		secure.listen(0, "127.0.0.1");
		await once(secure, "listening");
		gateway = createGateway({
			link: await openLink(`tap:ugate0?netns=${space.name}`),
			outbound: createNodeOutbound(),
			network: "10.79.0.2/24",
			network6: "fd79::2/64",
			domain: "guests.test",
			zones: { "web.test": ["10.79.0.2", "fd79::2"] },
			expose: [
				{ port: 8000, address: "127.0.0.1", hostPort: portOf(outside) },
				{ port: 443, address: "127.0.0.1", hostPort: portOf(secure) },
			],
			interceptor,
			onLease: (lease) => leases.push(lease),
		});
		space.ip("link set ugate0 up");
	});

	afterAll(() => {
		gateway?.close();
		interceptor.close();
		secure.closeAllConnections();
		secure.close();
		outside.close();
		rmSync(folder, { recursive: true, force: true });
	});

	/** A script for DHCP clients that applies the address and writes down what they were told. */
	const noted = () => readFileSync(join(folder, "noted"), "utf8");

	test("SLAAC: the kernel has an address, a route and an MTU by our advertisements", async () => {
		await expect
			.poll(() => space.ip("-6 addr show dev ugate0"), { timeout: 10_000, interval: 200 })
			.toMatch(/fd79::[0-9a-f:]+\/64 scope global (?!.*tentative)/);
		expect(space.ip("-6 route")).toMatch(/default via fe80::[0-9a-f:]+ dev ugate0 proto ra/);
		const { stdout } = await space.run("ping", "-6", "-c", "1", "-q", "fd79::2");
		expect(String(stdout)).toContain("1 received");
	});

	test.skipIf(!has("udhcpc"))("udhcpc gets a lease, and gives it back", async () => {
		const script = join(folder, "script");
		writeFileSync(
			script,
			`#!/bin/sh\nenv > ${folder}/noted.$1\n[ "$1" = bound ] && ip addr add $ip/$mask dev $interface && ip route add default via $router && cp ${folder}/noted.bound ${folder}/noted\nexit 0\n`,
			{ mode: 0o755 },
		);
		const child = space.start(
			"udhcpc",
			"-f",
			"-R",
			"-i",
			"ugate0",
			"-s",
			script,
			"-x",
			"hostname:busy",
			"-O",
			"mtu",
			"-t",
			"10",
		);
		await expect.poll(() => gateway.leases().length, { timeout: 20_000 }).toBe(1);
		await expect.poll(() => existsSync(join(folder, "noted")), { timeout: 20_000 }).toBe(true);
		const [lease] = gateway.leases();
		expect(lease).toMatchObject({ hostName: "busy", active: true });
		expect(noted()).toMatch(/^router=10\.79\.0\.2$/m);
		expect(noted()).toMatch(/^dns=10\.79\.0\.2$/m);
		expect(noted()).toMatch(/^domain=guests\.test$/m);
		expect(noted()).toMatch(/^mtu=1500$/m);
		expect(noted()).toMatch(/^lease=86400$/m);
		if (has("nc")) expect(String((await space.run("nc", "-d", "10.79.0.2", "8000")).stdout)).toBe("from outside\n");
		child.kill("SIGTERM");
		await expect.poll(() => gateway.leases().length, { timeout: 10_000 }).toBe(0);
		expect(leases.at(-1)).toMatchObject({ active: false, hostName: "busy" });
		space.ip("-4 addr flush dev ugate0");
	});

	test.skipIf(!has("dhclient"))("dhclient gets the same address, rebinds it and releases it", async () => {
		const files = ["-lf", join(folder, "leases"), "-pf", join(folder, "pid")];
		const { stderr } = await space.run("dhclient", "-4", "-1", "-v", ...files, "ugate0");
		expect(String(stderr)).toMatch(/DHCPACK of 10\.79\.0\.\d+ from 10\.79\.0\.2/);
		const [lease] = gateway.leases();
		const first = leases.find((event) => event.active);
		if (first?.mac === lease!.mac) expect(lease!.address).toBe(first.address);
		expect(space.ip("-4 addr show dev ugate0")).toContain(`inet ${lease!.address}/24`);
		expect(space.ip("-4 route")).toMatch(/default via 10\.79\.0\.2/);
		await space.run("dhclient", "-4", "-x", ...files, "ugate0");
		// A client that starts again asks for what it had (INIT-REBOOT).
		const again = await space.run("dhclient", "-4", "-1", "-v", ...files, "ugate0");
		expect(String(again.stderr)).toMatch(/DHCPREQUEST for 10\.79\.0\.\d+ [\s\S]*DHCPACK/);
		expect(String(again.stderr)).not.toContain("DHCPDISCOVER");
		await space.run("dhclient", "-4", "-r", "-v", ...files, "ugate0");
		await expect.poll(() => gateway.leases().length, { timeout: 10_000 }).toBe(0);
	});

	test.skipIf(!has("nc") || !has("ping"))(
		"what is denied is refused, and our DNS answers the kernel's resolver",
		async () => {
			space.ip("addr add 10.79.0.15/24 dev ugate0");
			space.ip("route replace 192.168.99.0/24 via 10.79.0.2");
			const start = performance.now();
			await expect(space.run("nc", "-w", "5", "192.168.99.1", "80")).rejects.toThrow();
			expect(performance.now() - start).toBeLessThan(4_000);
			await expect(space.run("ping", "-c", "1", "-W", "3", "192.168.99.1")).rejects.toMatchObject({
				stdout: expect.objectContaining({}),
			});
			const script = `const r = new (require("dns").promises.Resolver)(); r.setServers([process.argv[1]]);
			Promise.all([r.resolve4("web.test"), r.resolve6("web.test")]).then(a => console.log(a.flat().join()))`;
			for (const server of ["10.79.0.2", "fd79::2"]) {
				const { stdout } = await space.run(process.execPath, "-e", script, server);
				expect(String(stdout)).toBe("10.79.0.2,fd79::2\n");
			}
		},
	);
});
