import { createChannel, createLinkPair } from "@x/netchannel";

const [link, world] = createLinkPair();

// DNS answers for this address arrive here, whoever else listens on the link.
const channel = createChannel({ link, local: "10.0.0.1", protocol: "udp", localPort: 53 });
channel.onBatch = (packets) => console.log(`${packets.length} packet of ${packets[0]!.bytes.length} bytes`);

const packet = new Uint8Array(60);
packet.set([
	2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1,
]);
packet.set([3, 232, 0, 53, 0, 26], 34);
world.send(packet);
await new Promise((resolve) => setTimeout(resolve, 0));
