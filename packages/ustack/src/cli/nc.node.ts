import { once } from "node:events";
import { createNet } from "../node/net.node.ts";
import type { NetSocket } from "../node/socket.node.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { LINK_OPTIONS, openHost, parse, portOf, stringOf } from "./options.node.ts";

/** `ustack nc HOST PORT` and `ustack nc -l PORT`. */
export async function ncCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, { ...LINK_OPTIONS, listen: { type: "string", short: "l" } });
	const listen = stringOf(values, "listen");
	if (listen === undefined ? positionals.length !== 2 : positionals.length > 0)
		throw new UsageError("nc takes HOST PORT, or -l PORT");
	const port = portOf(listen ?? positionals[1], "PORT");
	const host = await openHost(values, io);
	const net = createNet(host);
	try {
		let socket: NetSocket;
		if (listen === undefined) {
			socket = net.connect({ host: positionals[0]!, port, allowHalfOpen: true });
			await once(socket, "connect");
		} else {
			const server = net.createServer({ allowHalfOpen: true });
			server.listen(port);
			const [first] = (await once(server, "connection")) as [NetSocket];
			server.close();
			socket = first;
		}
		io.stdin.pipe(socket);
		for await (const chunk of socket) io.stdout.write(chunk as Uint8Array);
		if (!socket.writableFinished) socket.end();
		if (!socket.closed) await once(socket, "close");
		return EXIT.ok;
	} finally {
		host.close();
	}
}
