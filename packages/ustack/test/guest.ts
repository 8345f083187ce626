import { once } from "node:events";
import net from "node:net";
import { createLinkPair } from "@x/netchannel";
import { afterEach } from "vitest";
import {
	type AuditEvent,
	createGateway,
	type Gateway,
	type GatewayOptions,
	type Outbound,
} from "../src/gateway/index.ts";
import { createHost, DhcpClient, DnsClient, type Host, parseAddress } from "../src/index.ts";
import { createNet, createNodeOutbound, type NetSocket } from "../src/node/index.node.ts";
import { addressRecord, DNS_TYPE, dnsReply, encodeDns, parseDns } from "../src/wire/dns.ts";

/** What a test has opened; closed after it, the last first. */
export const opened: (() => void)[] = [];

afterEach(() => {
	for (const close of opened.splice(0).reverse()) close();
});

/** A gateway and a guest that it has configured. */
export interface Setup {
	gateway: Gateway;
	guest: Host;
	audit: AuditEvent[];
	dhcp: DhcpClient;
	/** How often the fake upstream resolver was asked, by name. */
	asked: string[];
}

/** What the fake upstream resolver knows. */
export const UPSTREAM: Record<string, string[]> = {
	"good.example": ["192.0.2.10", "2001:4860::10"],
	"also-good.example": ["192.0.2.10"],
	"bad.example": ["192.0.2.66"],
	"shared-bad.example": ["192.0.2.10"],
	"local.example": ["127.0.0.1"],
	"rebind.example": ["10.0.0.5"],
	"rebind6.example": ["fd00::5", "64:ff9b::a00:5", "::ffff:10.0.0.5"],
	"mixed.example": ["192.0.2.20", "169.254.169.254"],
};

/** Answers queries from {@link UPSTREAM}. */
export function fakeResolver(asked: string[]): Outbound["query"] {
	return async (bytes) => {
		const query = parseDns(bytes)!;
		const { name, type } = query.questions[0]!;
		asked.push(name);
		const addresses = UPSTREAM[name];
		const reply = dnsReply(query, addresses === undefined ? 3 : 0);
		for (const text of addresses ?? []) {
			const record = addressRecord(name, parseAddress(text)!, 60);
			const mapped = text.startsWith("::ffff:");
			if (mapped)
				Object.assign(record, {
					type: DNS_TYPE.AAAA,
					data: new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 5]),
				});
			if (record.type === type) reply.answers.push(record);
		}
		return encodeDns(reply);
	};
}

/** An outside where `ADDRESS:PORT` or `ADDRESS` leads to a port of this machine, and the rest to this machine's network. */
export function outsideWith(places: Record<string, number>): Outbound {
	const inner = createNodeOutbound();
	return {
		...inner,
		connect: (address, port) => {
			const host = address.includes(":") ? `[${address}]` : address;
			const local = places[`${host}:${port}`] ?? (places[host] === 0 ? port : places[host]);
			return local === undefined ? inner.connect(address, port) : inner.connect("127.0.0.1", local);
		},
	};
}

/** Makes a gateway with the fake resolver, and a guest behind it with an address. */
export async function setup(options: Partial<GatewayOptions> = {}): Promise<Setup> {
	const [guestEnd, gatewayEnd] = createLinkPair();
	const audit: AuditEvent[] = [];
	const asked: string[] = [];
	const gateway = createGateway({
		link: gatewayEnd,
		onAudit: (event) => audit.push(structuredClone(event)),
		...options,
		outbound: { ...(options.outbound ?? createNodeOutbound()), query: fakeResolver(asked) },
	});
	const guest = createHost();
	const iface = guest.attach(guestEnd, { slaac: true, dadTransmits: 0 });
	opened.push(
		() => guest.close(),
		() => gateway.close(),
	);
	const dhcp = await new Promise<DhcpClient>((resolve) => {
		const client: DhcpClient = new DhcpClient(guest.udp, iface, { hostName: "guest", onChange: () => resolve(client) });
	});
	guest.lookup = new DnsClient(guest, { servers: dhcp.configuration!.dns, timeoutMs: 500 }).lookup;
	return { gateway, guest, audit, dhcp, asked };
}

/** A server on this machine; its port. */
export async function hostServer(onConnection: (socket: net.Socket) => void, host = "127.0.0.1"): Promise<number> {
	const server = net.createServer({ allowHalfOpen: true }, (socket) => {
		socket.on("error", () => undefined);
		onConnection(socket);
	});
	server.listen(0, host);
	await once(server, "listening");
	opened.push(() => server.close());
	return (server.address() as net.AddressInfo).port;
}

/** A guest cannot name 127.0.0.1; 192.0.2.10 stands for it. */
export function throughAlias(): Partial<GatewayOptions> {
	return { outbound: outsideWith({ "192.0.2.10": 0 }) };
}

/** A guest's connection whose failure at the test's end is nobody's. */
export function dial(guest: Host, host: string, port: number): NetSocket {
	return createNet(guest)
		.connect({ host, port })
		.on("error", () => undefined);
}
