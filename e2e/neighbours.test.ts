import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSandbox, type Execution, type Sandbox } from "../packages/kvm-cli/src/index.ts";
import { openLink } from "../packages/netchannel/src/index.node.ts";
import { createLinkPair, createSwitch, type LearningSwitch } from "../packages/netchannel/src/index.ts";
import { createGateway, type Gateway } from "../packages/ustack/src/gateway/index.ts";
import { createNodeOutbound } from "../packages/ustack/src/node/index.node.ts";
import { bin, buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";
const BYTES = 1_000_000;

describe.skipIf(typeof image === "string")(`two sandboxes on one switch${because}`, () => {
	let folder: string;
	let wires: LearningSwitch;
	let gateway: Gateway;
	let vms: Sandbox[];
	/** What the second was leased. */
	let address: string;
	const said = async (vm: Sandbox, script: string): Promise<string> => {
		const { stdout, stderr } = await vm.exec(script, { cwd: "/tmp" }).output();
		return `${stdout}${stderr}`;
	};

	beforeAll(async () => {
		const { kernel, initrd } = image as Image;
		folder = mkdtempSync(join(tmpdir(), "xkvm-switch-"));
		wires = createSwitch({ now: () => performance.now() });
		// It leases addresses; the first sandbox has one of its own.
		gateway = createGateway({
			outbound: createNodeOutbound(),
			policy: { deny: ["*"] },
			// Nobody's card: the address is taken.
			fixed: { "02:00:00:00:00:01": "10.0.2.77" },
		});
		const [plug, end] = createLinkPair();
		wires.add(plug);
		gateway.attach(end);
		vms = await Promise.all(
			["10.0.2.77/24", undefined].map(async (own, i) => {
				const path = join(folder, `${i}.sock`);
				// Plugged in before the guest asks for its lease.
				const plugged = openLink(`qemu-listen:unix:${path}`).then((link) => wires.add(link));
				const vm = await createSandbox({
					image: { kernel, initrd },
					memoryMiB: 128,
					network: { link: `qemu:unix:${path}`, ...(own !== undefined && { address: own }) },
				});
				await plugged;
				return vm;
			}),
		);
	}, GUEST_TEST_MS);
	afterAll(async () => {
		await Promise.all(vms?.map((vm) => vm.close()) ?? []);
		gateway.close();
		wires.close();
		rmSync(folder, { recursive: true });
	});

	it("reach each other, and nothing else", { timeout: GUEST_TEST_MS }, async () => {
		const [one, two] = vms as [Sandbox, Sandbox];
		const leased = await said(two, "ip -4 -o addr show dev eth0; ip route; cat /etc/resolv.conf");
		expect(leased).toMatch(/inet 10\.0\.2\.\d+\/24/);
		address = /inet ([\d.]+)/.exec(leased)![1]!;
		expect(leased).toContain("default via 10.0.2.2");
		expect(leased).toContain("nameserver 10.0.2.");
		expect(await said(one, `ping -c 2 -W 60 ${address}`)).toContain("2 packets transmitted, 2 packets received");
		expect(await said(two, "ping -c 2 -W 60 10.0.2.77")).toContain("2 packets transmitted, 2 packets received");
		const bytes = randomBytes(BYTES);
		await two.files.write("/tmp/file", bytes);
		// It listens by the time it has gone to the background.
		expect((await two.exec("httpd -p 7777 -h /tmp").exit).code).toBe(0);
		const { stdout } = await one.exec(`wget -q -O - http://${address}:7777/file`).output();
		expect(stdout.equals(bytes)).toBe(true);
		// Nobody told it of a router, and there is no gateway's port to publish.
		expect(await said(one, "ping -c 1 -W 1 192.0.2.1")).toContain("Network is unreachable");
		await expect(one.publish(80)).rejects.toMatchObject({ code: "ERR_SANDBOX_NO_NETWORK" });
	});

	it("are joined by a third, which the command starts", { timeout: GUEST_TEST_MS }, async () => {
		const path = join(folder, "command.sock");
		const plugged = openLink(`qemu-listen:unix:${path}`);
		while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 20));
		wires.add(await plugged);
		const script = "ip -4 -o addr show dev eth0; ping -c 1 -W 60 10.0.2.77 >/dev/null && echo reached";
		const args = ["run", "--memory", "128", "--net", `qemu:unix:${path}`, "--", "sh", "-c", script];
		const child = spawn(process.execPath, [bin, ...args], { env });
		const [out, err]: [Buffer[], Buffer[]] = [[], []];
		child.stdout.on("data", (chunk) => out.push(chunk));
		child.stderr.on("data", (chunk) => err.push(chunk));
		expect(await new Promise((resolve) => child.on("close", resolve)), String(Buffer.concat(err))).toBe(0);
		expect(String(Buffer.concat(out))).toMatch(/inet 10\.0\.2\.(?!77\/)\d+\/24[\s\S]*\nreached\n$/);
	});

	it("do not hold up each other, whatever one of them does", { timeout: GUEST_TEST_MS }, async () => {
		const [hostile, other] = vms as [Sandbox, Sandbox];
		const before = process.memoryUsage().rss;
		// Everything on its card, to its neighbour and to nobody; on its serial console; and through its agent's port.
		const flood: Execution[] = [
			hostile.exec(`while :; do ping -q -A -s 1400 -w 1 ${address}; nc -w 1 ${address} 1 </dev/zero; done`),
			hostile.exec("while :; do cat /proc/kallsyms; done >/dev/ttyS0"),
			hostile.exec("while :; do dd if=/dev/zero bs=65536; done"),
		];
		let flooded = 0;
		await new Promise<void>((resolve) => {
			for (const { stdout, stderr } of flood) {
				stderr.resume();
				stdout.on("data", (chunk: Buffer) => {
					flooded += chunk.length;
					if (flooded > BYTES) resolve();
				});
			}
		});
		// Its devices' configuration space, with what comes: after that it may well not answer any more.
		flood.push(
			hostile.exec(
				"for d in /sys/bus/pci/devices/*; do while :; do head -c 256 /dev/urandom >$d/config; done & done; wait",
			),
		);
		flood[3]!.stderr.resume();
		const ended = Promise.all(flood.map(({ exit }) => exit.catch((error: { code: string }) => error.code)));
		for (let i = 0; i < 5; i++) {
			const bytes = randomBytes(20_000);
			expect((await other.exec(["cat"], { stdin: bytes }).output()).stdout.equals(bytes)).toBe(true);
		}
		expect(process.memoryUsage().rss - before).toBeLessThan(512 * 2 ** 20);
		await hostile.close();
		await ended;
		expect(await said(other, "echo still here")).toBe("still here\n");
		expect(await Promise.race([other.ended, "runs"])).toBe("runs");
	});

	it("end by themselves when their agent's port says what no agent says", { timeout: GUEST_TEST_MS }, async () => {
		const { kernel, initrd } = image as Image;
		// The port comes some time after its driver: a plain file in its place would say nothing.
		const script = [
			"mount -t devtmpfs d /dev; modprobe virtio_pci; modprobe virtio_console",
			"while [ ! -c /dev/vport0p0 ]; do sleep 0.1; done; cat /dev/urandom >/dev/vport0p0",
		].join("; ");
		const started = createSandbox({
			image: { kernel, initrd },
			memoryMiB: 128,
			append: `rdinit=/bin/sh -- -c "${script}"`,
		});
		await expect(started).rejects.toMatchObject({ code: "ERR_SANDBOX_PROTOCOL" });
		expect(await said(vms[1]!, "echo still here")).toBe("still here\n");
	});
});
