import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
	chmodSync,
	createReadStream,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openLink } from "@x/netchannel/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHost, type Host, parseAddress } from "../src/index.ts";
import { createNet } from "../src/node/index.node.ts";
import { has, listening, Namespace, openNamespace, reachFrom, serveOn } from "./namespace.ts";
import { pattern } from "./world.ts";

/*
 * Our stack against the kernel's over TAP, by the programs people use, both ways round and in both families. INTEROP_MB
 * sets the size of the large transfers; 1024 is the full run.
 */
const run = promisify(execFile);
const MEGABYTES = Number(process.env["INTEROP_MB"] ?? 8);
const BLOCK = Buffer.from(pattern(1 << 20));
const TIMEOUT = 60_000 + MEGABYTES * 500;

function digestOf(blocks: number): string {
	const hash = createHash("sha256");
	for (let i = 0; i < blocks; i++) hash.update(BLOCK);
	return hash.digest("hex");
}

/** Sends the large body, waiting for the peer. */
function sendBlocks(to: {
	write(data: Buffer): boolean;
	end(): unknown;
	once(event: "drain", go: () => void): unknown;
}): void {
	let left = MEGABYTES;
	const more = () => {
		while (left > 0) {
			left--;
			if (!to.write(BLOCK) && left > 0) {
				to.once("drain", more);
				return;
			}
		}
		to.end();
	};
	more();
}

/** Reads to the end and leaves the other direction of a socket alone, which `for await` would not. */
function read(stream: NodeJS.ReadableStream, take: (chunk: Buffer) => void): Promise<void> {
	return new Promise((resolve, reject) => {
		stream.on("data", take).on("end", resolve).on("error", reject);
	});
}

async function digestOfStream(stream: NodeJS.ReadableStream): Promise<string> {
	const hash = createHash("sha256");
	await read(stream, (chunk) => hash.update(chunk));
	return hash.digest("hex");
}

/** A GET gives the large body, a PUT its digest. */
const WEB = (request: http.IncomingMessage, response: http.ServerResponse) => {
	if (request.method === "PUT") void digestOfStream(request).then((digest) => response.end(digest));
	else {
		response.setHeader("content-length", MEGABYTES << 20);
		sendBlocks(response);
	}
};

const namespace = await openNamespace();
const ready = namespace instanceof Namespace;
const space = namespace as Namespace;
const OURS = { v4: "10.77.0.2", v6: "fd77::2" };
const THEIRS = { v4: "10.77.0.1", v6: "fd77::1" };
const FAMILIES = ["v4", "v6"] as const;
const inUrl = (address: string) => (address.includes(":") ? `[${address}]` : address);

afterAll(() => {
	if (ready) space.close();
});

describe.skipIf(!ready)(`the kernel over TAP${ready ? "" : ` (skipped: ${namespace})`}`, () => {
	let host: Host;
	let folder: string;
	let large: string;
	const expected = digestOf(MEGABYTES);

	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), "ustack-"));
		host = createHost();
		host.attach(await openLink(`tap:utap0?netns=${space.name}`), {
			addresses: [`${OURS.v4}/24`, `${OURS.v6}/64`],
		});
		space.ip(`addr add ${THEIRS.v4}/24 dev utap0`);
		space.ip(`addr add ${THEIRS.v6}/64 dev utap0 nodad`);
		space.ip("link set utap0 up");
		const web = http.createServer(WEB);
		const server = createNet(host).createServer({ allowHalfOpen: true }, (socket) => web.emit("connection", socket));
		server.listen(80);
		createNet(host)
			.createServer({ allowHalfOpen: true }, (socket) => {
				void digestOfStream(socket).then((digest) => socket.end(`${digest}\n`));
			})
			.listen(7000);
		await once(server, "listening");
		large = join(folder, "large");
		writeFileSync(large, "");
		for (let i = 0; i < MEGABYTES; i++) writeFileSync(large, BLOCK, { flag: "a" });
	});

	afterAll(() => {
		host?.close();
		rmSync(folder, { recursive: true, force: true });
	});

	describe.each(FAMILIES)("%s, our stack as the server", (family) => {
		const to = OURS[family];

		test.skipIf(!has("ping"))("ping, flooding, and in fragments", async () => {
			const { stdout } = await space.run("ping", "-f", "-q", "-c", "2000", to);
			expect(String(stdout)).toMatch(/2000 received, 0% packet loss/);
			// One at a time: of a flood of these, ping's own socket buffer holds five.
			const fragments = await space.run("ping", "-A", "-q", "-c", "200", "-s", "20000", to);
			expect(String(fragments.stdout)).toMatch(/200 received, 0% packet loss/);
		});

		test.skipIf(!has("curl"))(
			"curl gets and puts",
			async () => {
				const url = `http://${inUrl(to)}/`;
				const file = join(folder, `got-${family}`);
				await space.run("curl", "-sSf", "-o", file, url);
				expect(await digestOfStream(createReadStream(file))).toBe(expected);
				rmSync(file);
				expect(String((await space.run("curl", "-sSf", "-T", large, `${url}x`)).stdout)).toBe(expected);
			},
			TIMEOUT,
		);

		test.skipIf(!has("wget"))(
			"wget",
			async () => {
				const file = join(folder, `wget-${family}`);
				await space.run("wget", "-qO", file, `http://${inUrl(to)}/`);
				expect(await digestOfStream(createReadStream(file))).toBe(expected);
				rmSync(file);
			},
			TIMEOUT,
		);

		test.skipIf(!has("nc"))(
			"nc: the answer comes after its half-close",
			async () => {
				const child = space.start("nc", "-N", to, "7000");
				createReadStream(large).pipe(child.stdin);
				let text = "";
				child.stdout.on("data", (chunk) => {
					text += chunk;
				});
				await once(child, "close");
				expect(text).toBe(`${expected}\n`);
			},
			TIMEOUT,
		);

		test.skipIf(!has("iperf3"))("iperf3 both ways", async () => {
			const port = 5201 + (family === "v6" ? 1 : 0);
			const server = spawn("iperf3", ["-s", "-B", "127.0.0.1", "-p", String(port), "--forceflush"]);
			await once(server.stdout, "data");
			serveOn(host, port, port);
			try {
				for (const reverse of [[], ["-R"]]) {
					const args = ["-c", to, "-p", String(port), "-t", "1", "-J", ...reverse];
					const { stdout } = await space.run("iperf3", ...args);
					const report = JSON.parse(String(stdout));
					expect(report.error).toBeUndefined();
					expect(report.end.sum_received.bytes).toBeGreaterThan(1 << 20);
				}
			} finally {
				server.kill();
			}
		});

		test.skipIf(!has("nmap"))("nmap's scans see open and closed ports by the reset rules", async () => {
			const six = family === "v6" ? ["-6"] : [];
			const scan = async (kind: string) => {
				const { stdout } = await space.run("nmap", ...six, "-n", "-Pn", "--max-retries", "3", kind, "-p", "80,81", to);
				return String(stdout);
			};
			// RFC 9293 3.10.7.1: closed answers anything but a reset with one; 3.10.7.2: listening resets an ACK alone.
			expect(await scan("-sS")).toMatch(/80\/tcp +open +[\s\S]*81\/tcp +closed /);
			const acked = await scan("-sA");
			expect(acked).toMatch(/unfiltered/);
			expect(acked).not.toMatch(/ filtered /);
			for (const kind of ["-sX", "-sF", "-sN"])
				expect(await scan(kind)).toMatch(/80\/tcp +open\|filtered [\s\S]*81\/tcp +closed /);
			expect(await scan("-sT")).toMatch(/80\/tcp +open +[\s\S]*81\/tcp +closed /);
		});

		test.skipIf(!has("sshd") || !has("scp"))(
			"ssh and scp",
			async () => {
				const ssh = await sshd(folder, undefined);
				serveOn(host, family === "v4" ? 22 : 23, ssh.port);
				try {
					const options = [...ssh.options, "-P", family === "v4" ? "22" : "23"];
					const there = join(folder, `scp-there-${family}`);
					const back = join(folder, `scp-back-${family}`);
					await space.run("scp", ...options, large, `root@${inUrl(to)}:${there}`);
					expect(await digestOfStream(createReadStream(there))).toBe(expected);
					await space.run("scp", ...options, `root@${inUrl(to)}:${there}`, back);
					expect(await digestOfStream(createReadStream(back))).toBe(expected);
					const port = ["-p", family === "v4" ? "22" : "23"];
					const { stdout } = await space.run("ssh", ...ssh.options, ...port, `root@${to}`, "echo", "from", "there");
					expect(String(stdout)).toBe("from there\n");
				} finally {
					ssh.close();
				}
			},
			TIMEOUT,
		);
	});

	test.skipIf(!has("nmap"))("nmap -O finds resets as RFC 9293 has them", async () => {
		const args = ["-n", "-Pn", "-O", "--max-os-tries", "1", "-d", "-p", "80,81", OURS.v4];
		const { stdout } = await space.run("nmap", ...args);
		const fingerprint = String(stdout).replaceAll("\nOS:", "");
		const line = (name: string) => new RegExp(`\\)${name}\\(([^)]*)\\)`).exec(fingerprint)?.[1];
		// An ACK to a listener and to nobody: a reset at the number it acknowledged, without an ACK of its own.
		for (const name of ["T4", "T6"]) expect(line(name)).toMatch(/^R=Y.*%S=A%A=Z%F=R%/);
		// A SYN, or FIN+PSH+URG, to nobody: a reset at zero that acknowledges what was sent.
		for (const name of ["T5", "T7"]) expect(line(name)).toMatch(/^R=Y.*%S=Z%A=S\+%F=AR%/);
		// Nothing at all to a listener: silence. A datagram to a closed port, and a ping with a code: answers.
		expect(line("T2")).toBe("R=N");
		expect(line("U1")).toMatch(/^R=Y/);
		expect(line("IE")).toMatch(/^R=Y/);
	});

	describe.each(FAMILIES)("%s, our stack as the client", (family) => {
		const to = THEIRS[family];
		const port = (base: number) => base + (family === "v6" ? 1 : 0);

		test("ping, and in fragments", async () => {
			const { stack } = host;
			const payload = Uint8Array.from(pattern(20_000));
			let replies = 0;
			let wrong = 0;
			const id = stack.icmp.openEcho(
				{
					onReply: (_packet, reply) => {
						replies++;
						if (Buffer.compare(reply.payload, payload.subarray(0, reply.payload.length)) !== 0) wrong++;
					},
					onError: () => wrong++,
				},
				family === "v4" ? 70 : 71,
			);
			for (let i = 0; i < 100; i++) {
				const size = i % 2 === 0 ? 56 : payload.length;
				stack.icmp.sendEcho(undefined, stack.path(parseAddress(to)!), id, i, payload.subarray(0, size), 0);
				host.driver.wake();
				await expect.poll(() => replies, { interval: 1, timeout: 10_000 }).toBe(i + 1);
			}
			stack.icmp.closeEcho(id);
			expect(wrong).toBe(0);
		});

		test(
			"HTTP, half-closes and refusals of a kernel server",
			async () => {
				const script = `
					const { createHash } = require("crypto");
					require("http").createServer((q, s) => {
						const h = createHash("sha256");
						if (q.method === "PUT") q.on("data", d => h.update(d)).on("end", () => s.end(h.digest("hex")));
						else require("fs").createReadStream(${JSON.stringify(large)}).pipe(s);
					}).listen(${port(8000)}, "::", () => require("net").createServer({ allowHalfOpen: true }, s => {
						const h = createHash("sha256");
						s.on("data", d => h.update(d)).on("end", () => s.end(h.digest("hex")));
					}).listen(${port(8100)}, "::", () => console.log("up")));`;
				const server = space.start(process.execPath, "-e", script);
				await once(server.stdout, "data");
				const tcp = createNet(host);
				const ask = (method: string): Promise<string> =>
					new Promise((resolve, reject) => {
						const request = http.request(
							{
								method,
								path: "/",
								headers: { host: "x" },
								createConnection: () => tcp.connect({ host: to, port: port(8000) }) as never,
							},
							(response) =>
								void (method === "PUT"
									? response.setEncoding("utf8").once("data", resolve)
									: digestOfStream(response).then(resolve, reject)),
						);
						request.on("error", reject);
						if (method === "PUT") createReadStream(large).pipe(request);
						else request.end();
					});
				expect(await ask("GET")).toBe(expected);
				expect(await ask("PUT")).toBe(expected);
				const socket = tcp.connect({ host: to, port: port(8100), allowHalfOpen: true });
				createReadStream(large).pipe(socket as never);
				let text = "";
				for await (const chunk of socket) text += chunk;
				expect(text).toBe(expected);
				const [error] = await once(tcp.connect({ host: to, port: 1 }), "error");
				expect(error.code).toBe("ECONNREFUSED");
				server.kill();
			},
			TIMEOUT,
		);

		test.skipIf(!has("curl"))(
			"curl and wget through our stack",
			async () => {
				const server = space.start(
					process.execPath,
					"-e",
					`require("http").createServer((q, s) => require("fs").createReadStream(${JSON.stringify(large)}).pipe(s)).listen(${port(8200)}, "::", () => console.log("up"))`,
				);
				await once(server.stdout, "data");
				const way = await reachFrom(host, to, port(8200));
				const file = join(folder, `through-${family}`);
				await run("curl", ["-sSf", "-o", file, `http://127.0.0.1:${way.port}/`]);
				expect(await digestOfStream(createReadStream(file))).toBe(expected);
				if (has("wget")) {
					await run("wget", ["-qO", file, `http://127.0.0.1:${way.port}/`]);
					expect(await digestOfStream(createReadStream(file))).toBe(expected);
				}
				rmSync(file);
				way.close();
				server.kill();
			},
			TIMEOUT,
		);

		test.skipIf(!has("nc"))(
			"nc listening: it has everything, and our side ends after its half-close",
			async () => {
				const child = space.start("nc", "-l", "-N", ...(family === "v6" ? ["-6"] : ["-4"]), String(port(8300)));
				const digest = digestOfStream(child.stdout);
				await listening(space, port(8300));
				const socket = createNet(host).connect({ host: to, port: port(8300), allowHalfOpen: true });
				child.stdin.end("from the kernel\n");
				let text = "";
				await read(socket, (chunk) => {
					text += chunk;
				});
				expect(text).toBe("from the kernel\n");
				// The kernel's side is half closed now; ours still sends.
				createReadStream(large).pipe(socket as never);
				expect(await digest).toBe(expected);
			},
			TIMEOUT,
		);

		test.skipIf(!has("iperf3"))("iperf3 both ways", async () => {
			const server = space.start("iperf3", "-s", "-p", String(port(5301)), "--forceflush");
			await once(server.stdout, "data");
			const way = await reachFrom(host, to, port(5301));
			for (const reverse of [[], ["-R"]]) {
				const args = ["-c", "127.0.0.1", "-p", String(way.port), "-t", "1", "-J", ...reverse];
				const report = JSON.parse((await run("iperf3", args, { maxBuffer: 64 << 20 })).stdout);
				expect(report.error).toBeUndefined();
				expect(report.end.sum_received.bytes).toBeGreaterThan(1 << 20);
			}
			way.close();
			server.kill();
		});

		test.skipIf(!has("sshd") || !has("scp"))(
			"ssh and scp",
			async () => {
				const ssh = await sshd(folder, space);
				const way = await reachFrom(host, to, ssh.port);
				try {
					const there = join(folder, `scp-there-client-${family}`);
					const back = join(folder, `scp-back-client-${family}`);
					const options = [...ssh.options, "-P", String(way.port)];
					await run("scp", [...options, large, `root@127.0.0.1:${there}`]);
					expect(await digestOfStream(createReadStream(there))).toBe(expected);
					await run("scp", [...options, `root@127.0.0.1:${there}`, back]);
					expect(await digestOfStream(createReadStream(back))).toBe(expected);
					const args = [...ssh.options, "-p", String(way.port), "root@127.0.0.1", "echo", "from", "there"];
					expect((await run("ssh", args)).stdout).toBe("from there\n");
				} finally {
					way.close();
					ssh.close();
				}
			},
			TIMEOUT,
		);
	});
});

interface Ssh {
	port: number;
	/** For ssh and scp alike. */
	options: string[];
	close(): void;
}

/** An OpenSSH server with keys of its own, in the namespace or on this machine's loopback. */
async function sshd(folder: string, inside: Namespace | undefined): Promise<Ssh> {
	const key = join(folder, "key");
	if (!existsSync(key)) {
		execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
		execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, "hostkey")]);
		writeFileSync(join(folder, "authorized"), readFileSync(`${key}.pub`));
		chmodSync(folder, 0o700);
	}
	mkdirSync("/run/sshd", { recursive: true });
	const probe = net.createServer().listen(0, "127.0.0.1");
	await once(probe, "listening");
	const { port } = probe.address() as net.AddressInfo;
	probe.close();
	await once(probe, "close");
	const settings = {
		HostKey: join(folder, "hostkey"),
		AuthorizedKeysFile: join(folder, "authorized"),
		PidFile: "none",
		PermitRootLogin: "yes",
		StrictModes: "no",
		UsePAM: "no",
		PasswordAuthentication: "no",
		Subsystem: "sftp internal-sftp",
		LogLevel: "ERROR",
	};
	const args = ["-f", "/dev/null", "-D", "-e", "-p", String(port)];
	for (const [name, value] of Object.entries(settings))
		args.push("-o", `${name}=${value}`.replace("Subsystem=", "Subsystem "));
	const server = inside === undefined ? spawn("/usr/sbin/sshd", args) : inside.start("/usr/sbin/sshd", ...args);
	for (let i = 0; ; i++) {
		const reached = await new Promise<boolean>((resolve) => {
			if (inside !== undefined) {
				listening(inside, port).then(
					() => resolve(true),
					() => resolve(false),
				);
				return;
			}
			const socket = net.connect(port, "127.0.0.1", () => {
				socket.destroy();
				resolve(true);
			});
			socket.on("error", () => resolve(false));
		});
		if (reached) break;
		if (i > 100) throw new Error("sshd does not listen");
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	const options = ["-i", key];
	for (const option of ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"])
		options.push("-o", option);
	return { port, options, close: () => void server.kill() };
}
