import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { readClientHello } from "../src/gateway/client-hello.ts";
import { readFirstBytes } from "../src/gateway/first-bytes.ts";
import { HttpGuard } from "../src/gateway/http-guard.ts";
import { createNet } from "../src/node/index.node.ts";
import { hostServer, opened, outsideWith, type Setup, setup } from "./guest.ts";

const SEED = 853;

/** A hello as node's own TLS sends it. */
async function realHello(options: tls.ConnectionOptions): Promise<Uint8Array> {
	const { Duplex: Stream } = await import("node:stream");
	return new Promise((resolve) => {
		const sink = new Stream({
			read() {},
			write(chunk: Buffer, _encoding, callback) {
				resolve(Uint8Array.from(chunk));
				callback();
			},
		});
		tls.connect({ socket: sink, rejectUnauthorized: false, ...options }).on("error", () => undefined);
	});
}

describe("a TLS hello", () => {
	test("is read as node sends it", async () => {
		const hello = await realHello({ servername: "Good.Example", ALPNProtocols: ["h2", "http/1.1"] });
		expect(readClientHello(hello)).toEqual({ name: "good.example", encrypted: false, alpn: ["h2", "http/1.1"] });
		expect(readClientHello(await realHello({}))).toMatchObject({ name: undefined });
	});

	test("is the same in any records and unknown until it is whole", async () => {
		const hello = await realHello({ servername: "good.example" });
		const body = hello.subarray(5);
		fc.assert(
			fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 8 }), (sizes) => {
				const parts: number[] = [];
				let at = 0;
				for (let i = 0; at < body.length; i++) {
					const part = body.subarray(at, i < sizes.length ? at + sizes[i]! : body.length);
					parts.push(22, 3, 1, part.length >>> 8, part.length & 255, ...part);
					at += part.length;
				}
				const whole = Uint8Array.from(parts);
				expect(readClientHello(whole)).toMatchObject({ name: "good.example" });
				for (const cut of [1, 4, 5, 6, 11, 60, whole.length - 1])
					expect(readClientHello(whole.subarray(0, cut))).toBe("more");
			}),
			{ seed: SEED, numRuns: 200 },
		);
	});

	test("that is mutated never throws and never invents a name with room for another", async () => {
		const hello = await realHello({ servername: "good.example", ALPNProtocols: ["http/1.1"] });
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 6 }),
				fc.nat(hello.length),
				(changes, length) => {
					const bytes = hello.slice(0, length);
					for (const [at, value] of changes) if (at < length) bytes[at] = value;
					const result = readClientHello(bytes);
					if (result !== undefined && result !== "more" && result.name !== undefined)
						expect(result.name).toMatch(/^[!-~]{0,255}$/);
					readFirstBytes(bytes, true);
				},
			),
			{ seed: SEED, numRuns: 5_000 },
		);
	});

	test("with an extension twice, two names or a name of another kind is none", () => {
		const hello = (extensions: number[]) => {
			const body = [
				3,
				3,
				...new Array(32).fill(7),
				0,
				0,
				2,
				0x13,
				1,
				1,
				0,
				extensions.length >>> 8,
				extensions.length & 255,
				...extensions,
			];
			const message = [1, 0, body.length >>> 8, body.length & 255, ...body];
			return Uint8Array.from([22, 3, 1, message.length >>> 8, message.length & 255, ...message]);
		};
		const name = (text: string, kind = 0) => [kind, 0, text.length, ...Buffer.from(text)];
		const sni = (list: number[]) => [0, 0, 0, list.length + 2, 0, list.length, ...list];
		expect(readClientHello(hello(sni(name("a.test"))))).toMatchObject({ name: "a.test", encrypted: false });
		expect(readClientHello(hello([...sni(name("a.test")), ...sni(name("b.test"))]))).toBeUndefined();
		expect(readClientHello(hello(sni([...name("a.test"), ...name("b.test")])))).toBeUndefined();
		expect(readClientHello(hello(sni(name("a.test", 1))))).toBeUndefined();
		expect(readClientHello(hello(sni(name("a\0.test"))))).toBeUndefined();
		expect(readClientHello(hello([...sni(name("a.test")), 0xfe, 0x0d, 0, 1, 0]))).toMatchObject({ encrypted: true });
	});
});

describe("plain HTTP", () => {
	const run = (text: string, sizes: readonly number[] = [], answers: readonly string[] = []) => {
		const hosts: string[] = [];
		const guard = new HttpGuard((host) => {
			hosts.push(host);
			return host === "good.example";
		});
		let bytes = Uint8Array.from(Buffer.from(text, "latin1"));
		let turn = 0;
		for (let i = 0; bytes.length > 0; ) {
			const part = bytes.subarray(0, sizes.length === 0 ? bytes.length : Math.max(1, sizes[i++ % sizes.length]!));
			const count = guard.pass(part);
			if (count < 0) return { passed: false, hosts, reason: guard.reason };
			bytes = bytes.subarray(count);
			if (count < part.length) {
				if (turn >= answers.length) return { passed: true, hosts, reason: "waits" };
				guard.answer(Buffer.from(answers[turn++]!));
			}
		}
		return { passed: true, hosts, reason: guard.reason };
	};
	const get = (host: string) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
	const post = (body: string) =>
		`POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
	const chunked = `POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n`;

	test("every request's host is asked about, in whatever pieces they come", () => {
		const stream =
			get("good.example:80") + post("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n") + chunked + get("Good.Example");
		fc.assert(
			fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 10 }), (sizes) => {
				expect(run(stream, sizes)).toEqual({ passed: true, hosts: new Array(4).fill("good.example"), reason: "" });
				expect(run(stream + get("evil.test"), sizes)).toMatchObject({ passed: false, reason: "evil.test" });
			}),
			{ seed: SEED, numRuns: 300 },
		);
	});

	test.each([
		["GET / HTTP/1.1\r\n\r\n", "no host"],
		["GET / HTTP/1.1\r\nHost: good.example\r\nHost: evil.test\r\n\r\n", "two host"],
		["GET http://evil.test/ HTTP/1.1\r\nHost: good.example\r\n\r\n", "target"],
		["CONNECT evil.test:443 HTTP/1.1\r\nHost: good.example\r\n\r\n", "CONNECT"],
		["GET / HTTP/1.1\r\nHost: good.example\r\n Host: evil.test\r\n\r\n", "malformed"],
		["GET / HTTP/1.1\nHost: good.example\n\n", "bare"],
		["GET / HTTP/1.1\r\nHost : good.example\r\n\r\n", "malformed"],
		["GET / HTTP/1.1\r\nHost: good.example\r\nX: a\rHost: evil.test\r\n\r\n", "malformed"],
		["POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "unclear"],
		["POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "two content-length"],
		["POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: +5\r\n\r\n", "unclear"],
		["POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unclear"],
		["POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloGET /", "chunk"],
		[`GET /${"a".repeat(70_000)} HTTP/1.1\r\n`, "too long"],
	])("%j is refused", (text, reason) => {
		expect(run(text)).toMatchObject({ passed: false, reason: expect.stringContaining(reason) });
		expect(run(text, [1])).toMatchObject({ passed: false, reason: expect.stringContaining(reason) });
	});

	test("bytes behind an upgrade wait for the server's word, and only a 101 lets them through unread", () => {
		const upgrade = "GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
		expect(run(upgrade + get("evil.test"))).toMatchObject({ passed: true, reason: "waits" });
		expect(run(upgrade + get("evil.test"), [], ["HTTP/1.1 200 OK\r\n"])).toMatchObject({
			passed: false,
			reason: "evil.test",
		});
		expect(run(`${upgrade}\x81\x00frames`, [], ["HTTP/1.1 101 Switching\r\n"])).toMatchObject({ passed: true });
	});

	test("anything at all never throws", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
				new HttpGuard(() => true).pass(bytes);
				readFirstBytes(bytes, false);
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});
});

test.each([
	["GET / HTTP/1.1\r\n", "http"],
	["\r\n\r\nget\t/ http/1.1\r\n", "http"],
	["PROPFIND /x HTTP/1.1\r\n", "http"],
	["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"],
	["PRI * HTTP/2.0\r\n\r\nSM", undefined],
	["get key\r\n", "other"],
	["PING\r\n", "other"],
	["*1\r\n$4\r\nPING\r\n", "other"],
	["AMQP\0\0\x09\x01", "other"],
	["\0\0\0\x08\x04\xd2\x16\x2f", "other"],
	["GE", undefined],
	["GET /a", undefined],
	[`GET /${"a".repeat(9_000)}`, "http"],
	["\x16\x03\x01\x02", undefined],
	["\x16\x04\x01\x02", "other"],
	["\x16\x03\x01\x00\x04\x02\x00\x00\x00", "unreadable"],
	[
		`\x16\x03\x01\x40\x00\x01\x00\xff\x00${"\0".repeat(16_380)}\x16\x03\x01\x40\x00${"\0".repeat(16_384)}`,
		"unreadable",
	],
])("%j is %s", (text, kind) => {
	expect(readFirstBytes(Buffer.from(text, "latin1"), false)?.kind).toBe(kind);
});

const folder = mkdtempSync(join(tmpdir(), "ustack-names-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const openssl = (() => {
	try {
		execFileSync("openssl", ["version"], { stdio: "ignore" });
		return true;
	} catch {
		return false;
	}
})();

/** A certificate for nobody in particular. */
function selfSigned(): { key: Buffer; cert: Buffer } {
	const key = join(folder, "key.pem");
	const cert = join(folder, "cert.pem");
	const subject = ["-subj", "/CN=test", "-days", "2", "-nodes"];
	execFileSync(
		"openssl",
		["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key, "-out", cert, ...subject],
		{ stdio: "ignore" },
	);
	return { key: readFileSync(key), cert: readFileSync(cert) };
}

async function behind(allow: string[], deny: string[] = []): Promise<Setup & { served: string[] }> {
	const served: string[] = [];
	const web = http.createServer((request, response) => {
		served.push(request.headers.host ?? "");
		response.end(`hello ${request.headers.host}`);
	});
	const places: Record<string, number> = {
		"192.0.2.10:80": await hostServer((socket) => web.emit("connection", socket)),
	};
	if (openssl) {
		const secure = tls.createServer({ ...selfSigned() }, (socket) => {
			served.push(socket.servername || "none");
			socket.on("error", () => undefined);
			socket.end("secret");
		});
		secure.listen(0, "127.0.0.1");
		await once(secure, "listening");
		opened.push(() => secure.close());
		places["192.0.2.10:443"] = (secure.address() as { port: number }).port;
	}
	places["192.0.2.10:22"] = await hostServer((socket) => {
		socket.on("error", () => undefined);
		socket.write("SSH-2.0-server\r\n");
		socket.on("data", (data) => socket.end(`got ${data}`));
	});
	const policy = { allow, deny, ...(allow.length === 0 ? {} : { default: "deny" as const }) };
	return { ...(await setup({ outbound: outsideWith(places), policy })), served };
}

async function all(stream: Duplex): Promise<string> {
	let text = "";
	try {
		for await (const chunk of stream) text += chunk;
	} catch (error) {
		return `${text}${(error as { code: string }).code}`;
	}
	return text;
}

async function secureTo(world: Setup, servername: string | undefined): Promise<string> {
	const raw = createNet(world.guest).connect({ host: "192.0.2.10", port: 443 });
	const socket = tls.connect({
		socket: raw as never,
		rejectUnauthorized: false,
		...(servername === undefined ? {} : { servername }),
	});
	return all(socket);
}

describe("an address that several names share", () => {
	test.skipIf(!openssl)("serves the names the rules allow, and no other", async () => {
		const world = await behind(["good.example:443"]);
		await world.guest.resolve("good.example", 4);
		expect(await secureTo(world, "good.example")).toBe("secret");
		expect(await secureTo(world, "shared-bad.example")).toBe("ECONNRESET");
		expect(world.audit.findLast((event) => event.action === "deny")).toMatchObject({
			protocol: "tcp",
			destination: "192.0.2.10:443",
			names: ["good.example"],
			reason: "name shared-bad.example",
		});
		expect(await secureTo(world, undefined)).toBe("ECONNRESET");
		expect(world.audit.findLast((event) => event.action === "deny")).toMatchObject({ reason: "name missing" });
		const raw = createNet(world.guest).connect({ host: "192.0.2.10", port: 443 });
		raw.write("anything else\n");
		expect(await all(raw)).toBe("ECONNRESET");
		expect(world.served).toEqual(["good.example"]);
	});

	test.skipIf(!openssl)("is denied by name where the rest is open", async () => {
		const world = await behind([], ["shared-bad.example"]);
		expect(await secureTo(world, "good.example")).toBe("secret");
		expect(await secureTo(world, "shared-bad.example")).toBe("ECONNRESET");
		await expect(world.guest.resolve("shared-bad.example", 4)).rejects.toMatchObject({ code: "ENOTFOUND" });
		await world.guest.resolve("good.example", 4);
		expect(await secureTo(world, "good.example")).toBe("secret");
		expect(await secureTo(world, "shared-bad.example")).toBe("ECONNRESET");
		expect(world.served).toEqual(["good.example", "good.example"]);
	});

	test("a hello that cannot be read does not pass on any port", async () => {
		const world = await behind(["good.example"]);
		await world.guest.resolve("good.example", 4);
		const socket = createNet(world.guest).connect({ host: "192.0.2.10", port: 80 });
		socket.write(Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0]));
		expect(await all(socket)).toBe("ECONNRESET");
		expect(world.audit.findLast((event) => event.action === "deny")).toMatchObject({ reason: "name unreadable" });
	});

	test("by every request of plain HTTP, not the first alone", async () => {
		const world = await behind(["good.example:80"]);
		await world.guest.resolve("good.example", 4);
		const socket = createNet(world.guest).connect({ host: "192.0.2.10", port: 80 });
		socket.write("GET / HTTP/1.1\r\nHost: good.example\r\n\r\n");
		const [first] = await once(socket, "data");
		expect(String(first)).toContain("hello good.example");
		socket.write("GET / HTTP/1.1\r\nHost: shared-bad.example\r\n\r\n");
		expect(await all(socket)).toBe("ECONNRESET");
		expect(world.served).toEqual(["good.example"]);
		expect(world.audit.findLast((event) => event.action === "deny")).toMatchObject({
			reason: "name shared-bad.example",
		});
	});

	test("a protocol where the server speaks first works by its address", async () => {
		const world = await behind(["good.example:22"]);
		await world.guest.resolve("good.example", 4);
		const socket = createNet(world.guest).connect({ host: "192.0.2.10", port: 22 });
		const [banner] = await once(socket, "data");
		expect(String(banner)).toBe("SSH-2.0-server\r\n");
		socket.write("hi");
		expect(await all(socket)).toBe("got hi");
	});
});
