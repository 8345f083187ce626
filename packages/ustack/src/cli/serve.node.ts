import { createReadStream } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { join, sep } from "node:path";
import { createNet } from "../node/net.node.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { LINK_OPTIONS, openHost, parse, portOf, stringOf } from "./options.node.ts";

function refuse(response: ServerResponse, status: number): void {
	response.writeHead(status, { "content-type": "text/plain" });
	response.end(`${status}\n`);
}

/** `ustack serve DIR`: files over HTTP by node's own server. */
export async function serveCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, { ...LINK_OPTIONS, port: { type: "string", short: "p" } });
	if (positionals.length !== 1) throw new UsageError("serve takes one DIR");
	const port = portOf(stringOf(values, "port") ?? "80", "--port");
	const root = await realpath(positionals[0]!);
	if (!(await stat(root)).isDirectory()) throw new UsageError(`"${positionals[0]}" is no directory`);
	const host = await openHost(values, io);
	const web = createServer((request, response) => {
		void (async () => {
			if (request.method !== "GET" && request.method !== "HEAD") {
				refuse(response, 405);
				return;
			}
			const path = decodeURIComponent(new URL(request.url ?? "/", "http://host").pathname);
			const file = await realpath(join(root, path));
			if (file !== root && !file.startsWith(root + sep)) {
				refuse(response, 404);
				return;
			}
			const info = await stat(file);
			if (info.isDirectory()) {
				const names = await readdir(file);
				response.writeHead(200, { "content-type": "text/plain; charset=utf-8" });
				response.end(`${names.sort().join("\n")}\n`);
				return;
			}
			response.writeHead(200, { "content-length": info.size });
			if (request.method === "HEAD") response.end();
			else
				createReadStream(file)
					.on("error", () => response.destroy())
					.pipe(response);
		})().catch(() => refuse(response, 404));
		io.stderr.write(`${request.socket.remoteAddress} ${request.method} ${request.url}\n`);
	});
	const server = createNet(host).createServer((socket) => web.emit("connection", socket));
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(port, () => resolve());
	});
	const addresses = host.stack.interfaces[1]!.addresses.map((entry) => entry.address.toString());
	io.stdout.write(
		values["json"] === true
			? `${JSON.stringify({ schemaVersion: 1, port, addresses })}\n`
			: `serving ${root} on ${addresses.join(", ")} port ${port}\n`,
	);
	await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
	web.closeAllConnections();
	host.close();
	return EXIT.interrupted;
}
