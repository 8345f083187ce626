import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { bin, buildImage, env, GUEST_TEST_MS } from "./support/images.ts";

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";
const folder = mkdtempSync(join(tmpdir(), "xkvm-own-kernel-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a guest does that nobody configures: DHCP, router advertisements, mounts, a server of its own. */
const SCRIPT = `modprobe virtio_net; modprobe virtiofs; modprobe af_packet
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] && ifconfig eth0 $ip netmask $subnet && route add default gw $router && echo nameserver $dns >/etc/resolv.conf
END
chmod +x /tmp/lease; ifconfig eth0 up; udhcpc -i eth0 -n -q -s /tmp/lease
mkdir /mnt/data; mount -t virtiofs data /mnt/data
wget -qO /mnt/data/fetched http://gateway.internal:PORT/
echo from-guest >/mnt/data/served
{ printf 'HTTP/1.0 200 OK\\r\\n\\r\\nfrom-guest\\n'; } >/tmp/page
echo listening; nc -l -p 80 </tmp/page
poweroff -f
`;

describe.skipIf(typeof image === "string")(`xkvm run with a kernel and an initrd of one's own${because}`, () => {
	it("DHCP and DNS by the gateway, a service of the host, a published port, a shared folder", {
		timeout: GUEST_TEST_MS,
	}, async () => {
		if (typeof image === "string") return;
		const server = createServer((_request, response) => response.end("from-host"));
		await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
		const { port } = server.address() as AddressInfo;
		const child = spawn(
			process.execPath,
			[bin, "run", "--kernel", image.kernel, "--initrd", image.initrd]
				.concat(["--expose", String(port), "--publish", "0:80", "--share", `${folder}:data`])
				.concat(["--append", "console=ttyS0 quiet mitigations=off cryptomgr.notests"]),
			{ env },
		);
		let console = "";
		let published: Promise<string> | undefined;
		const answer = new Promise<string>((resolve, reject) => {
			let hostPort: string | undefined;
			child.stderr.on("data", (chunk: Buffer) => {
				hostPort ??= /published 127\.0\.0\.1:(\d+)/.exec(chunk.toString())?.[1];
			});
			child.stdout.on("data", (chunk: Buffer) => {
				console += chunk.toString();
				if (published !== undefined || !/^listening/m.test(console)) return;
				published = ask(Number(hostPort));
				published.then(resolve, reject);
			});
			child.on("close", (code) => reject(new Error(`ended with ${code}: ${console.slice(-2000)}`)));
		});
		child.stdin.end(SCRIPT.replace("PORT", String(port)));
		const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
		try {
			expect(await answer).toBe("from-guest\n");
			expect(await ended).toBe(0);
			expect(readFileSync(join(folder, "fetched"), "utf8")).toBe("from-host");
			expect(readFileSync(join(folder, "served"), "utf8")).toBe("from-guest\n");
		} finally {
			child.kill("SIGKILL");
			server.close();
		}
	});
});

/** The guest's nc may not listen yet when it says so. */
async function ask(port: number): Promise<string> {
	for (let attempt = 0; ; attempt++) {
		try {
			return await new Promise<string>((resolve, reject) => {
				get({ port, host: "127.0.0.1", agent: false }, (response) => {
					let text = "";
					response.on("data", (chunk: Buffer) => {
						text += chunk.toString();
					});
					response.on("end", () => (text === "" ? reject(new Error("an empty answer")) : resolve(text)));
				}).on("error", reject);
			});
		} catch (error) {
			if (attempt === 50) throw error;
			await new Promise((resolve) => setTimeout(resolve, 200));
		}
	}
}
