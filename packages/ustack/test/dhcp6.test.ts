import { createLinkPair } from "@x/netchannel";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { type Dhcp6Lease, Dhcp6Server, type Dhcp6ServerOptions } from "../src/gateway/index.ts";
import { createHost, Dhcp6Client, type Dhcp6ClientOptions, type Dhcp6Configuration, parseCidr } from "../src/index.ts";
import { parseAddress } from "../src/wire/address.ts";
import {
	associationOption,
	DHCP6,
	DHCP6_OPTION,
	DHCP6_SERVERS,
	type Dhcp6Message,
	dhcp6Status,
	duidOf,
	encodeDhcp6,
	parseAssociation,
	parseDhcp6,
	parseDhcp6Options,
} from "../src/wire/dhcp6.ts";

const SEED = 8415;
const opened: (() => void)[] = [];
afterEach(() => {
	for (const close of opened.splice(0).reverse()) close();
});

const options = fc.array(fc.record({ code: fc.nat(0xffff), data: fc.uint8Array({ maxLength: 40 }) }), { maxLength: 8 });

describe("the wire", () => {
	test("what is encoded is parsed, and anything else never throws", () => {
		fc.assert(
			fc.property(fc.constantFrom(1, 2, 3, 7, 11), fc.nat(0xffffff), options, (type, transaction, list) => {
				const message: Dhcp6Message = { type, transaction, options: list };
				expect(parseDhcp6(encodeDhcp6(message))).toEqual(message);
			}),
			{ seed: SEED, numRuns: 500 },
		);
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
				parseDhcp6(bytes);
				parseAssociation(bytes);
				const list = parseDhcp6Options(bytes);
				if (list !== undefined) dhcp6Status(list);
			}),
			{ seed: SEED, numRuns: 5_000 },
		);
	});

	test("the servers' group is RFC 8415's", () => {
		expect(DHCP6_SERVERS.toString()).toBe("ff02::1:2");
	});

	test("an address that would be preferred longer than it is valid does not count", () => {
		const address = parseAddress("fd00::1")!;
		const { data } = associationOption({ id: 1, t1: 0, t2: 0, addresses: [{ address, preferred: 9, valid: 8 }] });
		expect(parseAssociation(data)?.addresses).toEqual([]);
	});
});

/** A client and a server on a wire whose time a test moves. */
function pair(client: Dhcp6ClientOptions, server: Partial<Dhcp6ServerOptions> = {}) {
	let now = 0;
	const clock = { now: () => now, soon: () => undefined, turn: () => undefined, after: () => () => undefined };
	const [left, right] = createLinkPair();
	const a = createHost({ clock });
	const b = createHost({ clock });
	const leases: [Dhcp6Lease, boolean][] = [];
	const serverIface = b.attach(right, { slaac: true, dadTransmits: 0 });
	const served = new Dhcp6Server(b.udp, serverIface, {
		prefix: parseCidr("fd00:5::/64")!,
		dns: [parseAddress("fd00:5::53")!],
		leaseSeconds: 100,
		onLease: (lease, active) => leases.push([lease, active]),
		...server,
	});
	const iface = a.attach(left, { slaac: true });
	const changes: (Dhcp6Configuration | undefined)[] = [];
	const made = new Dhcp6Client(a.udp, iface, { ...client, onChange: (given) => changes.push(given) });
	opened.push(
		() => a.close(),
		() => b.close(),
	);
	const run = (ms: number) => {
		for (const end = now + ms; now < end; now += 50) {
			a.stack.poll(now);
			b.stack.poll(now);
		}
	};
	return { run, a, b, iface, client: made, server: served, leases, changes };
}

describe("a client and a server", () => {
	test("agree on an address, renew it, and give it back", () => {
		const { run, iface, client, server, leases, changes } = pair({});
		run(5_000);
		expect(client.configuration).toMatchObject({ leaseSeconds: 100 });
		expect(client.configuration!.dns.map(String)).toEqual(["fd00:5::53"]);
		const { address } = client.configuration!;
		expect(address!.toString()).toMatch(/^fd00:5::/);
		expect(iface.find(address!)).toBeDefined();
		expect(server.leases()).toHaveLength(1);
		run(400_000);
		// Four times its life, and still the same.
		expect(client.configuration!.address!.equals(address!)).toBe(true);
		expect(leases).toHaveLength(1);
		expect(changes.length).toBeGreaterThan(5);
		client.close();
		run(200);
		expect(leases).toHaveLength(2);
		expect(leases[1]![1]).toBe(false);
		expect(server.leases()).toEqual([]);
		expect(iface.find(address!)).toBeUndefined();
	});

	test("in two messages with rapid commit, or for the configuration alone", () => {
		const rapid = pair({ rapidCommit: true });
		rapid.run(5_000);
		expect(rapid.client.configuration?.address).toBeDefined();
		const stateless = pair({ stateful: false });
		stateless.run(5_000);
		expect(stateless.client.configuration).toMatchObject({ address: undefined, leaseSeconds: 0 });
		expect(stateless.client.configuration!.dns).toHaveLength(1);
		expect(stateless.server.leases()).toEqual([]);
	});

	test("a client whose server is gone loses its address", () => {
		const { run, iface, client, server } = pair({});
		run(5_000);
		const { address } = client.configuration!;
		server.close();
		run(120_000);
		expect(client.configuration).toBeUndefined();
		expect(iface.find(address!)).toBeUndefined();
	});

	test("a lease that nobody renews ends", () => {
		const { run, b, iface, server, leases } = pair({});
		run(5_000);
		expect(server.leases()).toHaveLength(1);
		// The client's frames are lost from here on.
		iface.sendFrame = () => undefined;
		run(110_000);
		expect(b.stack.now).toBeGreaterThan(110_000);
		expect(server.leases()).toEqual([]);
		expect(leases.map(([, active]) => active)).toEqual([true, false]);
	});

	test("messages that the RFC has thrown away are", () => {
		const { run, a, b, iface, client } = pair({ stateful: false });
		run(3_000);
		client.close();
		const before = b.udp.stats.received;
		let answers = 0;
		const socket = a.udp.open({ port: 546, iface, onMessage: () => answers++ });
		const own = iface.addresses.find(({ address }) => address.isLinkLocal)!.address;
		const mine = { code: DHCP6_OPTION.CLIENT_ID, data: duidOf(iface.mac) };
		const other = { code: DHCP6_OPTION.SERVER_ID, data: Uint8Array.of(0, 3, 0, 1, 9, 9, 9, 9, 9, 9) };
		const send = (type: number, list: Dhcp6Message["options"]) => {
			socket.send(encodeDhcp6({ type, transaction: 1, options: list }), DHCP6_SERVERS, 547, own);
			run(100);
		};
		send(DHCP6.SOLICIT, []);
		send(DHCP6.SOLICIT, [mine, other]);
		send(DHCP6.REQUEST, [mine]);
		send(DHCP6.REQUEST, [mine, other]);
		send(DHCP6.RENEW, [mine]);
		send(DHCP6.REPLY, [mine]);
		send(DHCP6.CONFIRM, [mine]);
		expect(b.udp.stats.received - before).toBe(7);
		expect(answers).toBe(0);
		send(DHCP6.INFORMATION_REQUEST, []);
		expect(answers).toBe(1);
	});
});
