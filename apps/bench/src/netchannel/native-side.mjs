// A native link's receiving or answering end, in a process of its own so that its CPU time is its own: see native.ts.

import { createSocket } from "node:dgram";
import { createReadStream, writeSync } from "node:fs";
import { createSwitch } from "@x/netchannel";
import { openPacket, openTap, openUdpBatch } from "@x/netchannel/node";

const [role, ...words] = process.argv.slice(2);

/**
 * Counts frames; prints CPU microseconds a frame, once `count` came or a second passed without. The first half is
 * the compiler's, whose threads count too, and not measured on either side.
 */
function meter(count, drops = () => 0) {
	let received = 0;
	let begun;
	let before = 0;
	let last = 0;
	const finish = () => {
		const { user, system } = process.cpuUsage(begun);
		writeSync(1, `${(user + system) / Math.max(1, received - before)} ${received} ${drops()}\n`);
		// An orderly exit would wait for ever for a pool thread that still reads.
		process.kill(process.pid, "SIGKILL");
	};
	setInterval(() => {
		if (received > 0 && received === last) finish();
		last = received;
	}, 1000);
	return (more = 1) => {
		received += more;
		if (begun === undefined && received >= count / 2) {
			begun = process.cpuUsage();
			before = received;
		}
		if (received >= count) finish();
	};
}

const echo = (link, address) => {
	const mine = address.split(".").map(Number);
	const mac = [2, 0, 0, 0, 0, 99];
	const isMine = (frame, at) => mine.every((byte, index) => frame[at + index] === byte);
	const reply = new Uint8Array(2048);
	link.onFrame = (frame) => {
		if (frame[12] !== 8) return;
		if (frame[13] === 6 && frame[21] === 1 && isMine(frame, 38)) {
			const answer = frame.slice(0, 42);
			answer.set(frame.subarray(6, 12), 0);
			answer.set(frame.subarray(22, 32), 32);
			answer.set(mac, 6);
			answer.set(mac, 22);
			answer.set(mine, 28);
			answer[21] = 2;
			link.send(answer);
		} else if (frame[13] === 0 && frame[23] === 1 && frame[34] === 8 && isMine(frame, 30)) {
			reply.set(frame);
			reply.set(frame.subarray(6, 12), 0);
			reply.set(mac, 6);
			reply.set(frame.subarray(26, 30), 30);
			reply.set(mine, 26);
			reply[34] = 0;
			// Only the type changed, from 8 to 0: the checksum grows by as much (RFC 1624).
			let sum = ((frame[36] << 8) | frame[37]) + 0x0800;
			sum = (sum & 0xffff) + (sum >>> 16);
			reply[36] = sum >> 8;
			reply[37] = sum;
			link.send(reply.subarray(0, frame.length));
		}
	};
};

const roles = {
	async tap(name) {
		const link = await openTap({ name, offload: false });
		let received = 0;
		link.onFrame = () => received++;
	},
	async tapWait(name) {
		const link = await openTap({ name, offload: false });
		let received = 0;
		link.onFrame = () => received++;
		setImmediate(() => {
			for (;;) link.wait(Number.POSITIVE_INFINITY);
		});
	},
	async tapStream(name) {
		// What packages without a native poll do: the thread pool reads, packet by packet.
		const koffi = (await import("koffi")).default;
		const { openSync } = await import("node:fs");
		const fd = openSync("/dev/net/tun", "r+");
		const request = new Uint8Array(40);
		request.set(new TextEncoder().encode(name));
		new DataView(request.buffer).setUint16(16, 0x1002, true);
		koffi.load(null).func("int ioctl(int fd, ulong request, void *argument)")(fd, 0x400454ca, request);
		const { execFileSync } = await import("node:child_process");
		execFileSync("ip", ["link", "set", name, "up"]);
		let received = 0;
		createReadStream("", { fd, highWaterMark: 2048 }).on("data", () => received++);
	},
	async packet(name, count) {
		const link = await openPacket({ interface: name, ring: "v3", ringBytes: 2 ** 25 });
		const tick = meter(Number(count), () => link.stats().rxDropped);
		link.onFrame = () => tick();
	},
	async udp(port, count) {
		const link = await openUdpBatch({
			local: { host: "127.0.0.1", port: Number(port) },
			remote: { host: "127.0.0.1", port: Number(port) + 1 },
			receiveBuffer: 2 ** 22,
		});
		const tick = meter(Number(count));
		link.onFrame = () => tick();
	},
	async dgram(port, count) {
		const socket = createSocket({ type: "udp4", recvBufferSize: 2 ** 22 });
		const tick = meter(Number(count));
		socket.on("message", () => tick());
		await new Promise((resolve) => socket.bind(Number(port), "127.0.0.1", resolve));
		await new Promise((resolve) => socket.connect(Number(port) + 1, "127.0.0.1", resolve));
	},
	async udpSend(port, count) {
		const link = await openUdpBatch({ remote: { host: "127.0.0.1", port: Number(port) }, mtu: 1500 });
		const frame = new Uint8Array(64);
		const total = Number(count);
		const start = performance.now();
		for (let sent = 0; sent < total; ) {
			for (let burst = 0; burst < 64 && sent < total; burst++, sent++) {
				if (link.send(frame)) continue;
				await new Promise((resolve) => (link.onWritable = resolve));
				sent--;
			}
			await null;
		}
		console.log(`${total / (performance.now() - start)} ${total} 0`);
		process.exit(0);
	},
	async dgramSend(port, count) {
		const socket = createSocket("udp4");
		await new Promise((resolve) => socket.connect(Number(port), "127.0.0.1", resolve));
		const frame = new Uint8Array(64);
		const total = Number(count);
		let sent = 0;
		let done = 0;
		const start = performance.now();
		const more = () => {
			while (sent < total && sent - done < 64) {
				sent++;
				socket.send(frame, () => {
					if (++done === total) {
						console.log(`${total / (performance.now() - start)} ${total} 0`);
						process.exit(0);
					}
					more();
				});
			}
		};
		more();
	},
	async echo(name, address) {
		echo(await openTap({ name, offload: false }), address);
	},
	async forward(first, second, netns, offload) {
		const bridge = createSwitch({ now: () => performance.now() });
		bridge.add(await openTap({ name: first, offload: offload === "1" }));
		bridge.add(await openTap({ name: second, netns, offload: offload === "1" }));
	},
};

await roles[role](...words);
if (!role.endsWith("Send")) console.log("ready");
