import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { transformSync } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSandbox, type Sandbox } from "../packages/kvm-cli/src/index.ts";
import type { AuditEvent } from "../packages/ustack/src/gateway/index.ts";
import { bin, buildImage, env, type Image } from "./support/images.ts";

const MIB = Number(env["XKVM_NET_MIB"] ?? 1);
const KEPT_ALIVE = Number(env["XKVM_NET_REQUESTS"] ?? 200);
const LOAD_SECONDS = Number(env["XKVM_NET_LOAD_SECONDS"] ?? 0);
const SECRET = `the-secret-${randomBytes(12).toString("hex")}`;
const SHA = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";
/** The one address by which a guest can name this host, when a rule says so. */
const own = Object.values(networkInterfaces())
	.flat()
	.find((entry) => entry !== undefined && entry.family === "IPv4" && !entry.internal)?.address;

/** Text, for busybox posts no zeros. */
const content = Buffer.from(
	randomBytes(MIB * 2 ** 20)
		.toString("base64")
		.slice(0, MIB * 2 ** 20),
);
const uploads: string[] = [];
const authorizations: (string | undefined)[] = [];
const server = createServer((incoming, response) => {
	const chunks: Buffer[] = [];
	incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
	incoming.on("end", () => {
		if (incoming.method === "POST") uploads.push(SHA(Buffer.concat(chunks)));
		if (incoming.url === "/token") {
			authorizations.push(incoming.headers.authorization);
			response.end(`you said ${incoming.headers.authorization}\n`);
		} else if (incoming.url === "/page") response.end("the page\n");
		else response.end(incoming.method === "POST" ? "" : content);
	});
});
/** Answers every question for an address with one that no outside name may have, but for one name. */
const resolver = createSocket("udp4");
beforeAll(async () => {
	await new Promise<void>((resolve) => server.listen(0, "::", resolve));
	resolver.on("message", (question, from) => {
		const isApi = question.includes("\x03api\x04test");
		const isV4 = question.readUInt16BE(question.indexOf(0, 12) + 1) === 1;
		const address = isApi && own !== undefined ? own.split(".").map(Number) : [10, 1, 2, 3];
		const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address]);
		const end = question.indexOf(0, 12) + 5;
		const answer = Buffer.concat([question.subarray(0, end), isV4 ? record : Buffer.alloc(0)]);
		answer.writeUInt16BE(0x8180, 2);
		answer.writeUInt16BE(isV4 ? 1 : 0, 6);
		answer.writeUInt32BE(0, 8);
		resolver.send(answer, from.port, from.address);
	});
	await new Promise<void>((resolve) => resolver.bind(0, "127.0.0.1", resolve));
});
afterAll(() => {
	server.close();
	server.closeAllConnections();
	resolver.close();
});

/** The peer that loads a published port; a client of Node's stands in for it. */
const hasWrk = spawnSync("wrk", ["-v"]).error === undefined;

async function output(program: string, args: readonly string[]): Promise<string> {
	const child = spawn(program, args);
	let text = "";
	for (const stream of [child.stdout, child.stderr]) {
		stream.on("data", (chunk) => {
			text += String(chunk);
		});
	}
	await new Promise((resolve) => child.on("close", resolve));
	return text;
}

function get(port: number, path: string): Promise<string> {
	return new Promise((resolve, reject) => {
		request({ port, path, host: "127.0.0.1", agent: false }, (response) => {
			let text = "";
			response.on("data", (chunk) => {
				text += String(chunk);
			});
			response.on("end", () =>
				response.statusCode === 200 ? resolve(text) : reject(new Error(`${response.statusCode}`)),
			);
		})
			.on("error", reject)
			.end();
	});
}

describe.skipIf(typeof image === "string")(`a sandbox's network${because}`, () => {
	let vm: Sandbox;
	let port: number;
	const audit: AuditEvent[] = [];
	const said = async (script: string): Promise<string> => {
		const { stdout, stderr } = await vm.exec(script, { cwd: "/tmp" }).output();
		return `${stdout}${stderr}`;
	};
	beforeAll(async () => {
		const { kernel, initrd } = image as Image;
		({ port } = server.address() as AddressInfo);
		vm = await createSandbox({
			image: { kernel, initrd },
			memoryMiB: MIB > 1 ? 256 + 2 * MIB : 256,
			network: {
				expose: [
					{ port: 8080, hostPort: port },
					{ port: 8086, address: "::1", hostPort: port },
				],
				allow: ["rebound.test", `api.test:${port}`, ...(own === undefined ? [] : [`${own}:${port}`])],
				secrets: [{ name: "TOKEN", value: SECRET, hosts: ["api.test"], plainHttp: true }],
				dnsServers: [`127.0.0.1:${resolver.address().port}`],
				onAudit: (event) => audit.push(event),
			},
		});
	});
	afterAll(async () => {
		await vm?.close();
	});

	it.each([
		["IPv4", "10.0.2.2:8080"],
		["IPv6", "[fd00:2::2]:8086"],
	])(`carries ${MIB} MiB both ways over %s unharmed`, async (_, host) => {
		uploads.length = 0;
		const text = await said(
			`wget -q -O file http://${host}/ && sha256sum file | cut -c 1-64 && wget -q -O /dev/null --post-file=file http://${host}/ && echo sent; rm -f file`,
		);
		expect(text).toBe(`${SHA(content)}\nsent\n`);
		expect(uploads).toEqual([SHA(content)]);
	});

	it(`answers ${KEPT_ALIVE} requests on one connection`, async () => {
		const text = await said(
			`i=0; { while [ $i -lt ${KEPT_ALIVE - 1} ]; do printf 'GET /page HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'; i=$((i+1)); done; printf 'GET /page HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n'; } | nc 10.0.2.2 8080 | grep -c 'the page'`,
		);
		expect(text).toBe(`${KEPT_ALIVE}\n`);
	});

	it("publishes a port, which holds under load", async () => {
		await vm.files.makeFolder("/srv");
		await vm.files.write("/srv/index.html", "served by the guest\n");
		const httpd = vm.exec("exec httpd -f -p 80 -h /srv");
		const published = await vm.publish(80);
		for (let tries = 0; ; tries++) {
			try {
				expect(await get(published.port, "/")).toBe("served by the guest\n");
				break;
			} catch (error) {
				if (tries > 100) throw error;
				await new Promise((resolve) => setTimeout(resolve, 100));
			}
		}
		if (LOAD_SECONDS > 0 && hasWrk) {
			const url = `http://127.0.0.1:${published.port}/`;
			const report = await output("wrk", ["-t", "1", "-c", "8", "-d", `${LOAD_SECONDS}s`, "--timeout", "30s", url]);
			process.stderr.write(report);
			// Only said when there were some: connect, read, write, timeout; and answers other than 2xx.
			expect(report).not.toMatch(/Socket errors|Non-2xx/);
			expect(Number(/(\d+) requests in/.exec(report)?.[1])).toBeGreaterThan(0);
		}
		let answers = 0;
		await Promise.all(
			Array.from({ length: 8 }, async () => {
				const end = Date.now() + (hasWrk ? 0 : LOAD_SECONDS * 1000);
				for (let i = 0; i < 10 || Date.now() < end; i++) {
					expect(await get(published.port, "/")).toBe("served by the guest\n");
					answers++;
				}
			}),
		);
		expect(answers).toBeGreaterThanOrEqual(80);
		await published.close();
		await expect(get(published.port, "/")).rejects.toThrow();
		httpd.kill();
		expect((await httpd.exit).signal).toBe("SIGTERM");
	});

	it("lets nothing out that no rule allows, by whatever way", async () => {
		audit.length = 0;
		const refused = async (script: string): Promise<void> =>
			expect([script, (await vm.exec(script).exit).code]).not.toEqual([script, 0]);
		await refused("timeout 20 wget -q -O - http://192.0.2.77/");
		await refused("timeout 20 wget -q -O - 'http://[2001:db8::1]/'");
		// The name is allowed; the address it has been bound to is not.
		await refused("timeout 20 wget -q -O - http://rebound.test/");
		await refused(`timeout 20 wget -q -O - http://10.1.2.3:${port}/page`);
		await refused("timeout 20 wget -q -O - http://127.0.0.1:8080/page");
		await refused("timeout 20 wget -q -O - http://not-allowed.test/");
		await said("timeout 3 tftp -g -r x 192.0.2.77 9999");
		// A question over TCP to a server of its own choice: the gateway answers instead, and refuses the name.
		await said(
			"printf '\\0\\035\\022\\064\\001\\0\\0\\001\\0\\0\\0\\0\\0\\0\\006denied\\004test\\0\\0\\001\\0\\001' | timeout 3 nc 192.0.2.53 53",
		);
		const allowed = audit.filter(({ action }) => action === "allow");
		expect(allowed.map(({ destination }) => destination)).toEqual([]);
		const denied = audit.filter(({ action }) => action === "deny");
		const refusals = denied.map(({ protocol, destination }) => `${protocol} ${destination}`);
		for (const refusal of ["udp 192.0.2.77", "2001:db8::1", "10.1.2.3", "dns denied.test", "dns not-allowed.test"]) {
			expect(refusals).toEqual(expect.arrayContaining([expect.stringContaining(refusal)]));
		}
	});

	it.skipIf(own === undefined)(
		`puts a secret in for its host only, and never into the guest${own === undefined ? " [this host has no address but loopback]" : ""}`,
		async () => {
			authorizations.length = 0;
			const text = await said(
				`echo $TOKEN; wget -q -O - --header "Authorization: Bearer $TOKEN" http://api.test:${port}/token`,
			);
			const [placeholder, answer] = text.split("\n");
			expect(placeholder).toMatch(/^xkvm-[0-9a-f]{24}$/);
			expect(authorizations).toEqual([`Bearer ${SECRET}`]);
			expect(answer).toBe(`you said Bearer ${placeholder}`);
			await said(`wget -q -O - --header "Authorization: Bearer $TOKEN" http://${own}:${port}/token`);
			expect(authorizations.filter((value) => value?.includes(SECRET))).toHaveLength(1);
			expect(await vm.memoryHolds(Buffer.from(SECRET))).toBe(false);
			expect(await vm.memoryHolds(Buffer.from(placeholder!))).toBe(true);
		},
	);
});

it.skipIf(typeof image === "string")(`the README's example does what it says${because}`, async () => {
	const readme = readFileSync(new URL("../packages/kvm-cli/README.md", import.meta.url), "utf8");
	const example = /^```ts\n([\s\S]*?)^```$/m.exec(readme)![1]!;
	const { port } = server.address() as AddressInfo;
	// As it stands, but for where the name in it leads: tests do not leave this machine.
	const given = 'import { createSandbox } from "@x/kvm-cli";\n';
	expect(example.startsWith(given)).toBe(true);
	const program = `import { createSandbox as create } from ${JSON.stringify(new URL("../packages/kvm-cli/dist/index.js", import.meta.url).href)};
		const createSandbox = ({ network, ...options }) => create({
			...options,
			network: { ...network, zones: { "example.org": ["10.0.2.2"] }, expose: [{ port: 80, hostPort: ${port} }] },
		});
		${example.slice(given.length)}
		console.log(JSON.stringify({ code, said: String(stdout) }));`;
	const { code: javascript } = transformSync(program, { loader: "ts", format: "esm", target: "es2022" });
	const child = spawn(process.execPath, ["--input-type=module", "--eval", javascript], { env });
	const out: Buffer[] = [];
	child.stdout.on("data", (chunk) => out.push(chunk));
	child.stderr.pipe(process.stderr);
	expect(await new Promise((resolve) => child.on("close", resolve))).toBe(0);
	expect(JSON.parse(Buffer.concat(out).toString())).toEqual({ code: 0, said: `2\n${content.length}\n` });
});

it.skipIf(typeof image === "string")(`xkvm run brings a page from power-on to the terminal${because}`, async () => {
	const { port } = server.address() as AddressInfo;
	const child = spawn(
		process.execPath,
		[
			...[bin, "run", "--expose", `80:127.0.0.1:${port}`, "--"],
			...["sh", "-c", "wget -qO- http://gateway.internal/page"],
		],
		{ env },
	);
	const out: Buffer[] = [];
	child.stdout.on("data", (chunk) => out.push(chunk));
	const code = await new Promise((resolve) => child.on("close", resolve));
	expect({ code, text: Buffer.concat(out).toString() }).toEqual({ code: 0, text: "the page\n" });
});
