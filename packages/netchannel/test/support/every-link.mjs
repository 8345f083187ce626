// Every kind of link, opened with its counterpart: for the main thread's tests and for workers that are terminated.
// The modules come as arguments, so that both the sources and the built package can be opened.

/** @returns a function for each kind that opens a pair of ends; `near` sends to `far` where frames can go that way */
export function everyLink(core, node, { folder, space, tag, mapped }) {
	let serial = 0;
	const path = () => `${folder}/${tag}-${serial++}`;
	const native = (open) => (space === undefined ? {} : open);
	return {
		"memory pair": async () => core.createLinkPair(),
		MessagePort: async () => {
			const { port1, port2 } = new MessageChannel();
			return [core.createMessagePortLink(port1), core.createMessagePortLink(port2)];
		},
		BroadcastChannel: async () => {
			const name = path();
			return [core.createBroadcastLink(name), core.createBroadcastLink(name)];
		},
		"QEMU stream": async () => {
			const socket = path();
			const far = await node.openLink(`qemu-listen:unix:${socket}`);
			return [await node.openLink(`qemu:unix:${socket}`), far];
		},
		WebSocket: async () => {
			const far = await node.listenWebSocket({ port: 0 });
			return [await node.openLink(`ws://127.0.0.1:${far.port}/`), far];
		},
		UDP: async () => {
			const far = await node.openUdpLink({ remote: { host: "127.0.0.1", port: 9 } });
			return [await node.openUdpLink({ remote: { host: "127.0.0.1", port: far.port } }), far];
		},
		"capture file": async () => {
			const file = path();
			const near = await node.openLink(`pcap:${file}?write=1`);
			return [near, await node.openLink(`pcap:${file}`)];
		},
		...native({
			"UDP in batches": async () => {
				const far = await node.openUdpBatch({ remote: { host: "127.0.0.1", port: 9 } });
				return [await node.openUdpBatch({ remote: { host: "127.0.0.1", port: far.port } }), far];
			},
			"Unix datagrams": async () => {
				const [a, b] = [path(), path()];
				return [await node.openLink(`unix-dgram:${b}?local=${a}`), await node.openLink(`unix-dgram:${a}?local=${b}`)];
			},
			vfkit: async () => {
				const [a, b] = [path(), path()];
				const far = await node.openLink(`vfkit-listen:${b}`);
				return [await node.openLink(`vfkit:${b}?local=${a}`), far];
			},
			TAP: async () => {
				const name = `${tag}a${serial++ % 1000}`;
				const near = await node.openTap({ name, netns: space });
				return [near, await node.openPacket({ interface: name, netns: space, ring: "none" })];
			},
			TUN: async () => [await node.openTun({ name: `${tag}u${serial++ % 1000}`, netns: space })],
			"packet socket": async () => [
				await node.openPacket({ interface: "v0", netns: space, ring: "none" }),
				await node.openPacket({ interface: "v1", netns: space, ring: "none" }),
			],
			...(mapped
				? {
						"packet rings": async () => [
							await node.openPacket({ interface: "v0", netns: space, ring: "v2", ringBytes: 2 ** 19 }),
							await node.openPacket({ interface: "v1", netns: space, ring: "v3", ringBytes: 2 ** 19 }),
						],
					}
				: {}),
			"ring between processes": async () => {
				const ring = await node.createProcessRing({ capacity: 65536 });
				const producer = ring.producer();
				const other = await node.openProcessRing(ring.path);
				const consumer = other.consumer();
				producer.send(new Uint8Array(100));
				if (consumer.recv()?.length !== 100) throw new Error("the ring between processes lost its record");
				return [{ send: () => true, close: () => [ring, other].map((end) => end.close()) }];
			},
		}),
	};
}

/** A frame any medium takes: Ethernet of a private type, or IPv4 of an unused protocol. */
export function someFrame(medium) {
	const frame = new Uint8Array(100);
	if (medium === "ip") frame.set([0x45, 0, 0, 100, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
	else frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
	return frame;
}
