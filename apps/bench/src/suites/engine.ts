import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { openKvm } from "@x/kvm-core";
import { interleave, type Report, type Row, type Suite } from "../suite.ts";

const XKVM = fileURLToPath(new URL("../../../../packages/kvm-cli/bin/xkvm.js", import.meta.url));
const V86 = fileURLToPath(new URL("../engine/v86.mjs", import.meta.url));
const MEBI = 2 ** 20;
/** What the kernel prints right before it starts the first program. */
const INIT = "Run /init as init process";
const LIMIT_MS = 300_000;

/**
 * Guest instructions per second of a loop that works on registers, in 64-bit mode on identity-mapped pages:
 * eight arithmetic instructions, a decrement and a branch.
 */
function registerLoop(): number {
	const kvm = openKvm();
	const vm = kvm.createVm({ memoryBytes: 2 * MEBI });
	const memory = vm.createMemory(2 * MEBI);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 2 * MEBI, memory });
	const bytes = memory.view(0, 2 * MEBI);
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	// PML4, PDPT, one 2-MiB page.
	view.setBigUint64(0x1000, 0x2003n, true);
	view.setBigUint64(0x2000, 0x3003n, true);
	view.setBigUint64(0x3000, 0x83n, true);
	const body = [
		[0x48, 0x01, 0xd8], // add rax, rbx
		[0x48, 0x31, 0xc2], // xor rdx, rax
		[0x48, 0xff, 0xc3], // inc rbx
		[0x48, 0x29, 0xd6], // sub rsi, rdx
		[0x48, 0x21, 0xf7], // and rdi, rsi
		[0x49, 0x01, 0xf8], // add r8, rdi
		[0x4d, 0x09, 0xc1], // or r9, r8
		[0x49, 0xc1, 0xc2, 0x05], // rol r10, 5
		[0x48, 0xff, 0xc9], // dec rcx
	].flat();
	bytes.set([...body, 0x75, 256 - body.length - 2, 0xf4], 0x8000);
	memory.written(0, bytes.length);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	Object.assign(sregs.cs, { base: 0n, limit: 0xffffffff, selector: 8, type: 11, s: 1, l: 1, db: 0, g: 1, present: 1 });
	vcpu.setSregs({ ...sregs, cr0: 0x80000011n, cr3: 0x1000n, cr4: 0x20n, efer: 0x500n });
	vcpu.setSlice({ milliseconds: 50 });
	const start = (rcx: bigint): void => {
		vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x8000n, rcx, rflags: 2n });
		let exit = vcpu.run();
		while (exit.reason === "intr") exit = vcpu.run();
		if (exit.reason !== "hlt") throw new Error(`the loop ended with ${exit.reason}`);
	};
	start(1_000_000n);
	const before = vcpu.instructionsRetired ?? 0;
	const from = performance.now();
	start(10_000_000n);
	const seconds = (performance.now() - from) / 1000;
	const rate = ((vcpu.instructionsRetired ?? 0) - before) / seconds;
	vm.close();
	kvm.close();
	return rate / 1e6;
}

/** Seconds from the start of a program until it prints `mark`; the program is ended then. */
function secondsTo(mark: string, command: string, args: readonly string[]): Promise<number> {
	return new Promise((resolve, reject) => {
		const from = performance.now();
		const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
		let seen = "";
		const watchdog = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
		child.stdout.on("data", (bytes: Buffer) => {
			seen = (seen + bytes.toString("latin1")).slice(-4000);
			if (!seen.includes(mark)) return;
			resolve((performance.now() - from) / 1000);
			child.kill("SIGKILL");
		});
		child.stderr.on("data", (bytes: Buffer) => {
			seen = (seen + bytes.toString("latin1")).slice(-4000);
		});
		child.on("error", reject);
		child.on("exit", () => {
			clearTimeout(watchdog);
			reject(new Error(`${command} ended before "${mark}"; its last words: ${seen.slice(-400)}`));
		});
	});
}

interface Image {
	kernel: string;
	initrd: string;
}

/** BENCH_KERNEL and BENCH_INITRD, or xkvm's default image where it has been built. */
function image(): Image | undefined {
	const { env } = process;
	if (env["BENCH_KERNEL"] !== undefined && env["BENCH_INITRD"] !== undefined) {
		return { kernel: env["BENCH_KERNEL"], initrd: env["BENCH_INITRD"] };
	}
	const listed = spawnSync(process.execPath, [XKVM, "image", "list", "--json"], { encoding: "utf8" });
	if (listed.status !== 0) return undefined;
	const { images } = JSON.parse(listed.stdout) as { images?: readonly Image[] };
	return images?.[0];
}

async function powerOnToInit(report: Report): Promise<void> {
	const found = image();
	if (found === undefined) {
		report.note("no kernel: set BENCH_KERNEL and BENCH_INITRD, or build the default image with `xkvm image build`");
		return;
	}
	const common = ["--kernel", found.kernel, "--initrd", found.initrd, "--memory", "256", "--append", "console=ttyS0"];
	const qemu = spawnSync("qemu-system-x86_64", ["--version"]).status === 0;
	if (!qemu) report.note("no qemu-system-x86_64: the engine's figure stands alone");
	const sides = [
		{
			name: "xkvm",
			run: () => secondsTo(INIT, process.execPath, [XKVM, "run", "--engine", "software", "--net", "none", ...common]),
		},
		...(qemu
			? [
					{
						name: "qemu -accel tcg",
						run: () =>
							secondsTo(INIT, "qemu-system-x86_64", [
								...["-accel", "tcg", "-m", "256", "-display", "none", "-serial", "stdio", "-no-reboot", "-net", "none"],
								...["-kernel", found.kernel, "-initrd", found.initrd, "-append", "console=ttyS0"],
							]),
					},
				]
			: []),
	];
	const figures = await interleave(sides, Number(process.env["BENCH_ROUNDS"] ?? 5));
	const tcg = figures.get("qemu -accel tcg");
	report.table(
		"power-on to /init",
		[...figures].map(
			([name, seconds]): Row => ({
				engine: name,
				seconds: seconds.toFixed(2),
				"times TCG": tcg === undefined ? "-" : (seconds / tcg).toFixed(2),
			}),
		),
	);
}

/** The same loop in 32-bit code on v86, where that is installed. */
function v86RegisterLoop(): number | undefined {
	const { status, stdout } = spawnSync(process.execPath, [V86], { encoding: "utf8", timeout: 60_000 });
	return status === 0 ? Number(stdout) : undefined;
}

const suite: Suite = async (report) => {
	const v86 = v86RegisterLoop() !== undefined;
	if (!v86) report.note("no v86 (npm install --no-save v86): the engine's loop stands alone");
	const rates = await interleave([
		{ name: "@x/kvm-core, 64-bit, interpreted", run: registerLoop },
		...(v86 ? [{ name: "v86, 32-bit, compiled", run: () => v86RegisterLoop() ?? Number.NaN }] : []),
	]);
	report.table(
		"register loop",
		[...rates].map(([name, rate]) => ({ engine: name, "million instructions/s": Math.round(rate) })),
	);
	await powerOnToInit(report);
};

export default suite;
