import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openLink } from "../src/index.node.ts";
import type { Link } from "../src/index.ts";
import { missing } from "./support/tools.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-peers-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
let serial = 0;

async function until(condition: () => boolean, what: string): Promise<void> {
	for (let waited = 0; !condition(); waited += 10) {
		if (waited > 20_000) throw new Error(`waited too long for ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

function end(child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
	return new Promise((resolve) => {
		child.once("exit", () => resolve());
		child.kill(signal);
	});
}

const noQemu = missing("qemu-system-x86_64");
describe.skipIf(noQemu !== undefined)(`an unmodified QEMU${because(noQemu)}`, () => {
	/** A machine with no system: its firmware asks DHCP for a boot file, which is traffic enough. */
	const boot = (netdev: string): ChildProcess =>
		spawn(
			"qemu-system-x86_64",
			[
				"-M",
				"pc,accel=tcg",
				"-m",
				"64",
				"-nodefaults",
				"-display",
				"none",
				"-boot",
				"n",
				"-netdev",
				netdev,
				"-device",
				"e1000,netdev=n0,mac=52:54:00:12:34:56",
			],
			{
				stdio: "ignore",
			},
		);

	const hears = async (link: Link): Promise<Uint8Array> => {
		const frames: Uint8Array[] = [];
		link.onFrame = (frame) => frames.push(frame.slice());
		await until(() => frames.length > 0, "a frame from the guest");
		return frames[0]!;
	};

	const isDhcp = (frame: Uint8Array): void => {
		expect([...frame.subarray(0, 14)]).toEqual([255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]);
		expect([frame[23], (frame[36]! << 8) | frame[37]!]).toEqual([17, 67]);
	};

	test("connects to our stream link; a killed one is followed by the next", async () => {
		const path = join(folder, `q${serial++}`);
		const link = await openLink(`qemu-listen:unix:${path}`);
		for (let life = 0; life < 2; life++) {
			const qemu = boot(`stream,id=n0,server=off,addr.type=unix,addr.path=${path}`);
			try {
				isDhcp(await hears(link));
				expect(link.carrier).toBe(true);
			} finally {
				await end(qemu);
			}
			await until(() => link.carrier === false, "the end of the connection");
		}
		link.close();
	});

	test("serves our connecting link, which finds it again after it was killed", async () => {
		const path = join(folder, `q${serial++}`);
		const netdev = `stream,id=n0,server=on,addr.type=unix,addr.path=${path}`;
		let qemu = boot(netdev);
		let link: Link | undefined;
		for (let tries = 0; link === undefined; tries++) {
			await new Promise((resolve) => setTimeout(resolve, 50));
			link = await openLink(`qemu:unix:${path}?reconnect=50`).catch((error) => {
				if (tries > 200) throw error;
				return undefined;
			});
		}
		isDhcp(await hears(link));
		await end(qemu);
		await until(() => link.carrier === false, "the end of the connection");
		rmSync(path, { force: true });
		qemu = boot(netdev);
		try {
			isDhcp(await hears(link));
		} finally {
			await end(qemu);
			link.close();
		}
	});

	test("exchanges datagrams", async () => {
		const [ours, theirs] = [join(folder, `q${serial++}`), join(folder, `q${serial++}`)];
		const link = await openLink(`qemu-dgram:${theirs}?local=${ours}`);
		const qemu = boot(`dgram,id=n0,local.type=unix,local.path=${theirs},remote.type=unix,remote.path=${ours}`);
		try {
			isDhcp(await hears(link));
		} finally {
			await end(qemu);
			link.close();
		}
	});
});

const noPasst = missing("passt");
test.skipIf(noPasst !== undefined)(
	`passt answers ARP over our stream link, again after it was killed${because(noPasst)}`,
	async () => {
		// passt gives up its rights before it makes its socket.
		chmodSync(folder, 0o777);
		const path = join(folder, `p${serial++}`);
		const start = (): ChildProcess =>
			spawn(
				"passt",
				[
					"-f",
					"--runas",
					String(process.getuid?.() === 0 ? 65534 : (process.getuid?.() ?? 0)),
					"-s",
					path,
					"-a",
					"192.0.2.5",
					"-n",
					"24",
					"-g",
					"192.0.2.1",
				],
				{ stdio: ["ignore", "ignore", "pipe"] },
			);
		let passt = start();
		let complaints = "";
		passt.stderr!.on("data", (data) => (complaints += data));
		let link: Link | undefined;
		for (let tries = 0; link === undefined; tries++) {
			await new Promise((resolve) => setTimeout(resolve, 50));
			link = await openLink(`qemu:unix:${path}?reconnect=50`).catch((error) => {
				if (tries <= 60) return undefined;
				passt.kill();
				throw new Error(`${error.message}\n${complaints}`);
			});
		}
		const asks = async (): Promise<void> => {
			const request = new Uint8Array(60);
			request.set([
				255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 5, 192, 0, 2, 5, 0,
				0, 0, 0, 0, 0, 192, 0, 2, 1,
			]);
			let answer: Uint8Array | undefined;
			link.onFrame = (frame) => {
				if (frame[12] === 8 && frame[13] === 6) answer = frame.slice();
			};
			await until(() => link.carrier === true, "the connection");
			const timer = setInterval(() => link.send(request), 50);
			await until(() => answer !== undefined, "an ARP answer").finally(() => clearInterval(timer));
			expect([answer![21], ...answer!.subarray(28, 32)]).toEqual([2, 192, 0, 2, 1]);
		};
		try {
			await asks();
			await end(passt);
			await until(() => link.carrier === false, "the end of the connection");
			rmSync(path, { force: true });
			passt = start();
			await asks();
		} finally {
			link.close();
			await end(passt);
		}
	},
);
