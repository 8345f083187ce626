import { describe, expect, test } from "vitest";
import {
	createChannel,
	createLinkPair,
	createNetchannels,
	type Link,
	type NetchannelControl,
	netchannelControl,
	openChannel,
	type Packet,
} from "../src/index.ts";
import { foldSum } from "../src/link/offload.ts";
import { checksumsHold, makePacket, pseudoSum } from "./support/packets.ts";

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

describe("the original interface", () => {
	const setup = () => {
		const [link, world] = createLinkPair();
		const channels = createNetchannels({ link });
		const control = (ctl: NetchannelControl) => netchannelControl({ ...ctl, channels });
		return { control, world, link };
	};
	const unc = { data: { daddr: "10.0.0.1", saddr: "10.0.0.2", dport: 53, sport: 1000, proto: 17 } };

	test("create, recv, send, bind, dump and remove", async () => {
		const { control, world } = setup();
		const { ret: fd } = control({ cmd: "create", unc });
		expect(fd).toBe(0);
		const buf = new Uint8Array(100);
		expect(control({ cmd: "recv", fd, buf }).ret).toBe(-11);
		const frame = makePacket();
		world.send(frame);
		await turn();
		expect(control({ cmd: "recv", fd, buf }).ret).toBe(60);
		expect(buf.subarray(0, 60)).toEqual(frame);
		const out: Uint8Array[] = [];
		world.onFrame = (sent) => out.push(sent.slice());
		expect(control({ cmd: "send", fd, buf: frame }).ret).toBe(60);
		expect(out).toEqual([frame]);
		expect(control({ cmd: "bind", unc }).ret).toBe(fd);
		expect(control({ cmd: "dump" }).channels).toMatchObject([
			{ fd, type: "copy", stats: { packets: 1, bytes: 60, sent: 1, sentBytes: 60, dropped: 0 } },
		]);
		expect(control({ cmd: "remove", fd }).ret).toBe(0);
		expect(control({ cmd: "remove", fd }).ret).toBe(-9);
		expect(control({ cmd: "bind", unc }).ret).toBe(-2);
	});

	test("says EEXIST for a duplicate and EINVAL for nonsense, and never throws", () => {
		const { control } = setup();
		control({ cmd: "create", unc });
		expect(control({ cmd: "create", unc }).ret).toBe(-17);
		expect(control({ cmd: "create", unc: { data: { daddr: "nowhere" } } }).ret).toBe(-22);
		expect(control({ cmd: "create", unc: { data: { daddr: "::1", saddr: "10.0.0.1" } } }).ret).toBe(-22);
		expect(control({ cmd: "create", unc: { data: {}, type: "mapped" } }).ret).toBe(-95);
		expect(control({ cmd: "frobnicate" } as never).ret).toBe(-22);
		expect(netchannelControl({ cmd: "create", unc }).ret).toBe(-19);
	});

	test("a blocking receive where nothing else could deliver is refused, not a deadlock", () => {
		const { control } = setup();
		const { ret: fd } = control({ cmd: "create", unc });
		expect(control({ cmd: "recv", fd, buf: new Uint8Array(10), timeout: 50 }).ret).toBe(-95);
	});

	test("wildcards by mask, and priority between them", async () => {
		const { control, world } = setup();
		const wide = control({ cmd: "create", unc: { data: { daddr: "10.0.0.0" }, mask: { daddr: "255.0.0.0" } } }).ret;
		const chosen = control({ cmd: "create", unc: { data: { proto: 17 }, prio: 5 } }).ret;
		const exact = control({ cmd: "create", unc }).ret;
		world.send(makePacket());
		world.send(makePacket({ protocol: 6 }));
		await turn();
		const count = (fd: number): number =>
			control({ cmd: "dump" }).channels!.find((channel) => channel.fd === fd)!.stats.packets;
		expect([count(wide), count(chosen), count(exact)]).toEqual([1, 1, 0]);
	});

	test("bind finds a channel by its data and mask, and no other", () => {
		const { control } = setup();
		const data = { daddr: "10.0.0.0" };
		const fds = ["255.0.0.0", "255.255.0.0", undefined].map(
			(daddr) => control({ cmd: "create", unc: { data, ...(daddr === undefined ? {} : { mask: { daddr } }) } }).ret,
		);
		const bind = (daddr?: string): number =>
			control({ cmd: "bind", unc: { data, ...(daddr === undefined ? {} : { mask: { daddr } }) } }).ret;
		expect([bind("255.0.0.0"), bind("255.255.0.0"), bind()]).toEqual(fds);
		expect(new Set(fds).size).toBe(3);
		expect(bind("255.255.255.0")).toBe(-2);
		// Without an address both families are meant; half of such a channel is another.
		const any = control({ cmd: "create", unc: { data: { proto: 6 } } }).ret;
		expect(control({ cmd: "bind", unc: { data: { proto: 6 } } }).ret).toBe(any);
		expect(
			control({ cmd: "bind", unc: { data: { proto: 6, daddr: "0.0.0.0" }, mask: { daddr: "0.0.0.0" } } }).ret,
		).toBe(-2);
	});

	test("limits packets and counts what it drops", async () => {
		const { control, world } = setup();
		const { ret: fd } = control({ cmd: "create", unc: { ...unc, packet_limit: 2, memory_limit_order: 12 } });
		for (let count = 0; count < 5; count++) world.send(makePacket());
		await turn();
		expect(control({ cmd: "dump" }).channels![0]!.stats).toMatchObject({ packets: 5, dropped: 3, waiting: 2 });
		const buf = new Uint8Array(10);
		expect([1, 2, 3].map(() => control({ cmd: "recv", fd, buf }).ret)).toEqual([10, 10, -11]);
	});
});

describe("channels", () => {
	const open = (): [Link, Link] => createLinkPair();

	test("iterate, batch, and end", async () => {
		const [link, world] = open();
		const channel = createChannel({ link, localPort: 53 });
		const got: number[] = [];
		const reading = (async () => {
			for await (const { bytes } of channel) got.push(bytes.length);
		})();
		world.send(makePacket());
		await turn();
		world.send(makePacket({ payload: new Uint8Array(30) }));
		await turn();
		channel.close();
		await reading;
		expect(got).toEqual([60, 72]);
	});

	test("a batch callback gets what came in one turn together; its exception is an error event", async () => {
		const [link, world] = open();
		const channel = createChannel({ link, localPort: 53 });
		const batches: number[] = [];
		const errors: string[] = [];
		channel.onError = (error) => errors.push(error.message);
		channel.onBatch = (packets) => {
			batches.push(packets.length);
			if (batches.length === 1) throw new Error("mine");
		};
		for (let count = 0; count < 3; count++) world.send(makePacket());
		await turn();
		world.send(makePacket());
		await turn();
		expect(batches).toEqual([3, 1]);
		expect(errors).toEqual(["mine"]);
	});

	test("view packets lie in the ring until the next receive", async () => {
		const [link, world] = open();
		const channel = createChannel({ link, localPort: 53, type: "view", byteLimit: 256 });
		world.send(makePacket());
		await turn();
		const first = channel.recv() as Packet;
		expect(first.bytes.buffer.byteLength).toBeGreaterThanOrEqual(640);
		expect(first.bytes).toEqual(makePacket());
		expect(channel.recv()).toBeUndefined();
	});

	test("offload metadata travels with the packet", async () => {
		const [link, world] = createLinkPair({ features: { checksum: true, tso4: true } });
		const channel = createChannel({ link, protocol: "tcp" });
		const offload = {
			needsCsum: true,
			dataValid: false,
			csumStart: 34,
			csumOffset: 16,
			gsoType: "tcpv4" as const,
			gsoSize: 1448,
			hdrLen: 54,
			ecn: true,
		};
		world.send(makePacket({ protocol: 6, payload: new Uint8Array(4000) }), offload);
		await turn();
		expect(channel.recv()).toEqual({ bytes: makePacket({ protocol: 6, payload: new Uint8Array(4000) }), offload });
	});

	test("idle channels expire by the clock that was given", () => {
		const [link, world] = open();
		let now = 0;
		const channels = createNetchannels({ link, now: () => now });
		channels.createChannel({ localPort: 53, idleTimeoutMs: 100 });
		channels.createChannel({ localPort: 54 });
		now = 90;
		world.send(makePacket());
		now = 150;
		expect(channels.expire()).toBe(0);
		now = 190;
		expect(channels.expire()).toBe(1);
		expect(channels.dump().map(({ match }) => match)).toEqual([{ localPort: 54 }]);
	});

	test("what belongs to nobody is told", () => {
		const [link, world] = open();
		const channels = createNetchannels({ link });
		let unmatched = 0;
		channels.onUnmatched = () => unmatched++;
		world.send(makePacket());
		expect(unmatched).toBe(1);
	});

	test("a handle opens the channel elsewhere: what comes is received there, what is sent there leaves here", async () => {
		const [link, world] = open();
		const channels = createNetchannels({ link });
		const channel = channels.createChannel({ localPort: 53, shared: true });
		const remote = openChannel(structuredClone(channel.handle()));
		const sent: Uint8Array[] = [];
		world.onFrame = (frame) => sent.push(frame.slice());
		world.send(makePacket());
		expect((await remote.receive())?.bytes).toEqual(makePacket());
		remote.send(makePacket({ payload: new Uint8Array(40) }));
		while (sent.length === 0) await turn();
		expect(sent[0]).toEqual(makePacket({ payload: new Uint8Array(40) }));
		expect(channel.stats()).toMatchObject({ packets: 1, sent: 1, sentBytes: 82 });
		remote.close();
		while (channels.dump().length > 0) await turn();
		expect(() => channels.createChannel({ localPort: 54 }).handle()).toThrowError(
			expect.objectContaining({ code: "ENOTSUP" }),
		);
	});
});

describe("nat", () => {
	const cases = [
		{ name: "UDP over IPv4", protocol: 17, client: "10.0.0.2", gate: "10.0.0.1", server: "192.0.2.9" },
		{ name: "TCP over IPv4", protocol: 6, client: "10.0.0.2", gate: "10.0.0.1", server: "192.0.2.9" },
		{ name: "UDP over IPv6", protocol: 17, client: "2001:db8::2", gate: "2001:db8::1", server: "2001:db8:9::9" },
		{ name: "TCP over IPv6", protocol: 6, client: "2001:db8::2", gate: "2001:db8::1", server: "2001:db8:9::9" },
	];
	test.each(cases)(
		"$name is rewritten with right checksums, and its answers back",
		({ protocol, client, gate, server }) => {
			const [link, world] = createLinkPair();
			const channels = createNetchannels({ link });
			channels.createChannel({
				type: "nat",
				local: gate,
				localPort: 53,
				remote: client,
				remotePort: 1000,
				protocol,
				target: { local: server, localPort: 5353, remote: gate, remotePort: 40000 },
			});
			const out: Uint8Array[] = [];
			world.onFrame = (frame) => out.push(frame.slice());
			const payload = Uint8Array.from({ length: 33 }, (_, index) => index * 7);
			world.send(makePacket({ protocol, src: client, dst: gate, payload }));
			expect(out[0]).toEqual(makePacket({ protocol, src: gate, dst: server, sport: 40000, dport: 5353, payload }));
			expect(checksumsHold(out[0]!, gate, server)).toBe(true);
			world.send(makePacket({ protocol, src: server, dst: gate, sport: 5353, dport: 40000, payload }));
			expect(out[1]).toEqual(makePacket({ protocol, src: gate, dst: client, sport: 53, dport: 1000, payload }));
		},
	);

	test("a checksum that is left open stays the pseudo-header's sum", () => {
		const [link, world] = createLinkPair({ features: { checksum: true } });
		createNetchannels({ link }).createChannel({
			type: "nat",
			local: "10.0.0.1",
			remote: "10.0.0.2",
			target: { local: "192.0.2.9" },
		});
		const frame = makePacket({ protocol: 6 });
		const open = (dst: string): number => foldSum(pseudoSum("10.0.0.2", dst, 6, frame.length - 34));
		new DataView(frame.buffer).setUint16(50, open("10.0.0.1"));
		let sum = 0;
		world.onFrame = (out) => (sum = new DataView(out.buffer, out.byteOffset).getUint16(50));
		world.send(frame, {
			needsCsum: true,
			dataValid: false,
			csumStart: 34,
			csumOffset: 16,
			gsoType: "none",
			gsoSize: 0,
			hdrLen: 54,
			ecn: false,
		});
		expect(sum).toBe(open("192.0.2.9"));
	});

	test("needs a target that changes something and can be undone", () => {
		const [link] = createLinkPair();
		const channels = createNetchannels({ link });
		const bad = (options: object): void =>
			expect(() => channels.createChannel({ type: "nat", ...options })).toThrowError(
				expect.objectContaining({ code: "EINVAL" }),
			);
		bad({ local: "10.0.0.1" });
		bad({ local: "10.0.0.1", target: {} });
		bad({ localPort: 53, target: { local: "10.0.0.9" } });
		bad({ local: "10.0.0.1", target: { local: "10.0.0.9", remote: "::1" } });
		bad({ local: "10.0.0.1", target: { localPort: 70000 } });
		expect(channels.dump()).toEqual([]);
	});
});
