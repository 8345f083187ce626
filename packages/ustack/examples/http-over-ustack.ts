import http from "node:http";
import { createLinkPair } from "@x/netchannel";
import { createHost } from "@x/ustack";
import { createNet } from "@x/ustack/node";

const [left, right] = createLinkPair();
const client = createHost();
const server = createHost();
client.attach(left, { addresses: ["10.0.0.1/24"] });
server.attach(right, { addresses: ["10.0.0.2/24"] });

const web = http.createServer((_request, response) => response.end("hello over ustack\n"));
const listener = createNet(server).createServer((socket) => web.emit("connection", socket));
listener.listen(80, () => {
	const net = createNet(client);
	const request = http.request({ host: "10.0.0.2", createConnection: (options) => net.connect(options) as never });
	request.on("response", (response) => {
		response.on("data", (chunk) => process.stdout.write(chunk));
		response.on("end", () => {
			client.close();
			server.close();
		});
	});
	request.end();
});
