import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { StreamReplacer } from "../src/gateway/http/replace.ts";
import { SecretStore } from "../src/gateway/http/secrets.ts";
import {
	CertificateAuthority,
	createHttpInterceptor,
	createNet,
	type HttpInterceptorOptions,
	type Secret,
} from "../src/node/index.node.ts";
import { opened, outsideWith, type Setup, setup } from "./guest.ts";
import { pattern } from "./world.ts";

const SEED = 443;
const folder = mkdtempSync(join(tmpdir(), "ustack-http-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hasOpenssl = (() => {
	try {
		execFileSync("openssl", ["version"], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
})();

/** The authority of the world outside, which the gateway is told to trust. */
const world = new CertificateAuthority({ name: "the world" });

const PLACEHOLDER = "placeholder-of-the-token";
const VALUE = "s3cr3t/+value&with=marks";
const TOKEN: Secret = { name: "token", placeholder: PLACEHOLDER, value: VALUE, hosts: ["good.example"] };

interface Web extends Setup {
	/** What servers outside have seen. */
	seen: { method: string; url: string; headers: http.IncomingHttpHeaders; body: string }[];
	authority: CertificateAuthority;
	/** Asks as the guest; the authority is trusted unless `ca` says otherwise. */
	ask(url: string, options?: https.RequestOptions & { body?: string | Buffer; connectTo?: string }): Promise<Answer>;
}

interface Answer {
	status: number;
	headers: http.IncomingHttpHeaders;
	body: Buffer;
}

type Handler = (request: http.IncomingMessage, response: http.ServerResponse, body: string) => void;

async function web(
	options: HttpInterceptorOptions,
	handler: Handler = (_request, response) => response.end("hello"),
	policy?: { allow?: string[]; deny?: string[] },
	certified = ["good.example", "bad.example", "also-good.example"],
): Promise<Web> {
	const seen: Web["seen"] = [];
	const serve = (request: http.IncomingMessage, response: http.ServerResponse) => {
		const chunks: Buffer[] = [];
		request.on("data", (chunk: Buffer) => chunks.push(chunk));
		request.on("end", () => {
			const body = Buffer.concat(chunks).toString();
			seen.push({ method: request.method!, url: request.url!, headers: request.headers, body });
			handler(request, response, body);
		});
	};
	const plain = http.createServer(serve);
	const secure = https.createServer(
		{
			SNICallback: (name, done) =>
				done(null, world.contextFor(certified.includes(name) ? name : "someone-else.example")),
		},
		serve,
	);
	for (const server of [plain, secure]) {
		server.on("upgrade", (request: http.IncomingMessage, socket, head: Buffer) => {
			seen.push({ method: "UPGRADE", url: request.url!, headers: request.headers, body: "" });
			socket.on("error", () => undefined);
			socket.write(
				`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Echo: ${request.headers["x-token"] ?? ""}\r\n\r\n`,
			);
			socket.write(head);
			socket.pipe(socket);
		});
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		opened.push(() => {
			server.closeAllConnections();
			server.close();
		});
	}
	const portOf = (server: http.Server) => (server.address() as { port: number }).port;
	const interceptor = createHttpInterceptor({ serverAuthorities: [world.certificate], ...options });
	const made = await setup({
		interceptor,
		...(policy === undefined ? {} : { policy }),
		outbound: outsideWith({
			"192.0.2.10:80": portOf(plain),
			"192.0.2.10:443": portOf(secure),
			"192.0.2.66:443": portOf(secure),
		}),
	});
	const net = createNet(made.guest);
	return {
		...made,
		seen,
		authority: interceptor.authority,
		ask: (url, { body, connectTo, ...rest } = {}) =>
			new Promise((resolve, reject) => {
				const target = new URL(url);
				const port = target.protocol === "https:" ? 443 : 80;
				const request = (target.protocol === "https:" ? https : http).request(
					target,
					{
						defaultPort: port,
						createConnection: () => {
							const socket = net.connect({ host: connectTo ?? target.hostname, port });
							if (port === 80) return socket as never;
							socket.on("error", () => undefined);
							return tls.connect({
								socket: socket as never,
								servername: rest.servername ?? target.hostname,
								ca: interceptor.authority.certificate,
							});
						},
						...rest,
					},
					(response) => {
						const chunks: Buffer[] = [];
						response.on("data", (chunk: Buffer) => chunks.push(chunk));
						response.on("error", reject);
						response.on("end", () =>
							resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
						);
					},
				);
				request.on("error", reject);
				request.end(body);
			}),
	};
}

describe("the certificate authority", () => {
	test("makes certificates that node takes, for names and addresses", () => {
		const authority = new CertificateAuthority({ name: "of a test" });
		const root = new X509Certificate(authority.certificate);
		expect(root).toMatchObject({ ca: true, subject: "CN=of a test" });
		expect(root.verify(root.publicKey)).toBe(true);
		for (const host of ["a.example", "192.0.2.1", "2001:db8::1", `${"long.".repeat(20)}example`]) {
			const leaf = new X509Certificate(authority.issue(host).certificate);
			expect(leaf.checkIssued(root)).toBe(true);
			expect(leaf.verify(root.publicKey)).toBe(true);
			expect(leaf.ca).toBe(false);
			expect(/[:\d]$/.test(host) ? leaf.checkIP(host) : leaf.checkHost(host)).toBe(host);
		}
	});

	test.skipIf(!hasOpenssl)("and that openssl verifies, also of an authority kept from another run", () => {
		const first = new CertificateAuthority();
		const kept = new CertificateAuthority({ keys: first.export() });
		const root = join(folder, "root.pem");
		writeFileSync(root, kept.certificate);
		for (const [authority, host] of [
			[first, "a.example"],
			[kept, "b.example"],
			[kept, "192.0.2.7"],
		] as const) {
			const leaf = join(folder, "leaf.pem");
			writeFileSync(leaf, authority.issue(host).certificate);
			const check = /^\d/.test(host) ? "-verify_ip" : "-verify_hostname";
			const out = execFileSync("openssl", [
				"verify",
				"-x509_strict",
				"-purpose",
				"sslserver",
				check,
				host,
				"-CAfile",
				root,
				leaf,
			]);
			expect(String(out)).toContain(": OK");
		}
		expect(String(execFileSync("openssl", ["x509", "-in", root, "-noout", "-text"]))).toMatch(
			/CA:TRUE, pathlen:0[\s\S]*Certificate Sign, CRL Sign/,
		);
	});

	test("refuses keys that do not belong together", () => {
		const [a, b] = [new CertificateAuthority().export(), new CertificateAuthority().export()];
		expect(() => new CertificateAuthority({ keys: { key: a.key, certificate: b.certificate } })).toThrow(
			expect.objectContaining({ code: "ERR_BAD_OPTION" }),
		);
	});

	test("dates cross 2050 in the other form", () => {
		const authority = new CertificateAuthority({ now: () => new Date("2049-06-01T00:00:00Z") });
		expect(new X509Certificate(authority.certificate).validTo).toMatch(/2059/);
	});
});

describe("the stream replacer", () => {
	const encode = (text: string) => new TextEncoder().encode(text);
	/** The same over the whole text at once. */
	function plainly(text: string, pairs: readonly [string, string][]): string {
		let out = "";
		for (let at = 0; at < text.length; ) {
			const match = [...pairs].sort((x, y) => y[0].length - x[0].length).find(([find]) => text.startsWith(find, at));
			out += match === undefined ? text[at] : match[1];
			at += match?.[0].length ?? 1;
		}
		return out;
	}

	test("finds the same however the stream is cut, and holds back less than the longest", () => {
		const letters = (max: number) => fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: max });
		fc.assert(
			fc.property(
				fc.uniqueArray(letters(5), { minLength: 1, maxLength: 3 }),
				letters(60),
				fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 8 }),
				(finds, text, sizes) => {
					const pairs = finds.map((find, i): [string, string] => [find, `<${i}>`]);
					const replacer = new StreamReplacer(pairs.map(([find, put]) => ({ find: encode(find), put: encode(put) })));
					const bytes = encode(text);
					let out = "";
					for (let at = 0, i = 0; at < bytes.length; i++) {
						const size = sizes[i % sizes.length]!;
						out += Buffer.from(replacer.push(bytes.subarray(at, at + size))).toString();
						at += size;
					}
					out += Buffer.from(replacer.end()).toString();
					expect(out).toBe(plainly(text, pairs));
				},
			),
			{ seed: SEED, numRuns: 2_000 },
		);
	});
});

describe("secrets as data", () => {
	test.each([
		[{ ...TOKEN, placeholder: "short" }, /placeholder/],
		[{ ...TOKEN, value: "two\nlines" }, /printable/],
		[{ ...TOKEN, value: "abc" }, /shorter/],
		[{ ...TOKEN, hosts: ["10.0.0.0/8"] }, /hosts/],
		[{ ...TOKEN, value: `x${PLACEHOLDER}` }, /contains/],
	])("%j is refused without its value", (secret, message) => {
		try {
			new SecretStore([secret]);
			expect.unreachable();
		} catch (error) {
			expect((error as Error).message).toMatch(message);
			if (secret.value.length > 3) expect((error as Error).message).not.toContain(secret.value.slice(0, 8));
		}
	});
});

describe("hooks", () => {
	test("see requests and responses, change them, and bodies stream through", async () => {
		const urls: string[] = [];
		const { ask, seen, audit } = await web(
			{
				hooks: {
					onRequest: (request) => {
						urls.push(`${request.method} ${request.url}`);
						return { action: "forward", path: "/changed?x=1", headers: [...request.headers, ["X-Added", "yes"]] };
					},
					onResponse: (response, body) => ({
						action: "respond",
						headers: [["X-Status", String(response.status)]],
						body: (async function* () {
							yield Buffer.from("[");
							yield* body;
							yield Buffer.from("]");
						})(),
					}),
				},
			},
			(_request, response) => response.end(pattern(3_000_000)),
		);
		const answer = await ask("https://good.example/path?q=1", { method: "POST", body: "the body" });
		expect(answer.status).toBe(200);
		expect(answer.headers["x-status"]).toBe("200");
		expect(answer.body.length).toBe(3_000_002);
		expect(Buffer.compare(answer.body.subarray(1, -1), pattern(3_000_000))).toBe(0);
		expect(urls).toEqual(["POST https://good.example/path?q=1"]);
		expect(seen[0]).toMatchObject({
			url: "/changed?x=1",
			body: "the body",
			headers: { "x-added": "yes", host: "good.example" },
		});
		expect(audit.findLast((event) => event.protocol === "http")).toMatchObject({
			action: "allow",
			method: "POST",
			url: "https://good.example/path?q=1",
			status: 200,
			names: ["good.example"],
		});
	});

	test("block, answer, and read a body of their own", async () => {
		const { ask, seen, audit } = await web({
			hooks: {
				onRequest: async (request, body) => {
					const path = new URL(request.url).pathname;
					if (path === "/blocked") return { action: "block", reason: "no such thing" };
					if (path === "/answered") return { action: "answer", status: 418, headers: [["X-A", "b"]], body: "tea" };
					if (path === "/broken") throw new Error("the hook broke");
					let text = "";
					for await (const chunk of body) text += Buffer.from(chunk).toString();
					return { action: "forward", body: text.toUpperCase() };
				},
			},
		});
		expect(await ask("https://good.example/blocked")).toMatchObject({ status: 403 });
		expect(audit.findLast((event) => event.protocol === "http")).toMatchObject({
			action: "deny",
			reason: "no such thing",
		});
		const answered = await ask("https://good.example/answered");
		expect([answered.status, answered.headers["x-a"], String(answered.body)]).toEqual([418, "b", "tea"]);
		expect(await ask("https://good.example/broken")).toMatchObject({ status: 502 });
		expect(seen).toEqual([]);
		await ask("http://good.example/upper", { method: "PUT", body: "quiet" });
		expect(seen[0]).toMatchObject({ method: "PUT", body: "QUIET" });
	});

	test("a guest that reads slowly holds the server back", async () => {
		let sent = 0;
		const { guest, authority } = await web({ hooks: {} }, (_request, response) => {
			const more = () => {
				while (!response.destroyed && sent < 400 << 20) {
					sent += 1 << 16;
					if (!response.write(Buffer.alloc(1 << 16))) {
						response.once("drain", more);
						return;
					}
				}
			};
			more();
		});
		const raw = createNet(guest).connect({ host: "good.example", port: 443 });
		raw.on("error", () => undefined);
		const socket = tls.connect({ socket: raw as never, servername: "good.example", ca: authority.certificate });
		socket.on("error", () => undefined);
		socket.write("GET / HTTP/1.1\r\nHost: good.example\r\n\r\n");
		await once(socket, "data");
		socket.pause();
		let last = -1;
		await expect
			.poll(
				() => {
					const still = sent === last;
					last = sent;
					return still;
				},
				{ interval: 300, timeout: 15_000 },
			)
			.toBe(true);
		expect(sent).toBeLessThan(100 << 20);
		socket.destroy();
	});

	test("a host that is not the TLS name is misdirected, two hosts or another target are refused", async () => {
		const { ask, seen, guest, authority } = await web({ hooks: {} });
		expect(await ask("https://good.example/", { headers: { host: "bad.example" } })).toMatchObject({ status: 421 });
		const raw = async (text: string) => {
			const net = createNet(guest).connect({ host: "good.example", port: 443 });
			const socket = tls.connect({ socket: net as never, servername: "good.example", ca: authority.certificate });
			socket.end(text);
			let answer = "";
			for await (const chunk of socket) answer += chunk;
			return answer.slice(0, 12);
		};
		expect(await raw("GET / HTTP/1.1\r\nHost: good.example\r\nHost: bad.example\r\nConnection: close\r\n\r\n")).toBe(
			"HTTP/1.1 400",
		);
		expect(await raw("GET https://bad.example/ HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")).toBe(
			"HTTP/1.1 400",
		);
		expect(await raw("CONNECT bad.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n")).toBe("HTTP/1.1 405");
		expect(await raw("GET https://good.example/x HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")).toBe(
			"HTTP/1.1 200",
		);
		expect(seen.map(({ url }) => url)).toEqual(["/x"]);
	});

	test("a server that cannot prove its name is not spoken to", async () => {
		const { ask, seen, audit } = await web({ hooks: {}, secrets: [TOKEN] }, undefined, undefined, []);
		expect(await ask("https://good.example/", { headers: { "x-token": PLACEHOLDER } })).toMatchObject({ status: 502 });
		expect(seen).toEqual([]);
		expect(audit.findLast((event) => event.protocol === "http")).toMatchObject({
			action: "deny",
			reason: "ERR_TLS_CERT_ALTNAME_INVALID",
		});
		const untrusted = await web({ hooks: {}, serverAuthorities: [] });
		expect(await untrusted.ask("https://good.example/")).toMatchObject({ status: 502 });
		expect(untrusted.seen).toEqual([]);
	});

	test("WebSockets pass, and a name that is let through is not touched", async () => {
		const { guest, authority, seen } = await web({ hooks: {}, passthrough: ["also-good.example"], secrets: [TOKEN] });
		const net = createNet(guest).connect({ host: "good.example", port: 443 });
		const socket = tls.connect({ socket: net as never, servername: "good.example", ca: authority.certificate });
		socket.write(
			`GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Token: ${PLACEHOLDER}\r\n\r\n`,
		);
		let text = "";
		socket.on("data", (chunk) => (text += chunk));
		await expect.poll(() => text).toContain("\r\n\r\n");
		expect(text).toContain("101 Switching");
		expect(text).toContain(`X-Echo: ${PLACEHOLDER}`);
		socket.write(`frame with ${VALUE}`);
		await expect.poll(() => text).toContain(`frame with ${"*".repeat(VALUE.length)}`);
		expect(seen[0]).toMatchObject({ method: "UPGRADE", headers: { "x-token": VALUE } });
		expect(seen[0]!.headers["sec-websocket-extensions"]).toBeUndefined();
		socket.destroy();
		const untouched = tls.connect({
			socket: createNet(guest).connect({ host: "also-good.example", port: 443 }) as never,
			servername: "also-good.example",
			ca: world.certificate,
		});
		await once(untouched, "secureConnect");
		expect(untouched.getPeerCertificate().issuer.CN).toBe("the world");
		untouched.destroy();
	});

	test("the policy's names hold for what is intercepted", async () => {
		const { ask, seen, guest } = await web({ hooks: {} }, undefined, { allow: ["good.example"] });
		expect(await ask("https://good.example/")).toMatchObject({ status: 200 });
		const [address] = await guest.resolve("good.example", 4);
		await expect(ask("https://bad.example/", { connectTo: String(address) })).rejects.toMatchObject({
			code: "ECONNRESET",
		});
		expect(await ask("http://good.example/", { headers: { host: "bad.example" } })).toMatchObject({ status: 403 });
		expect(seen).toHaveLength(1);
	});
});

describe("secrets", () => {
	test("are put in for their hosts only, where they may be", async () => {
		const all: Secret = { ...TOKEN, parts: ["header", "url", "body"] };
		const { ask, seen } = await web({ secrets: [all], hosts: ["*"] });
		const basic = Buffer.from(`user:${PLACEHOLDER}`).toString("base64");
		const headers = { authorization: `Basic ${basic}`, "x-token": `a ${PLACEHOLDER} b` };
		await ask(`https://good.example/p?key=${PLACEHOLDER}`, { method: "POST", body: `{"k":"${PLACEHOLDER}"}`, headers });
		expect(seen[0]).toMatchObject({ url: `/p?key=${encodeURIComponent(VALUE)}`, body: `{"k":"${VALUE}"}` });
		expect(seen[0]!.headers["x-token"]).toBe(`a ${VALUE} b`);
		expect(Buffer.from(seen[0]!.headers.authorization!.slice(6), "base64").toString()).toBe(`user:${VALUE}`);
		for (const [url, more] of [
			["https://bad.example/", { "x-token": PLACEHOLDER }],
			["https://bad.example/", { authorization: `Basic ${basic}` }],
			[`https://bad.example/?k=${PLACEHOLDER}`, {}],
			["http://good.example/", { "x-token": PLACEHOLDER }],
		] as const)
			expect(await ask(url, { headers: more })).toMatchObject({ status: 403 });
		expect(seen).toHaveLength(1);
		const lenient = await web({ secrets: [TOKEN], hosts: ["*"], misplaced: "pass" });
		await lenient.ask("https://bad.example/", { headers: { "x-token": PLACEHOLDER } });
		expect(lenient.seen[0]!.headers["x-token"]).toBe(PLACEHOLDER);
	});

	test("stay in over a body however it is cut", async () => {
		const { guest, seen, authority } = await web({ secrets: [{ ...TOKEN, parts: ["body"] }] });
		const net = createNet(guest).connect({ host: "good.example", port: 443 });
		const socket = tls.connect({ socket: net as never, servername: "good.example", ca: authority.certificate });
		socket.write("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n");
		for (const char of `<${PLACEHOLDER}><${PLACEHOLDER}>`) socket.write(`1\r\n${char}\r\n`);
		socket.write("0\r\n\r\n");
		await once(socket, "data");
		expect(seen[0]!.body).toBe(`<${VALUE}><${VALUE}>`);
		socket.destroy();
	});

	test("a server elsewhere that claims the host's name gets nothing", async () => {
		const { ask, seen } = await web({ secrets: [TOKEN] }, undefined, undefined, ["bad.example"]);
		expect(
			await ask("https://good.example/", { connectTo: "192.0.2.66", headers: { "x-token": PLACEHOLDER } }),
		).toMatchObject({ status: 502 });
		expect(seen).toEqual([]);
	});

	test("a redirect to another host leads to a refusal, not to the secret", async () => {
		const { ask, seen } = await web({ secrets: [TOKEN], hosts: ["*"] }, (request, response) => {
			if (request.headers.host === "good.example")
				response.writeHead(302, { location: `https://bad.example/?t=${request.headers["x-token"]}` });
			response.end();
		});
		const first = await ask("https://good.example/", { headers: { "x-token": PLACEHOLDER } });
		expect(first.headers.location).toBe(`https://bad.example/?t=${PLACEHOLDER}`);
		expect(await ask(first.headers.location!, { headers: { "x-token": PLACEHOLDER } })).toMatchObject({ status: 403 });
		expect(seen.map(({ headers }) => headers.host)).toEqual(["good.example"]);
	});

	test("come back as placeholders, in any coding, and are in no audit line and no hook", async () => {
		const hooked: unknown[] = [];
		const { ask, audit } = await web(
			{
				secrets: [{ ...TOKEN, parts: ["header", "url"] }],
				hooks: {
					onRequest: (request) => void hooked.push(request),
					onResponse: (response) => void hooked.push(response),
				},
			},
			(request, response) => {
				const forms = [
					VALUE,
					encodeURIComponent(VALUE),
					Buffer.from(`x${VALUE}y`).toString("base64"),
					Buffer.from(`xy${VALUE}`).toString("base64"),
					request.headers.authorization ?? "",
				].join("\n");
				response.setHeader("x-reflected", request.headers["x-token"] ?? "");
				if (request.url!.startsWith("/gzip")) {
					response.setHeader("content-encoding", "gzip");
					response.end(gzipSync(forms));
				} else if (request.url!.startsWith("/strange")) {
					response.setHeader("content-encoding", "strange");
					response.end(forms);
				} else {
					response.setHeader("content-length", Buffer.byteLength(forms));
					for (const char of forms.slice(0, -1)) response.write(char);
					response.end(forms.at(-1));
				}
			},
		);
		const basic = Buffer.from(`user:${PLACEHOLDER}`).toString("base64");
		const headers = { "x-token": PLACEHOLDER, authorization: `Basic ${basic}` };
		for (const path of ["/plain", "/gzip", `/plain?k=${PLACEHOLDER}`]) {
			const answer = await ask(`https://good.example${path}`, { headers });
			const text = String(answer.body);
			expect(answer.headers["x-reflected"]).toBe(PLACEHOLDER);
			expect(text.split("\n")[0]).toBe(PLACEHOLDER);
			expect(text.split("\n")[4]).toBe(`Basic ${basic}`);
			for (const line of text.split("\n"))
				expect(
					`${line}${Buffer.from(line, "base64")}${decodeURIComponent(line.replace(/%(?![0-9A-F])/g, ""))}`,
				).not.toContain(VALUE.slice(0, 12));
		}
		expect(await ask("https://good.example/strange", { headers })).toMatchObject({ status: 502 });
		expect(JSON.stringify([audit, hooked])).not.toContain("s3cr3t");
	});
});
