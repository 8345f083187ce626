// The kernel's end of a transfer, inside a network namespace.
//   serve PORT            takes connections, reads each to its end, then closes it
//   send HOST PORT BYTES FLOWS   sends BYTES on each of FLOWS connections at once; prints milliseconds from connect to the
//                         peer's close as a JSON list
import net from "node:net";

const [, , role, ...rest] = process.argv;
if (role === "serve") {
	net
		.createServer({ allowHalfOpen: true }, (socket) => {
			socket.on("error", () => undefined);
			socket.on("end", () => socket.end()).resume();
		})
		.listen(Number(rest[0]), () => console.log("listening"));
} else {
	const [host, port, bytes, flows] = [rest[0], Number(rest[1]), Number(rest[2]), Number(rest[3])];
	const block = Buffer.alloc(65_536, 7);
	const flow = () =>
		new Promise((resolve, reject) => {
			const start = performance.now();
			let left = bytes;
			const socket = net.connect({ host, port, allowHalfOpen: true });
			const push = () => {
				while (left > 0) {
					const part = left < block.length ? block.subarray(0, left) : block;
					left -= part.length;
					if (!socket.write(part)) return;
				}
				socket.end();
			};
			socket.on("connect", push).on("drain", push).on("error", reject).resume();
			socket.on("end", () => resolve(performance.now() - start));
		});
	const times = await Promise.all(Array.from({ length: flows }, flow));
	console.log(JSON.stringify(times));
}
