import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createSandbox } from "@x/kvm-cli";
import { interleave, type Report, type Row, type Side, type Suite } from "../suite.ts";

const XKVM = fileURLToPath(new URL("../../../../packages/kvm-cli/bin/xkvm.js", import.meta.url));
const USTACK = fileURLToPath(new URL("../../../../packages/ustack/bin/ustack.js", import.meta.url));
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 3);
const MIB = Number(process.env["BENCH_MIB"] ?? 32);
const LIMIT_MS = 600_000;
const COMMAND_LINE = "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off";

interface Image {
	kernel: string;
	initrd: string;
}

/** xkvm's default image, built when it is missing. */
function image(): Image | undefined {
	const built = spawnSync(process.execPath, [XKVM, "image", "build", "--json"], { encoding: "utf8" });
	return built.status === 0 ? (JSON.parse(built.stdout) as { image: Image }).image : undefined;
}

function has(program: string): boolean {
	return spawnSync(program, ["--version"]).error === undefined;
}

/** Milliseconds until a program has ended well. */
async function millisecondsOf(command: string, args: readonly string[]): Promise<number> {
	const from = performance.now();
	const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], timeout: LIMIT_MS });
	const [code] = (await once(child, "exit")) as [number | null];
	if (code !== 0) throw new Error(`${command} ended with ${code}`);
	return performance.now() - from;
}

/** From the command to its exit, beside QEMU's translator with the same kernel and a guest that only switches itself off. */
async function startUp(report: Report, { kernel, initrd }: Image): Promise<void> {
	const run = [XKVM, "run", "--engine", "software"];
	const xkvm = (...options: string[]): Side => ({
		name: ["xkvm run", ...options, "-- true"].join(" "),
		run: () => millisecondsOf(process.execPath, [...run, ...options, "--", "true"]),
	});
	// What is kept of a first start is there before the first round.
	await xkvm().run();
	const figures = await interleave(
		[
			xkvm(),
			xkvm("--no-snapshot"),
			...(has("qemu-system-x86_64")
				? [
						{
							name: "qemu-system-x86_64 -accel tcg, power off",
							run: () =>
								millisecondsOf("qemu-system-x86_64", [
									...[
										"-accel",
										"tcg",
										"-m",
										"256",
										"-display",
										"none",
										"-serial",
										"null",
										"-no-reboot",
										"-net",
										"none",
									],
									...["-kernel", kernel, "-initrd", initrd],
									...["-append", `${COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f`],
								]),
						},
					]
				: []),
		],
		ROUNDS,
	);
	const tcg = figures.get("qemu-system-x86_64 -accel tcg, power off");
	report.table(
		"from the command to its exit",
		[...figures].map(
			([side, ms]): Row => ({
				side,
				seconds: (ms / 1000).toFixed(2),
				"times TCG": tcg === undefined ? "-" : (ms / tcg).toFixed(2),
			}),
		),
	);
	for (const options of [[], ["--no-snapshot"]]) {
		const args = [...run, ...options, "--json", "--timings", "--", "true"];
		const timed = spawnSync(process.execPath, args, { encoding: "utf8" });
		const line = timed.stdout.split("\n").find((text) => text.includes('"timings"'));
		if (line === undefined) return;
		const { steps } = JSON.parse(line) as { steps: { moment: string; ms: number }[] };
		report.table(
			`where it goes (${["xkvm run", ...options, "--timings -- true"].join(" ")})`,
			steps.map(({ moment, ms }) => ({ until: moment, ms })),
		);
	}
}

/** Hands out bytes, takes bytes, and knows when a guest began and ended with them. */
class Meter {
	readonly #bytes = randomBytes(MIB * 2 ** 20);
	readonly #server: Server;
	#from = 0;
	readonly #figures = new Map<string, (rate: number) => void>();

	constructor() {
		this.#server = createServer((request, response) => {
			const { pathname } = new URL(request.url!, "http://meter");
			request.resume();
			request.on("end", () => {
				if (pathname === "/begin") this.#from = performance.now();
				if (pathname === "/file") response.end(this.#bytes);
				else response.end("ok\n");
				if (pathname === "/end-down" || pathname === "/end-up") {
					const seconds = (performance.now() - this.#from) / 1000;
					this.#figures.get(pathname.slice(5))?.((MIB * 8 * 2 ** 20) / 1e6 / seconds);
				}
			});
		});
	}

	async listen(): Promise<number> {
		this.#server.listen(0, "127.0.0.1");
		await once(this.#server, "listening");
		return (this.#server.address() as AddressInfo).port;
	}

	/** Resolves to megabits a second of the next transfer in a direction. */
	next(direction: "down" | "up"): Promise<number> {
		return new Promise((resolve) => this.#figures.set(direction, resolve));
	}

	close(): void {
		this.#server.close();
		this.#server.closeAllConnections();
	}
}

/** What a guest does: a file down and a file up, the first request apart. */
function transfers(base: string): string {
	return `dd if=/dev/zero bs=1M count=${MIB} 2>/dev/null | tr '\\0' 'x' >/tmp/up
wget -q -O /dev/null ${base}/warm
wget -q -O /dev/null ${base}/begin
wget -q -O /dev/null ${base}/file
wget -q -O /dev/null ${base}/end-down
wget -q -O /dev/null ${base}/begin
wget -q -O /dev/null --post-file=/tmp/up ${base}/put
wget -q -O /dev/null ${base}/end-up
`;
}

/** Puts an /init that only measures behind an image's initrd. */
function measuringInitrd(folder: string, initrd: string, port: number): string {
	const script = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mkdir -p /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
modprobe virtio_pci
modprobe virtio_net
ip link set lo up
ip link set eth0 up
# As any distribution's client: address, router, and the MTU if one is offered.
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
[ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
ip addr add "$ip/\${mask:-24}" dev eth0
ip route add default via "\${router%% *}"
END
chmod +x /tmp/lease
udhcpc -i eth0 -n -q -t 20 -T 1 -O mtu -s /tmp/lease >/dev/null
${transfers(`http://10.0.2.2:${port}`)}
poweroff -f
`;
	writeFileSync(join(folder, "measure"), script, { mode: 0o755 });
	const archive = spawnSync("cpio", ["-o", "-H", "newc", "--quiet"], { cwd: folder, input: "measure\n" });
	const target = join(folder, "initrd");
	copyFileSync(initrd, target);
	const base = readFileSync(target);
	const padding = Buffer.alloc((4 - (base.length % 4)) % 4);
	writeFileSync(target, Buffer.concat([base, padding, archive.stdout]));
	return target;
}

type Rates = { down: number; up: number };

/** Starts QEMU with a network and measures both directions. */
async function qemuRates(
	meter: Meter,
	{ kernel }: Image,
	initrd: string,
	network: readonly string[],
	helper?: ChildProcess,
): Promise<Rates> {
	const figures = Promise.all([meter.next("down"), meter.next("up")]);
	const child = spawn(
		"qemu-system-x86_64",
		[
			...["-accel", "tcg", "-m", "512", "-display", "none", "-serial", "null", "-no-reboot"],
			...["-kernel", kernel, "-initrd", initrd, "-append", `${COMMAND_LINE} rdinit=/measure`],
			...[...network, "-device", "virtio-net-pci,netdev=n0"],
		],
		{ stdio: ["ignore", "ignore", "inherit"], timeout: LIMIT_MS },
	);
	const ended = once(child, "exit").then(() => {
		throw new Error("the guest ended before it had measured");
	});
	ended.catch(() => {});
	try {
		const [down, up] = await Promise.race([figures, ended]);
		return { down, up };
	} finally {
		child.kill("SIGKILL");
		helper?.kill("SIGKILL");
	}
}

/** Waits until a program listens on a socket. */
async function listening(child: ChildProcess, path: string): Promise<void> {
	child.stderr?.resume();
	while (!existsSync(path)) {
		if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended before it listened`);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

async function throughput(report: Report, found: Image): Promise<void> {
	const folder = mkdtempSync(join(tmpdir(), "xkvm-bench-"));
	const meter = new Meter();
	const port = await meter.listen();
	const measured = new Map<string, Rates[]>();
	const side = (name: string, measure: () => Promise<Rates>): Side => ({
		name,
		async run() {
			const rates = await measure().catch((error: unknown) => {
				throw new Error(`${name}: ${String(error)}`, { cause: error });
			});
			measured.set(name, [...(measured.get(name) ?? []), rates]);
			return rates.down;
		},
	});
	try {
		const initrd = measuringInitrd(folder, found.initrd, port);
		const sides = [
			side("xkvm's guest, our gateway", async () => {
				const figures = Promise.all([meter.next("down"), meter.next("up")]);
				await using vm = await createSandbox({
					image: found,
					memoryMiB: 512,
					engine: "software",
					network: { expose: [{ port, hostPort: port }] },
				});
				const { code } = await vm.exec(transfers(`http://10.0.2.2:${port}`)).exit;
				if (code !== 0) throw new Error(`the guest's script ended with ${code}`);
				const [down, up] = await figures;
				return { down, up };
			}),
		];
		if (has("qemu-system-x86_64")) {
			sides.push(
				side("QEMU TCG, slirp", () => qemuRates(meter, found, initrd, ["-netdev", "user,id=n0"])),
				side("QEMU TCG, our gateway", async () => {
					const path = join(folder, `gateway-${randomBytes(4).toString("hex")}`);
					const args = [
						USTACK,
						"gateway",
						"--link",
						// What the stream carries in one frame, as passt offers it.
						`qemu-listen:unix:${path}?mtu=65520`,
						"--expose",
						`${port}:127.0.0.1:${port}`,
					];
					const gateway = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
					const peer = ["-netdev", `stream,id=n0,server=off,addr.type=unix,addr.path=${path}`];
					await listening(gateway, path);
					return qemuRates(meter, found, initrd, peer, gateway);
				}),
			);
		} else report.note("no qemu-system-x86_64: nothing to compare throughput with");
		if (has("qemu-system-x86_64") && has("passt")) {
			sides.push(
				side("QEMU TCG, passt", async () => {
					const path = join(folder, `passt-${randomBytes(4).toString("hex")}`);
					const addresses = ["--address", "10.0.2.15", "--netmask", "255.255.255.0", "--gateway", "10.0.2.2"];
					const own = process.getuid?.() === 0 ? ["--runas", "0:0"] : [];
					const args = ["--foreground", "--one-off", "--ipv4-only", "--socket", path, ...addresses, ...own];
					const passt = spawn("passt", args, { stdio: ["ignore", "ignore", "pipe"] });
					await listening(passt, path);
					const peer = ["-netdev", `stream,id=n0,server=off,addr.type=unix,addr.path=${path}`];
					return qemuRates(meter, found, initrd, peer, passt);
				}),
			);
		} else report.note("no passt");
		await interleave(sides, ROUNDS);
	} finally {
		meter.close();
		rmSync(folder, { recursive: true });
	}
	const medianOf = (name: string, direction: keyof Rates): number => {
		const sorted = (measured.get(name) ?? []).map((rates) => rates[direction]).sort((a, b) => a - b);
		return sorted[sorted.length >> 1] ?? Number.NaN;
	};
	const ratio = (name: string, other: string, direction: keyof Rates): string =>
		measured.has(other) ? (medianOf(name, direction) / medianOf(other, direction)).toFixed(2) : "-";
	report.table(
		`guest's throughput, ${MIB} MiB by wget (aim: QEMU behind our gateway at 1.0 of slirp or more)`,
		[...measured.keys()].map((name) => ({
			side: name,
			"down Mbit/s": medianOf(name, "down").toFixed(0),
			"up Mbit/s": medianOf(name, "up").toFixed(0),
			"down / slirp": ratio(name, "QEMU TCG, slirp", "down"),
			"up / slirp": ratio(name, "QEMU TCG, slirp", "up"),
			"down / passt": ratio(name, "QEMU TCG, passt", "down"),
			"up / passt": ratio(name, "QEMU TCG, passt", "up"),
		})),
	);
}

const PARTS: Record<string, (report: Report, found: Image) => Promise<void>> = { start: startUp, throughput };

/** `--only=start` or `--only=throughput`; without it both. */
function wantedParts(): string[] {
	const only = process.argv.find((word) => word.startsWith("--only="))?.slice("--only=".length);
	if (only === undefined) return Object.keys(PARTS);
	const names = only.split(",");
	const unknown = names.filter((name) => !(name in PARTS));
	if (unknown.length > 0) throw new Error(`--only=${only}: expected some of ${Object.keys(PARTS).join(",")}`);
	return names;
}

const suite: Suite = async (report) => {
	const parts = wantedParts();
	const found = image();
	if (found === undefined) {
		report.note("no image: `xkvm image build` says why");
		return;
	}
	for (const part of parts) await PARTS[part]!(report, found);
};

export default suite;
