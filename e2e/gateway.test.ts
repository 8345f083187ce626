import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildImage, env, type Image } from "./support/images.ts";

/*
 * An unmodified QEMU with Debian's kernel and busybox behind `ustack gateway`, as the README shows it.
 */
const USTACK = fileURLToPath(new URL("../packages/ustack/bin/ustack.js", import.meta.url));
/** The suite has time for 20; the figure to show is 100. */
const MEGABYTES = Number(env["XKVM_GATEWAY_MB"] ?? 20);

function obstacle(): string | undefined {
	try {
		execFileSync("qemu-system-x86_64", ["--version"], { stdio: "ignore" });
	} catch {
		return "no qemu-system-x86_64";
	}
	return undefined;
}

const missing = obstacle();
const image = missing === undefined ? buildImage("default") : missing;
const ready = typeof image !== "string";
/** An address of this machine that a guest can name; a rule opens it. */
const OUTSIDE = Object.values(networkInterfaces())
	.flat()
	.find((entry) => entry?.family === "IPv4" && !entry.internal)?.address;

async function soon(done: () => boolean, what: () => string): Promise<void> {
	for (let i = 0; !done(); i++) {
		if (i > 3_000) throw new Error(`it did not come about: ${what()}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

/** Linux's shell on a serial line. */
class Guest {
	private text = "";
	private serial = 0;
	private readonly qemu: ChildProcessWithoutNullStreams;

	constructor(qemu: ChildProcessWithoutNullStreams) {
		this.qemu = qemu;
		qemu.stdout.on("data", (chunk) => {
			this.text += chunk;
		});
	}

	async until(pattern: RegExp, timeoutMs = 120_000): Promise<RegExpExecArray> {
		const end = performance.now() + timeoutMs;
		for (;;) {
			const match = pattern.exec(this.text);
			if (match !== null) {
				this.text = this.text.slice(match.index + match[0].length);
				return match;
			}
			if (performance.now() > end || this.qemu.exitCode !== null)
				throw new Error(`the guest did not say ${pattern}; it said: ${this.text.slice(-2_000)}`);
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
	}

	/** Runs a line; what it printed and its exit code. */
	async run(line: string, timeoutMs?: number): Promise<{ code: number; out: string }> {
		const mark = `mark${++this.serial}`;
		this.qemu.stdin.write(`echo begin${mark}; {\n${line}\n} </dev/null; echo end${mark} $?\n`);
		const match = await this.until(new RegExp(`begin${mark}\\r\\n([\\s\\S]*?)end${mark} (\\d+)\\r\\n`), timeoutMs);
		return { code: Number(match[2]), out: match[1]!.replaceAll("\r", "") };
	}
}

describe.skipIf(!ready)(`QEMU behind the gateway${ready ? "" : ` [${image}]`}`, () => {
	let folder: string;
	let gateway: ChildProcessWithoutNullStreams;
	let qemu: ChildProcessWithoutNullStreams;
	let guest: Guest;
	let said = "";
	let published: number;
	let webPort: number;
	const block = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8) * 13) & 255));
	const digestOf = (megabytes: number) => {
		const digest = createHash("sha256");
		for (let i = 0; i < megabytes; i++) digest.update(block);
		return digest.digest("hex");
	};
	const asked: string[] = [];
	const web = http.createServer((request, response) => {
		// The path says how many megabytes.
		let left = Number(request.url!.slice(1));
		response.setHeader("content-length", left << 20);
		const more = () => {
			while (left-- > 0)
				if (!response.write(block)) {
					response.once("drain", more);
					return;
				}
			response.end();
		};
		more();
	});
	const resolver = createSocket("udp4");
	const audit = () =>
		readFileSync(join(folder, "audit"), "utf8")
			.split("\n")
			.slice(0, -1)
			.map((line) => JSON.parse(line) as Record<string, unknown>);

	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), "ustack-qemu-"));
		web.listen(0, "0.0.0.0");
		await once(web, "listening");
		webPort = (web.address() as net.AddressInfo).port;
		// An upstream resolver that knows one name.
		resolver.on("message", (query, from) => {
			const name: string[] = [];
			let at = 12;
			for (; query[at] !== 0; at += query[at]! + 1) name.push(query.subarray(at + 1, at + 1 + query[at]!).toString());
			asked.push(name.join("."));
			const question = query.subarray(12, at + 5);
			const isA = query.readUInt16BE(at + 1) === 1;
			const known = name.join(".") === "files.test" && OUTSIDE !== undefined;
			const head = Buffer.from([
				query[0]!,
				query[1]!,
				0x81,
				known ? 0x80 : 0x83,
				0,
				1,
				0,
				known && isA ? 1 : 0,
				0,
				0,
				0,
				0,
			]);
			const answer = Buffer.from([
				0xc0,
				12,
				0,
				1,
				0,
				1,
				0,
				0,
				0,
				60,
				0,
				4,
				...(OUTSIDE ?? "0.0.0.0").split(".").map(Number),
			]);
			resolver.send(Buffer.concat([head, question, ...(known && isA ? [answer] : [])]), from.port, from.address);
		});
		resolver.bind(0, "127.0.0.1");
		await once(resolver, "listening");
		const socket = join(folder, "vm.sock");
		const args = ["gateway", "--link", `qemu-listen:unix:${socket}`, "--audit", join(folder, "audit")];
		args.push("--publish", "0:8080", "--dns", `127.0.0.1:${resolver.address().port}`);
		args.push("--expose", `8000:127.0.0.1:${webPort}`, "--allow", "files.test");
		if (OUTSIDE !== undefined) args.push("--allow", `tcp:${OUTSIDE}:${webPort}`);
		gateway = spawn(process.execPath, [USTACK, ...args]);
		gateway.stderr.on("data", (chunk) => {
			said += chunk;
		});
		await soon(
			() => /published 127\.0\.0\.1:(\d+)/.test(said) && existsSync(socket),
			() => said,
		);
		published = Number(/published 127\.0\.0\.1:(\d+)/.exec(said)![1]);
		const { kernel, initrd } = image as Image;
		qemu = spawn("qemu-system-x86_64", [
			...["-accel", "tcg", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"],
			...["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1", "-no-reboot"],
			...["-serial", "stdio", "-netdev", `stream,id=n,addr.type=unix,addr.path=${socket},server=off`],
			...["-device", "virtio-net-pci,netdev=n,mac=52:54:00:12:34:56,romfile="],
		]);
		qemu.stdin.on("error", () => undefined);
		qemu.stderr.on("data", (chunk) => {
			said += chunk;
		});
		guest = new Guest(qemu);
		await guest.until(/~ # /, 280_000);
		// No echo, no prompts, no line editing from here on.
		qemu.stdin.write("stty -echo; exec sh /dev/ttyS0\n");
		const modules = "/lib/modules/*/kernel";
		for (const name of ["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"])
			await guest.run(`insmod ${modules}/${name}.ko`);
		const { out } = await guest.run("ip link set lo up; ip link set eth0 up && echo up; dmesg | tail -3");
		if (!out.includes("up")) throw new Error(`the guest has no network: ${out}`);
	});

	afterAll(async () => {
		for (const child of [qemu, gateway]) {
			if (child === undefined || child.exitCode !== null) continue;
			child.kill("SIGTERM");
			const late = setTimeout(() => child.kill("SIGKILL"), 5_000);
			await once(child, "close");
			clearTimeout(late);
		}
		web.closeAllConnections();
		web.close();
		resolver.close();
		rmSync(folder, { recursive: true, force: true });
	});

	it("has an address by DHCP and one by SLAAC", async () => {
		const script = [
			"#!/bin/sh",
			'[ "$1" = bound ] || exit 0',
			"ip addr add $ip/$mask dev $interface",
			"ip route add default via $router",
			'echo "nameserver $dns" > /etc/resolv.conf',
		].join("\\n");
		await guest.run(`printf '${script}\\n' > /tmp/dhcp && chmod +x /tmp/dhcp`);
		const { code, out } = await guest.run("udhcpc -i eth0 -n -q -f -s /tmp/dhcp 2>&1");
		expect(out).toMatch(/lease of 10\.0\.2\.\d+ obtained/);
		expect(code).toBe(0);
		await expect
			.poll(async () => (await guest.run("ip -6 addr show dev eth0")).out, { timeout: 20_000, interval: 500 })
			.toMatch(/fd00:2::5054:ff:fe12:3456\/64 scope global/);
		await expect.poll(() => said).toMatch(/leased 10\.0\.2\.\d+ 52:54:00:12:34:56/);
	});

	it("resolves the gateway's names and upstream's, and no other leaves", async () => {
		expect((await guest.run("nslookup gateway.internal")).out).toContain("10.0.2.2");
		if (OUTSIDE !== undefined) expect((await guest.run("nslookup files.test")).out).toContain(OUTSIDE);
		expect((await guest.run("nslookup secrets.evil.test")).code).not.toBe(0);
		expect(asked).not.toContain("secrets.evil.test");
		expect(audit().some(({ protocol, destination }) => protocol === "dns" && destination === "secrets.evil.test")).toBe(
			true,
		);
	});

	it(`gets ${MEGABYTES} MB, every byte right`, async () => {
		const base = OUTSIDE === undefined ? "http://gateway.internal:8000" : `http://files.test:${webPort}`;
		const { out } = await guest.run(`wget -q -O - ${base}/${MEGABYTES} | sha256sum`, 280_000);
		expect(out).toContain(digestOf(MEGABYTES));
		await expect
			.poll(() => audit().some(({ action, bytesIn }) => action === "close" && Number(bytesIn) > MEGABYTES << 20))
			.toBe(true);
		// And from the one service of this host that the gateway exposes.
		const exposed = await guest.run("wget -q -O - http://gateway.internal:8000/1 | sha256sum");
		expect(exposed.out).toContain(digestOf(1));
	});

	it("is reached at a published port", async () => {
		await guest.run("(nc -ll -p 8080 -e sh -c 'read line; echo got $line') >/dev/null 2>&1 &");
		const ask = async (): Promise<string> => {
			const socket = net.connect(published, "127.0.0.1");
			socket.on("error", () => undefined);
			socket.write("hello\n");
			const chunks: Buffer[] = [];
			for await (const chunk of socket) chunks.push(chunk as Buffer);
			return Buffer.concat(chunks).toString();
		};
		await expect.poll(() => ask().catch(() => ""), { timeout: 20_000, interval: 200 }).toBe("got hello\n");
	});

	it("is refused what is denied within 100 ms, with a line in the audit", async () => {
		/** Milliseconds that a refused connection takes, the quickest of five. */
		const refusal = async (host: string, port: number): Promise<number> => {
			const line = `read a b < /proc/uptime; nc -w 5 ${host} ${port}; code=$?; read c d < /proc/uptime; echo $code $a $c`;
			const times: number[] = [];
			for (let i = 0; i < 5; i++) {
				const { out } = await guest.run(line);
				const [code, from, to] = out.trim().split("\n").at(-1)!.split(" ").map(Number);
				expect(code).toBe(1);
				times.push((to! - from!) * 1000);
			}
			return Math.min(...times);
		};
		// What the guest's own kernel refuses takes the program's start alone, which an emulated processor is slow at.
		const start = await refusal("127.0.0.1", 9);
		expect((await refusal("198.51.100.1", 443)) - start).toBeLessThan(100);
		const denials = audit().filter(({ destination }) => destination === "198.51.100.1:443");
		expect(denials).toHaveLength(5);
		expect(denials[0]).toMatchObject({
			schemaVersion: 1,
			action: "deny",
			protocol: "tcp",
			guest: "52:54:00:12:34:56",
			reason: "default",
		});
	});
});
