import { createLinkPair } from "@x/netchannel";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Mdns, type MdnsOptions } from "../src/gateway/index.ts";
import { createHost } from "../src/index.ts";
import { parseAddress } from "../src/wire/address.ts";
import { DNS_TYPE, type DnsMessage, dnsQuery, encodeDns, parseDns, recordName } from "../src/wire/dns.ts";

const SEED = 6762;
const opened: (() => void)[] = [];
afterEach(() => {
	for (const close of opened.splice(0).reverse()) close();
});

/** Two hosts on a wire whose time a test moves. */
function pair(left: MdnsOptions, right: MdnsOptions) {
	let now = 0;
	const clock = { now: () => now, soon: () => undefined, turn: () => undefined, after: () => () => undefined };
	const links = createLinkPair();
	const sides = [left, right].map((options, i) => {
		const host = createHost({ clock });
		const iface = host.attach(links[i]!, { addresses: [`10.0.0.${i + 1}/24`, `fe80::${i + 1}/64`] });
		opened.push(() => host.close());
		return { host, iface, mdns: new Mdns(host, iface, options) };
	});
	const run = async (ms: number) => {
		for (const end = now + ms; now < end; now += 10) {
			for (const { host } of sides) host.stack.poll(now);
			await null;
		}
	};
	return { run, a: sides[0]!, b: sides[1]! };
}

describe("a host on the link", () => {
	test("is found by its name, both families", async () => {
		const { run, a } = pair({}, { hostName: "Printer" });
		await run(3_000);
		const found = a.mdns.lookup("printer.local");
		const missing = a.mdns.lookup("nobody.local");
		await run(4_000);
		expect((await found).map(String).sort()).toEqual(["10.0.0.2", "fe80::2"]);
		expect(await missing).toEqual([]);
	});

	test("and by its services", async () => {
		const services = [{ instance: "Floor 3. Printer", type: "_ipp._tcp", port: 631, text: ["rp=print", "color=T"] }];
		const { run, a } = pair({}, { hostName: "printer", services });
		await run(3_000);
		const types = a.mdns.query("_services._dns-sd._udp.local", DNS_TYPE.PTR);
		const instances = a.mdns.query("_ipp._tcp.local", DNS_TYPE.PTR);
		await run(4_000);
		expect((await types).map(recordName)).toEqual(["_ipp._tcp.local"]);
		const instance = recordName((await instances)[0]!)!;
		expect(instance).toBe("floor\\0323\\046\\032printer._ipp._tcp.local");
		const service = a.mdns.query(instance, DNS_TYPE.SRV);
		const text = a.mdns.query(instance, DNS_TYPE.TXT);
		await run(500);
		expect([...(await service)[0]!.data.subarray(4, 6)]).toEqual([2, 119]);
		expect(new TextDecoder().decode((await text)[0]!.data)).toBe("\brp=print\u0007color=T");
	});

	test("takes another name when its own is another's", async () => {
		const names: string[] = [];
		const { run, a, b } = pair({ hostName: "box" }, { hostName: "box", onRename: (name) => names.push(name) });
		// The second is late: the first has the name by then.
		await run(6_000);
		expect(new Set([a.mdns.name, b.mdns.name]).size).toBe(2);
		expect([a.mdns.name, b.mdns.name]).toContain("box.local");
		if (names.length > 0) expect(names).toEqual(["box-2"]);
	});

	test("says goodbye, and is then gone", async () => {
		const { run, a, b } = pair({}, { hostName: "printer" });
		await run(3_000);
		const goodbyes: DnsMessage[] = [];
		a.iface.tap = (frame, outgoing) => {
			const message = outgoing ? undefined : parseDns(frame.subarray(frame[12] === 8 ? 42 : 62));
			if (message?.answers.every(({ ttl }) => ttl === 0)) goodbyes.push(message);
		};
		b.mdns.close();
		await run(100);
		expect(goodbyes.length).toBeGreaterThan(0);
		const found = a.mdns.lookup("printer.local", 500);
		await run(1_000);
		expect(await found).toEqual([]);
	});
});

describe("what is answered", () => {
	const ask = async (change: (message: DnsMessage) => void, port = 5353) => {
		const { run, a } = pair({}, { hostName: "printer" });
		await run(3_000);
		a.mdns.close();
		const answers: DnsMessage[] = [];
		const socket = a.host.udp.open({
			port,
			iface: a.iface,
			onMessage: (data) => {
				const message = parseDns(data);
				if (message?.response) answers.push(message);
			},
		});
		socket.joinGroup(parseAddress("224.0.0.251")!, a.iface);
		const message = dnsQuery(port === 5353 ? 0 : 77, "printer.local", DNS_TYPE.A);
		change(message);
		socket.send(encodeDns(message)!, "224.0.0.251", 5353);
		await run(500);
		return answers;
	};

	test("a question, in a group, with the cache-flush bit and no question in it", async () => {
		const [answer] = await ask(() => undefined);
		expect(answer).toMatchObject({ id: 0, authoritative: true, questions: [] });
		expect(answer!.answers).toMatchObject([{ name: "printer.local", class: 0x8001, ttl: 120 }]);
	});

	test("a plain resolver, as it expects it", async () => {
		const [answer] = await ask(() => undefined, 40_000);
		expect(answer).toMatchObject({ id: 77, questions: [{ name: "printer.local" }] });
		expect(answer!.answers).toMatchObject([{ class: 1, ttl: 10 }]);
	});

	test("not what the asker says it knows", async () => {
		const known = (ttl: number) => (message: DnsMessage) =>
			message.answers.push({ name: "printer.local", type: 1, class: 1, ttl, data: Uint8Array.of(10, 0, 0, 2) });
		expect(await ask(known(100))).toEqual([]);
		expect(await ask(known(20))).toHaveLength(1);
		expect(await ask((message) => (message.questions[0]!.name = "other.local"))).toEqual([]);
	});
});

test("anything at all never throws", async () => {
	const { run, a } = pair({}, { hostName: "printer" });
	await run(3_000);
	const socket = a.host.udp.open({ iface: a.iface });
	const seed = encodeDns({ ...dnsQuery(0, "printer.local", DNS_TYPE.ANY), authorities: [] })!;
	fc.assert(
		fc.property(
			fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { maxLength: 8 }),
			fc.uint8Array({ maxLength: 60 }),
			(changes, tail) => {
				const bytes = new Uint8Array(seed.length + tail.length);
				bytes.set(seed);
				bytes.set(tail, seed.length);
				for (const [at, value] of changes) bytes[at] = value;
				socket.send(bytes, "224.0.0.251", 5353);
			},
		),
		{ seed: SEED, numRuns: 2_000 },
	);
	await run(1_000);
	const found = a.mdns.lookup("printer.local");
	await run(3_500);
	expect((await found).length).toBeGreaterThan(0);
});

test.each([
	[{ hostName: "a.b" }, /a\.b/],
	[{ hostName: "printer", services: [{ instance: "x", type: "http", port: 1 }] }, /"http"/],
	[{ services: [{ instance: "x", type: "_http._tcp", port: 1 }] }, /hostName/],
])("%j is refused", (options, message) => {
	const host = createHost();
	const iface = host.attach(createLinkPair()[0], { addresses: ["10.0.0.1/24"] });
	opened.push(() => host.close());
	expect(() => new Mdns(host, iface, options)).toThrow(message);
});
