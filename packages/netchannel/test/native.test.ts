import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openLink, openPacket, openTap, openTun, openUdpBatch, openUnixDatagram } from "../src/index.node.ts";
import {
	compileFilter,
	createChannel,
	createNetchannels,
	createSwitch,
	type Link,
	netchannelControl,
} from "../src/index.ts";
import { linkCompliance } from "../src/testing/index.ts";
import { answerEcho } from "./support/echo.ts";
import { makeNamespace, noNamespaces } from "./support/netns.ts";
import { makePacket } from "./support/packets.ts";
import { missing } from "./support/tools.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-native-"));
afterAll(() => rmSync(folder, { recursive: true }));
let serial = 0;
const notLinux = process.platform !== "linux" ? `this is ${process.platform}` : undefined;
const noSpaces = noNamespaces();
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
const until = async (condition: () => boolean): Promise<void> => {
	for (let waited = 0; !condition(); waited++) {
		if (waited > 1000) throw new Error("waited too long");
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
};

describe.skipIf(notLinux !== undefined)(`datagrams through koffi${because(notLinux)}`, () => {
	linkCompliance("Unix datagrams", {
		describe,
		test,
		setup: async () => {
			const [a, b] = [join(folder, `d${serial++}`), join(folder, `d${serial++}`)];
			return {
				near: await openUnixDatagram({ local: a, remote: b }),
				far: await openLink(`qemu-dgram:${a}?local=${b}`),
			};
		},
	});
	linkCompliance("UDP in batches", {
		describe,
		test,
		reliable: false,
		setup: async () => {
			const first = await openUdpBatch({
				local: { host: "127.0.0.1", port: 0 },
				remote: { host: "127.0.0.1", port: 9 },
			});
			const far = await openUdpBatch({
				local: { host: "127.0.0.1", port: 0 },
				remote: { host: "127.0.0.1", port: first.port },
			});
			first.close();
			const near = await openUdpBatch({
				local: { host: "127.0.0.1", port: first.port },
				remote: { host: "127.0.0.1", port: far.port },
			});
			return { near, far };
		},
	});

	linkCompliance("vfkit's datagrams", {
		describe,
		test,
		setup: async () => {
			const [a, b] = [join(folder, `d${serial++}`), join(folder, `d${serial++}`)];
			const far = await openLink(`vfkit-listen:${b}`);
			expect(far.carrier).toBe(false);
			expect(far.send(makePacket())).toBe(true);
			const near = await openLink(`vfkit:${b}?local=${a}`);
			await until(() => far.carrier === true);
			return { near, far };
		},
	});

	test("a virtual machine that says hello again is answered under its new name", async () => {
		const path = join(folder, "net");
		const far = await openLink(`vfkit-listen:${path}`);
		for (const life of ["first", "second"]) {
			const near = await openLink(`vfkit:${path}?local=${join(folder, life)}`);
			let received = 0;
			near.onFrame = () => received++;
			far.onFrame = () => far.send(makePacket());
			near.send(makePacket());
			await until(() => received === 1);
			near.close();
		}
		far.close();
		await expect(openLink(`vfkit:${path}?local=${join(folder, "third")}`)).rejects.toMatchObject({
			code: "ERR_LINK_NOT_FOUND",
			errnoName: "ENOENT",
		});
	});

	test("a blocking receive in the thread that has the link, and the original's recv with a timeout", async () => {
		const [a, b] = [join(folder, "wait-a"), join(folder, "wait-b")];
		const near = await openUnixDatagram({ local: a, remote: b });
		const far = await openUnixDatagram({ local: b, remote: a });
		const channels = createNetchannels({ link: far });
		const channel = channels.createChannel({ localPort: 53 });
		near.send(makePacket({ dport: 54 }));
		near.send(makePacket({ sport: 7 }));
		near.wait?.(0);
		await Promise.resolve();
		expect(channel.recvBlocking(5000)?.bytes).toEqual(makePacket({ sport: 7 }));
		expect(channel.recvBlocking(5)).toBeUndefined();
		const buf = new Uint8Array(100);
		expect(netchannelControl({ channels, cmd: "recv", fd: channel.fd, buf, timeout: 5 }).ret).toBe(-110);
		near.send(makePacket({ sport: 8 }));
		await Promise.resolve();
		expect(netchannelControl({ channels, cmd: "recv", fd: channel.fd, buf, timeout: 5000 }).ret).toBe(
			makePacket().length,
		);
		channels.close();
		near.close();
		far.close();
	});

	test("a path in use, and one too long", async () => {
		const path = join(folder, "taken");
		const link = await openUnixDatagram({ local: path, remote: join(folder, "peer") });
		await expect(openUnixDatagram({ local: path, remote: "x" })).rejects.toMatchObject({
			code: "ERR_LINK_BUSY",
			errnoName: "EADDRINUSE",
		});
		link.close();
		await expect(openUnixDatagram({ local: "x".repeat(200), remote: "y" })).rejects.toMatchObject({
			code: "ERR_LINK_OPTION",
		});
	});
});

describe.skipIf(noSpaces !== undefined)(`in a network namespace${because(noSpaces)}`, () => {
	let space: ReturnType<typeof makeNamespace>;
	beforeAll(() => {
		space = makeNamespace();
		space.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1");
		space.ip("link", "set", "v0", "up");
		space.ip("link", "set", "v1", "up");
	});
	afterAll(() => space.remove());

	describe.each(["v2", "v3", "none"] as const)("packet sockets with ring %s", (ring) => {
		linkCompliance(`AF_PACKET ${ring}`, {
			describe,
			test,
			reliable: false,
			setup: async () => ({
				near: await openLink(`packet:v0?netns=${space.name}&ring=${ring}`),
				far: await openPacket({ interface: "v1", netns: space.name, ring }),
			}),
		});
	});

	linkCompliance("TAP against a packet socket on it", {
		describe,
		test,
		reliable: false,
		setup: async () => {
			const name = `tap${serial++}`;
			const near = await openLink(`tap:${name}?netns=${space.name}`);
			return { near, far: await openPacket({ interface: name, netns: space.name }) };
		},
	});

	test("packet links without a ring keep VLAN tags too", async () => {
		const near = await openPacket({ interface: "v0", netns: space.name });
		const far = await openPacket({ interface: "v1", netns: space.name, ring: "none" });
		const got: Uint8Array[] = [];
		far.onFrame = (frame) => got.push(frame.slice());
		near.send(makePacket({ vlan: 7 }));
		near.send(makePacket());
		await until(() => got.length === 2);
		expect(got).toEqual([makePacket({ vlan: 7 }), makePacket()]);
		near.close();
		far.close();
	});

	test("packet links keep VLAN tags, filter in the kernel, and give packets in place to mapped channels", async () => {
		const near = await openPacket({ interface: "v0", netns: space.name });
		const far = await openPacket({
			interface: "v1",
			netns: space.name,
			filter: compileFilter("vlan 7 and udp port 53 or udp port 99"),
		});
		const channel = createChannel({ link: far, type: "mapped", localPort: 53 });
		const got: Uint8Array[] = [];
		channel.onPacket = (bytes) => got.push(bytes.slice());
		near.send(makePacket({ vlan: 8 }));
		near.send(makePacket({ dport: 54 }));
		near.send(makePacket({ vlan: 7, payload: new Uint8Array(40) }));
		await until(() => got.length > 0);
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(got).toEqual([makePacket({ vlan: 7, payload: new Uint8Array(40) })]);
		near.close();
		far.close();
		expect(got[0]!.length).toBe(86);
	});

	test("a kept view of a closed ring is stale, not fatal", async () => {
		const near = await openPacket({ interface: "v0", netns: space.name });
		const far = await openPacket({ interface: "v1", netns: space.name });
		let kept: Uint8Array | undefined;
		far.onFrame = (frame) => {
			kept = frame;
			far.close();
		};
		near.send(makePacket());
		await until(() => kept !== undefined);
		expect(kept!.every((byte) => byte === 0)).toBe(true);
		near.close();
	});

	const noPing = missing("ping");
	test.skipIf(noPing !== undefined).each(["tap", "tun"])(
		`the kernel's ping is answered over %s${because(noPing)}`,
		async (kind) => {
			const name = `p${kind}`;
			const link =
				kind === "tap"
					? await openTap({ name, netns: space.name, mtu: 1400 })
					: await openTun({ name, netns: space.name });
			expect(link.mtu).toBe(kind === "tap" ? 1400 : 1500);
			space.ip("address", "add", kind === "tap" ? "10.77.0.1/24" : "10.78.0.1/24", "dev", name);
			answerEcho(link, kind === "tap" ? "10.77.0.2" : "10.78.0.2");
			const ping = spawn("ip", [
				"netns",
				"exec",
				space.name,
				"ping",
				"-f",
				"-c",
				"2000",
				kind === "tap" ? "10.77.0.2" : "10.78.0.2",
			]);
			let output = "";
			ping.stdout.on("data", (data) => (output += data));
			await new Promise((resolve) => ping.once("close", resolve));
			expect(output).toMatch(/2000 packets transmitted, 2000 received, 0% packet loss/);
			link.close();
		},
	);

	const noIperf = missing("iperf3");
	test.skipIf(noIperf !== undefined)(
		`TCP through two TAPs and our switch, offloads on, off and mixed${because(noIperf)}`,
		async () => {
			const other = makeNamespace();
			try {
				for (const [first, second] of [
					["1", "1"],
					["0", "0"],
					["1", "0"],
				]) {
					const bridge = createSwitch({ now: () => performance.now() });
					bridge.add(await openLink(`tap:s0?netns=${space.name}&offload=${first}`));
					bridge.add(await openLink(`tap:s1?netns=${other.name}&offload=${second}`));
					space.ip("address", "add", "10.79.0.1/24", "dev", "s0");
					other.ip("address", "add", "10.79.0.2/24", "dev", "s1");
					const server = spawn("ip", ["netns", "exec", other.name, "iperf3", "-s", "-1", "--forceflush"], {
						stdio: ["ignore", "pipe", "ignore"],
					});
					await new Promise((resolve) => server.stdout.once("data", resolve));
					const client = spawn("ip", ["netns", "exec", space.name, "iperf3", "-c", "10.79.0.2", "-n", "20M", "-J"]);
					let output = "";
					client.stdout.on("data", (data) => (output += data));
					await new Promise((resolve) => client.once("close", resolve));
					server.kill();
					const result = JSON.parse(output) as { end: { sum_received: { bytes: number } } };
					expect(result.end.sum_received.bytes).toBeGreaterThan(10_000_000);
					bridge.close();
				}
			} finally {
				other.remove();
			}
		},
	);

	test("several queues of one interface are links of their own", async () => {
		const links = await Promise.all([1, 2].map(() => openTap({ name: "mq0", netns: space.name, multiQueue: true })));
		await expect(openTap({ name: "mq0", netns: space.name })).rejects.toMatchObject({
			code: "ERR_LINK_IO",
			errnoName: "EINVAL",
		});
		for (const link of links) link.close();
	});

	test("a fan-out group shares an interface's flows", async () => {
		const near = await openPacket({ interface: "v0", netns: space.name });
		const fars: Link[] = [];
		for (let count = 0; count < 2; count++)
			fars.push(await openPacket({ interface: "v1", netns: space.name, fanOutGroup: 77 }));
		const got = [0, 0];
		for (const [index, far] of fars.entries()) far.onFrame = () => got[index]!++;
		for (let port = 0; port < 200; port++) near.send(makePacket({ sport: 1000 + port }));
		await until(() => got[0]! + got[1]! === 200);
		expect(Math.min(...got)).toBeGreaterThan(20);
		for (const link of [near, ...fars]) link.close();
	});

	test("says what is missing: interface, namespace, name", async () => {
		await expect(openPacket({ interface: "none0", netns: space.name })).rejects.toMatchObject({
			code: "ERR_LINK_NOT_FOUND",
			errnoName: "ENODEV",
		});
		await expect(openTap({ name: "t", netns: "no-such-space" })).rejects.toMatchObject({
			code: "ERR_LINK_NOT_FOUND",
			message: expect.stringContaining("no-such-space"),
		});
		await expect(openTap({ name: "a-name-too-long-for-linux" })).rejects.toMatchObject({ code: "ERR_LINK_OPTION" });
		await expect(openTap({ name: "t", netns: "../../etc" })).rejects.toMatchObject({ code: "ERR_LINK_OPTION" });
	});
});
