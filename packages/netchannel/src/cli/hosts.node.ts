import { openUdpBatch } from "../native/datagram-link.node.ts";
import { loadLibc } from "../native/libc.node.ts";
import { inNamespace } from "../native/netns.node.ts";
import { openPacket } from "../native/packet.node.ts";
import { openTap, openTun } from "../native/tap.node.ts";
import { createRing, openConsumer, openProducer } from "../ring/ring.ts";

/** Whether a kind of link works here, and why not. */
export interface LinkAvailability {
	readonly link: string;
	readonly available: boolean;
	/** Why not. */
	readonly reason?: string;
}

async function attempt(link: string, body: () => Promise<void> | void): Promise<LinkAvailability> {
	try {
		await body();
		return { link, available: true };
	} catch (error) {
		return { link, available: false, reason: (error as Error).message };
	}
}

/** Tries every kind of link this host may lack, for real, and leaves nothing behind. */
export async function probeLinks(): Promise<LinkAvailability[]> {
	const always = ["qemu", "qemu-listen", "ws", "wss", "ws-listen", "pcap", "udp"].map((link) => ({
		link,
		available: true,
	}));
	const name = `nc${process.pid % 1_000_000}`;
	return [
		...always,
		await attempt("ring", () => {
			const handle = createRing({ capacity: 1024, shared: true });
			openProducer(handle).send(new Uint8Array(1));
			if (openConsumer(handle).recv() === undefined) throw new Error("the shared ring lost a record");
		}),
		await attempt("tap", async () => (await openTap({ name, up: false })).close()),
		await attempt("tun", async () => (await openTun({ name, up: false })).close()),
		await attempt("packet", async () => (await openPacket({ interface: "lo", ringBytes: 2 ** 19 })).close()),
		await attempt("udp-batch", async () => (await openUdpBatch({ remote: { host: "127.0.0.1", port: 9 } })).close()),
		...(await Promise.all(
			["unix-dgram", "qemu-dgram", "vfkit", "vfkit-listen"].map((link) =>
				attempt(link, async () => void (await loadLibc())),
			),
		)),
		await attempt("netns", async () => {
			const libc = await loadLibc();
			inNamespace(libc, undefined, () => {});
			const { readFileSync } = await import("node:fs");
			const effective = /CapEff:\s*([0-9a-f]+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
			const CAP_SYS_ADMIN = 1n << 21n;
			if (effective !== undefined && (BigInt(`0x${effective}`) & CAP_SYS_ADMIN) === 0n)
				throw new Error("entering a network namespace needs CAP_SYS_ADMIN");
		}),
	];
}
