import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openLink } from "@x/netchannel/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGateway, createHost, DhcpClient, DnsClient, type Gateway, type Host } from "../src/index.ts";
import { createNet, createNodeOutbound } from "../src/node/index.node.ts";
import { pattern } from "./world.ts";

const run = promisify(execFile);
const NETNS = `ustack-test-${process.pid}`;
const IN = (...args: string[]) =>
	run("ip", ["netns", "exec", NETNS, ...args], { encoding: "buffer", maxBuffer: 256 << 20, timeout: 50_000 });

function has(program: string): boolean {
	try {
		execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
}

/** Why the kernel cannot be reached from here; undefined when it can. */
async function obstacle(): Promise<string | undefined> {
	if (process.platform !== "linux") return "not Linux";
	if (process.getuid?.() !== 0) return "not root";
	if (!has("ip")) return "no ip (iproute2)";
	try {
		execFileSync("ip", ["netns", "add", NETNS], { stdio: "ignore" });
	} catch {
		return "no network namespaces";
	}
	try {
		const link = await openLink(`tap:utest?netns=${NETNS}`);
		link.close();
		return undefined;
	} catch (error) {
		execFileSync("ip", ["netns", "del", NETNS], { stdio: "ignore" });
		return `no TAP: ${(error as Error).message}`;
	}
}

const reason = await obstacle();
const data = pattern(20_000_000);
const sha = createHash("sha256").update(data).digest("hex");

afterAll(() => {
	if (reason === undefined) execFileSync("ip", ["netns", "del", NETNS], { stdio: "ignore" });
});

describe.skipIf(reason !== undefined)(
	`the kernel over TAP${reason === undefined ? "" : ` (skipped: ${reason})`}`,
	() => {
		let host: Host;
		let folder: string;

		beforeAll(async () => {
			folder = mkdtempSync(join(tmpdir(), "ustack-"));
			const link = await openLink(`tap:utap0?netns=${NETNS}`);
			host = createHost();
			host.attach(link, { addresses: ["10.77.0.2/24", "fd77::2/64"] });
			for (const line of [
				"link set lo up",
				"addr add 10.77.0.1/24 dev utap0",
				"addr add fd77::1/64 dev utap0 nodad",
				"link set utap0 up",
			]) {
				execFileSync("ip", ["-n", NETNS, ...line.split(" ")]);
			}
			const web = http.createServer((request, response) => {
				if (request.method === "PUT") {
					const hash = createHash("sha256");
					request.on("data", (chunk: Buffer) => hash.update(chunk));
					request.on("end", () => response.end(hash.digest("hex")));
				} else response.end(data);
			});
			const server = createNet(host).createServer((socket) => web.emit("connection", socket));
			server.listen(80);
			await once(server, "listening");
			createNet(host)
				.createServer({ allowHalfOpen: true }, (socket) => {
					const hash = createHash("sha256");
					socket.on("data", (chunk: Buffer) => hash.update(chunk));
					socket.on("end", () => socket.end(`${hash.digest("hex")}\n`));
				})
				.listen(7000);
		});

		afterAll(() => {
			host?.close();
			rmSync(folder, { recursive: true, force: true });
		});

		test.skipIf(!has("ping")).each(["10.77.0.2", "fd77::2"])(
			"ping %s, small, flooding and in fragments",
			async (to) => {
				const { stdout } = await IN("ping", "-f", "-q", "-c", "2000", to);
				expect(String(stdout)).toMatch(/2000 received, 0% packet loss/);
				const large = await IN("ping", "-q", "-c", "3", "-i", "0.2", "-s", "20000", to);
				expect(String(large.stdout)).toMatch(/3 received, 0% packet loss/);
			},
		);

		test.skipIf(!has("curl")).each(["10.77.0.2", "[fd77::2]"])(
			"curl gets 20 MB from and puts 20 MB to %s",
			async (to) => {
				const { stdout } = await IN("curl", "-sf", `http://${to}/`);
				expect(createHash("sha256").update(stdout).digest("hex")).toBe(sha);
				const file = join(folder, "put");
				writeFileSync(file, data);
				expect(String((await IN("curl", "-sf", "-T", file, `http://${to}/x`)).stdout)).toBe(sha);
			},
		);

		test.skipIf(!has("wget"))("wget", async () => {
			expect(
				createHash("sha256")
					.update((await IN("wget", "-qO-", "http://10.77.0.2/")).stdout)
					.digest("hex"),
			).toBe(sha);
		});

		test.skipIf(!has("nc"))("nc: the answer comes after our half-close", async () => {
			const child = spawn("ip", ["netns", "exec", NETNS, "nc", "-N", "10.77.0.2", "7000"]);
			let text = "";
			child.stdout.on("data", (chunk) => {
				text += chunk;
			});
			child.stdin.end(data);
			await once(child, "close");
			expect(text).toBe(`${sha}\n`);
		});

		test.skipIf(!has("nmap"))("nmap sees open and closed ports by the reset rules", async () => {
			for (const scan of ["-sS", "-sA", "-sX"]) {
				const { stdout } = await IN("nmap", "-n", "-Pn", scan, "-p", "80,81", "10.77.0.2");
				const text = String(stdout);
				if (scan === "-sS") {
					expect(text).toMatch(/80\/tcp\s+open/);
					expect(text).toMatch(/81\/tcp\s+closed/);
				} else if (scan === "-sA") {
					expect(text).toMatch(/unfiltered/);
				} else {
					expect(text).toMatch(/80\/tcp\s+open\|filtered/);
					expect(text).toMatch(/81\/tcp\s+closed/);
				}
			}
		});

		test.each(["10.77.0.1", "fd77::1"])("as a client of a kernel server, %s", async (to) => {
			const child = spawn("ip", [
				"netns",
				"exec",
				NETNS,
				process.execPath,
				"-e",
				`require("net").createServer({allowHalfOpen:true},s=>{const h=require("crypto").createHash("sha256");s.on("data",d=>h.update(d));s.on("end",()=>s.end(h.digest("hex")))}).listen(9100,"::",()=>console.log("up"))`,
			]);
			await once(child.stdout, "data");
			const socket = createNet(host).connect({ host: to, port: 9100, allowHalfOpen: true });
			socket.end(data);
			let text = "";
			for await (const chunk of socket) text += chunk;
			child.kill();
			expect(text).toBe(sha);
		});

		test.skipIf(!has("dnsmasq"))("dnsmasq configures our DHCP client and answers our resolver", async () => {
			const link = await openLink(`tap:utap1?netns=${NETNS}`);
			const client = createHost();
			const iface = client.attach(link);
			execFileSync("ip", ["-n", NETNS, "addr", "add", "10.78.0.1/24", "dev", "utap1"]);
			execFileSync("ip", ["-n", NETNS, "link", "set", "utap1", "up"]);
			const server = spawn("ip", [
				"netns",
				"exec",
				NETNS,
				"dnsmasq",
				"-d",
				"--no-resolv",
				"--no-hosts",
				"--bind-interfaces",
				"--interface=utap1",
				"--dhcp-range=10.78.0.50,10.78.0.60,1h",
				"--dhcp-leasefile=/dev/null",
				"--address=/web.test/10.78.0.9",
				"--user=root",
				"--pid-file=",
			]);
			try {
				const configuration = await new Promise<DhcpClient["configuration"]>(
					(resolve) => new DhcpClient(client.udp, iface, { hostName: "ustack", onChange: resolve }),
				);
				expect(configuration!.address.toString()).toMatch(/^10\.78\.0\.5\d\/24$|^10\.78\.0\.60\/24$/);
				client.lookup = new DnsClient(client, { servers: configuration!.dns }).lookup;
				expect((await client.resolve("web.test", 4)).map(String)).toEqual(["10.78.0.9"]);
				await expect(client.resolve("nowhere.test", 4)).rejects.toMatchObject({ code: /ENOTFOUND|EAI_AGAIN/ });
			} finally {
				server.kill();
				client.close();
			}
		});

		describe("behind the gateway", () => {
			let gateway: Gateway;
			let port: number;
			const outside = createServer((socket) => {
				socket.on("error", () => undefined);
				socket.end(data);
			});

			beforeAll(async () => {
				outside.listen(0, "127.0.0.1");
				await once(outside, "listening");
				port = (outside.address() as { port: number }).port;
				gateway = createGateway({ outbound: createNodeOutbound(), network: "10.79.0.2/24", network6: "fd79::2/64" });
				gateway.attach(await openLink(`tap:utap2?netns=${NETNS}`));
				gateway.expose({ port: 8000, address: "127.0.0.1", hostPort: port });
				execFileSync("ip", ["-n", NETNS, "link", "set", "utap2", "up"]);
			});

			afterAll(() => {
				gateway?.close();
				outside.close();
			});

			test("the kernel configures itself from our advertisements", async () => {
				await expect
					.poll(() => execFileSync("ip", ["-n", NETNS, "-6", "addr", "show", "dev", "utap2"]).toString(), {
						timeout: 8_000,
						interval: 200,
					})
					.toMatch(/fd79::[0-9a-f:]+\/64 scope global/);
				expect(execFileSync("ip", ["-n", NETNS, "-6", "route"]).toString()).toMatch(
					/default via fe80::[0-9a-f:]+ dev utap2 proto ra/,
				);
			});

			test.skipIf(!has("busybox"))("udhcpc gets a lease", async () => {
				const { stdout, stderr } = await IN("busybox", "udhcpc", "-i", "utap2", "-n", "-q", "-f", "-s", "/bin/true");
				expect(`${stdout}${stderr}`).toMatch(/lease of 10\.79\.0\.\d+ obtained/);
				expect(gateway.leases()).toHaveLength(1);
			});

			test.skipIf(!has("nc"))("bytes come from outside, whole; a denied address is refused at once", async () => {
				execFileSync("ip", ["-n", NETNS, "addr", "add", "10.79.0.15/24", "dev", "utap2"]);
				const { stdout } = await IN("nc", "-d", "10.79.0.2", "8000");
				expect(createHash("sha256").update(stdout).digest("hex")).toBe(sha);
				execFileSync("ip", ["-n", NETNS, "route", "add", "192.168.99.0/24", "via", "10.79.0.2"]);
				const start = performance.now();
				await expect(IN("nc", "-w", "5", "192.168.99.1", "80")).rejects.toThrow();
				expect(performance.now() - start).toBeLessThan(2_000);
			});
		});
	},
);
