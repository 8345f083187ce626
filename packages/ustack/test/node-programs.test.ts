import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import type net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { Client as HttpClient } from "undici";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CertificateAuthority, createNet, type NetModule, type NetSocket } from "../src/node/index.node.ts";
import { hosts } from "./hosts.ts";
import { scriptedPostgres } from "./scripted-postgres.ts";

/** Libraries as they are published, over the look-alike: each is given a socket or a way to connect, nothing else. */
const require = createRequire(import.meta.url);

let pair: ReturnType<typeof hosts>;
let client: NetModule;
let server: NetModule;

beforeEach(() => {
	pair = hosts();
	client = createNet(pair.a);
	server = createNet(pair.b);
});

afterEach(() => pair.close());

async function listen(onConnection: (socket: NetSocket) => void): Promise<number> {
	const listener = server.createServer(onConnection).listen(0);
	await once(listener, "listening");
	return listener.address()!.port;
}

const dial = (port: number) => client.connect({ port, host: "10.0.0.2" });

async function bodyOf(response: http.IncomingMessage): Promise<string> {
	let text = "";
	for await (const chunk of response) text += chunk;
	return text;
}

test("https: a request over TLS 1.3, the certificate checked", async () => {
	const authority = new CertificateAuthority();
	const { key, certificate } = authority.issue("guest.test");
	const web = https.createServer({ key, cert: certificate }, (request, response) => {
		response.end(`${request.url} ${(request.socket as tls.TLSSocket).getProtocol()}`);
	});
	const port = await listen((socket) => web.emit("connection", socket));
	const request = https.request({
		path: "/secret",
		createConnection: () =>
			tls.connect({
				socket: dial(port) as unknown as net.Socket,
				servername: "guest.test",
				ca: authority.certificate,
			}),
	});
	request.end();
	const [response] = (await once(request, "response")) as [http.IncomingMessage];
	expect(await bodyOf(response)).toBe("/secret TLSv1.3");
	web.close();
});

test("tls: a megabyte each way, and a clean end", async () => {
	const context = new CertificateAuthority().contextFor("guest.test");
	const port = await listen((socket) => {
		const secure = new tls.TLSSocket(socket as unknown as net.Socket, { isServer: true, secureContext: context });
		secure.pipe(secure);
	});
	const secure = tls.connect({ socket: dial(port) as unknown as net.Socket, rejectUnauthorized: false });
	const data = Buffer.alloc(1 << 20, "ring0");
	secure.write(data);
	let got = 0;
	for await (const chunk of secure) {
		got += (chunk as Buffer).length;
		if (got === data.length) secure.end();
	}
	expect(got).toBe(data.length);
});

test("undici: pipelined requests", async () => {
	const web = http.createServer(async (request, response) => response.end(`${request.url}:${await bodyOf(request)}`));
	const port = await listen((socket) => web.emit("connection", socket));
	const requests = new HttpClient(`http://10.0.0.2:${port}`, {
		pipelining: 4,
		connect: (_options, callback) => {
			const socket = dial(port);
			socket.once("connect", () => callback(null, socket as unknown as net.Socket));
			socket.once("error", (error) => callback(error, null));
		},
	});
	const answers = await Promise.all(
		["a", "b", "c", "d"].map(async (name) => {
			const { body } = await requests.request({ path: `/${name}`, method: "PUT", body: name.repeat(1000) });
			return await body.text();
		}),
	);
	expect(answers).toEqual(["a", "b", "c", "d"].map((name) => `/${name}:${name.repeat(1000)}`));
	await requests.close();
	web.close();
});

interface WebSocketLike extends NodeJS.EventEmitter {
	send(data: unknown): void;
	close(code?: number): void;
}

test("ws: messages both ways over an upgraded connection", async () => {
	const { WebSocket, WebSocketServer } = require("ws") as {
		WebSocket: new (url: string, options: object) => WebSocketLike;
		WebSocketServer: new (
			options: object,
		) => {
			handleUpgrade(request: unknown, socket: Duplex, head: Buffer, callback: (ws: WebSocketLike) => void): void;
		};
	};
	const sockets = new WebSocketServer({ noServer: true });
	const web = http.createServer();
	web.on("upgrade", (request, socket, head) =>
		sockets.handleUpgrade(request, socket, head, (ws) => ws.on("message", (data) => ws.send(data))),
	);
	const port = await listen((socket) => web.emit("connection", socket));
	const ws = new WebSocket(`ws://10.0.0.2:${port}/`, { createConnection: () => dial(port) });
	await once(ws, "open");
	const large = Buffer.alloc(300_000, 7);
	ws.send(large);
	const [back] = await once(ws, "message");
	expect(Buffer.compare(back, large)).toBe(0);
	ws.close(1000);
	expect((await once(ws, "close"))[0]).toBe(1000);
	web.close();
});

test("ssh2: a command's output and exit status", async () => {
	const ssh2 = require("ssh2") as {
		Client: new () => NodeJS.EventEmitter & {
			connect(options: object): void;
			exec(command: string, callback: (error: Error | undefined, stream: Duplex) => void): void;
			end(): void;
		};
		Server: new (
			options: object,
			onClient: (client: NodeJS.EventEmitter) => void,
		) => {
			injectSocket(socket: unknown): void;
		};
	};
	const { privateKey } = generateKeyPairSync("rsa", {
		modulusLength: 2048,
		publicKeyEncoding: { type: "spki", format: "pem" },
		privateKeyEncoding: { type: "pkcs1", format: "pem" },
	});
	const shell = new ssh2.Server({ hostKeys: [privateKey] }, (connection) => {
		connection.on("authentication", (context: { accept(): void }) => context.accept());
		connection.on("error", () => undefined);
		connection.on("session", (accept: () => NodeJS.EventEmitter) =>
			accept().on("exec", (take: () => Duplex & { exit(code: number): void }, _reject, info: { command: string }) => {
				const stream = take();
				stream.write(`ran ${info.command}\n`);
				stream.exit(3);
				stream.end();
			}),
		);
	});
	const port = await listen((socket) => shell.injectSocket(socket));
	const connection = new ssh2.Client();
	connection.connect({ sock: dial(port), username: "root", password: "x" });
	await once(connection, "ready");
	let output = "";
	// All of the answer may come in one segment: the listeners must be there by then.
	const status = await new Promise<number>((resolve, reject) => {
		let code = -1;
		connection.exec("uname", (error, stream) => {
			if (error) reject(error);
			stream.on("data", (chunk) => {
				output += chunk;
			});
			stream.on("exit", (exit: number) => {
				code = exit;
			});
			stream.on("close", () => resolve(code));
		});
	});
	expect([output, status]).toEqual(["ran uname\n", 3]);
	connection.end();
});

test("pg: a query's rows, and a server's error", async () => {
	const { Client } = require("pg") as {
		Client: new (
			options: object,
		) => {
			connect(): Promise<void>;
			query(text: string): Promise<{ rows: Record<string, string>[]; rowCount: number }>;
			end(): Promise<void>;
		};
	};
	const port = await listen((socket) => scriptedPostgres(socket));
	const database = new Client({
		host: "10.0.0.2",
		port,
		user: "guest",
		database: "guest",
		stream: () => new client.Socket(),
	});
	await database.connect();
	const { rows, rowCount } = await database.query("select word");
	expect(rows).toEqual([{ word: "one" }, { word: "two" }]);
	expect(rowCount).toBe(2);
	await expect(database.query("fail")).rejects.toMatchObject({ code: "42601" });
	await database.end();
});
