import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VirtioNet } from "../packages/kvm-core/src/machine/index.ts";
import { createLinkPair, type LinkFeatures } from "../packages/netchannel/src/index.ts";
import { createGateway } from "../packages/ustack/src/gateway/index.ts";
import { createNodeOutbound } from "../packages/ustack/src/node/index.node.ts";
import { buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";
import { runInGuest } from "./support/machine.ts";

const BYTES = Number(env["XKVM_NET_MIB"] ?? 1) * 2 ** 20;
const ALL: LinkFeatures = { checksum: true, tso4: true, tso6: true, uso: false };
const NONE: LinkFeatures = { checksum: false, tso4: false, tso6: false, uso: false };
/** Each starts a guest: the suite has time for the first. */
const CASES = (
	[
		["all offloads", ALL, true],
		["finished frames on the link", NONE, true],
		["no offloads in the guest", ALL, false],
	] as const
).slice(0, env["XKVM_NET_MIB"] === undefined ? 1 : 3);
const SHA = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";

/** Text, for busybox posts no zeros. */
const content = Buffer.from(randomBytes(BYTES).toString("base64").slice(0, BYTES));
const uploads: string[] = [];
const server = createServer((request, response) => {
	const chunks: Buffer[] = [];
	request.on("data", (chunk: Buffer) => chunks.push(chunk));
	request.on("end", () => {
		if (request.method === "POST") uploads.push(SHA(Buffer.concat(chunks)));
		response.end(request.method === "POST" ? "" : content);
	});
});
beforeAll(() => new Promise<void>((resolve) => server.listen(0, "::", resolve)));
afterAll(() => {
	server.close();
});

describe.skipIf(typeof image === "string")(`a Debian guest's virtio_net behind the gateway${because}`, () => {
	it.each(CASES)(
		"%s: DHCP, ping and a file both ways, IPv4 and IPv6",
		{ timeout: GUEST_TEST_MS },
		async (_name, features, offloads) => {
			const { port } = server.address() as AddressInfo;
			const [guestEnd, gatewayEnd] = createLinkPair({ features });
			const outside = createNodeOutbound();
			// A guest cannot name the host's loopback; these addresses stand for it.
			const stand: Record<string, string> = { "192.0.2.10": "127.0.0.1", "2001:db8::10": "::1" };
			const gateway = createGateway({
				outbound: { ...outside, connect: (address, to) => outside.connect(stand[address] ?? address, to) },
				policy: { allow: ["192.0.2.0/24", "2001:db8::/32"] },
			});
			gateway.attach(gatewayEnd);
			const device = new VirtioNet({ link: guestEnd, mac: Uint8Array.of(2, 0, 0, 0, 0, 9), offloads });
			const script = `
modprobe virtio_net
ip link set lo up; ip link set eth0 up
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] && ip addr add "$ip/$mask" dev eth0 && ip route add default via "$router"
END
chmod +x /tmp/lease
udhcpc -i eth0 -n -q -t 10 -s /tmp/lease >&2
ping -c 2 -W 5 10.0.2.2 >/dev/null && echo ping4
tries=0
while ! ip -6 addr show dev eth0 scope global | grep -q -v tentative || [ -z "$(ip -6 route show default)" ]; do
	tries=$((tries + 1)); [ $tries -gt 50 ] && break; sleep 0.1
done
ping6 -c 2 -W 5 fd00:2::2 >/dev/null && echo ping6
for host in 192.0.2.10 '[2001:db8::10]'; do
	wget -q -O /tmp/file "http://$host:${port}/" && sha256sum /tmp/file | cut -c 1-64
	wget -q -O /dev/null --post-file=/tmp/file "http://$host:${port}/" && echo sent
done
cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu
`;
			uploads.length = 0;
			const { stdout, stderr, console } = await runInGuest(image as Image, script, { devices: [device] });
			gateway.close();
			const digest = SHA(content);
			expect(stdout.split("\n"), `${stderr}${console}`).toEqual([
				...["ping4", "ping6", digest, "sent", digest, "sent"],
				...["02:00:00:00:00:09", "1500", ""],
			]);
			expect(uploads).toEqual([digest, digest]);
			const { rxFrames, txFrames, txDropped } = device.stats;
			expect(txDropped).toBe(0);
			// With segmentation offload the guest sends far fewer frames than packets.
			const packets = (2 * BYTES) / 1460;
			if (!offloads) expect(Math.min(rxFrames, txFrames)).toBeGreaterThan(packets);
		},
	);
});
