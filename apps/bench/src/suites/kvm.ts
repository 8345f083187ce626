import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { HardwareUnavailableError, openHardwareKvm, openKicks } from "@x/kvm-core/node";
import { interleave, median, type Report, type Suite } from "../suite.ts";

type Kvm = Awaited<ReturnType<typeof openHardwareKvm>>;

const ROUNDS = 20_000;
const CODE = 0x1000;

/** A guest in real mode, ready to run. */
function guest(kvm: Kvm, code: readonly number[]) {
	const vm = kvm.createVm();
	const memory = vm.createMemory(0x10000);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0x10000, memory });
	memory.view(CODE, code.length).set(code);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
	return { vm, vcpu };
}

/** Nanoseconds of a port write's way out to the embedder and back. */
async function roundTrips(kvm: Kvm, report: Report): Promise<void> {
	const folder = mkdtempSync(join(tmpdir(), "bench-kvm-"));
	try {
		const program = join(folder, "pio");
		const source = fileURLToPath(new URL("../kvm/pio.c", import.meta.url));
		const compiled = spawnSync("cc", ["-O2", "-o", program, source]).status === 0;
		if (!compiled) report.note("no C compiler: the library's figure stands alone");
		const ours = (): number => {
			const { vm, vcpu } = guest(kvm, [0xe6, 0x10, 0xeb, 0xfc]);
			for (let i = 0; i < 1000; i++) vcpu.run();
			const before = process.hrtime.bigint();
			for (let i = 0; i < ROUNDS; ) if (vcpu.run().reason === "io") i++;
			const nanoseconds = Number(process.hrtime.bigint() - before) / ROUNDS;
			vm.close();
			return nanoseconds;
		};
		const sides = [
			{ name: "@x/kvm-core", run: ours },
			...(compiled
				? [{ name: "C", run: () => Number(spawnSync(program, [String(ROUNDS)], { encoding: "utf8" }).stdout) }]
				: []),
		];
		const figures = await interleave(sides);
		const c = figures.get("C");
		report.table(
			"port I/O round trip",
			[...figures].map(([name, value]) => ({
				side: name,
				nanoseconds: Math.round(value),
				"times C": c === undefined ? "-" : (value / c).toFixed(2),
				aim: name === "C" ? "-" : "at most 1.05",
			})),
		);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

/** How many 10-ms ticks the main thread keeps while it runs a spinning guest in slices. */
async function ticks(kvm: Kvm, report: Report): Promise<void> {
	const { vm, vcpu } = guest(kvm, [0xeb, 0xfe]);
	vcpu.setSlice({ milliseconds: 3 });
	let kept = 0;
	const timer = setInterval(() => kept++, 10);
	const end = performance.now() + 1000;
	await new Promise<void>((resolve) => {
		const turn = (): void => {
			vcpu.run();
			if (performance.now() < end) setImmediate(turn);
			else resolve();
		};
		turn();
	});
	clearInterval(timer);
	vm.close();
	report.table("10-ms ticks of the main thread beside a guest that spins there in slices of 3 ms", [
		{ kept, of: 100, aim: "at least 95" },
	]);
}

/** A worker whose guest spins: counts in `flags[1]` how often its run returned; `flags[0]` is its thread. */
const SPINNER = `(async () => {
	const { flags, library } = require("node:worker_threads").workerData;
	const { openHardwareKvm, openKicks } = await import(library);
	const kvm = await openHardwareKvm();
	const vm = kvm.createVm();
	const memory = vm.createMemory(0x10000);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0x10000, memory });
	memory.view(0x1000, 2).set([0xeb, 0xfe]);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
	vcpu.setSlice({ milliseconds: 200 });
	Atomics.store(flags, 0, (await openKicks()).threadId());
	for (;;) {
		vcpu.run();
		Atomics.add(flags, 1, 1);
	}
})();`;

/** Microseconds from a kick to the return of the run in another thread. */
async function kickLatency(report: Report): Promise<void> {
	const kicks = await openKicks();
	const flags = new Int32Array(new SharedArrayBuffer(16));
	const worker = new Worker(SPINNER, {
		eval: true,
		workerData: { flags, library: import.meta.resolve("@x/kvm-core/node") },
	});
	worker.on("error", (error) => {
		throw error;
	});
	const samples: number[] = [];
	while (Atomics.load(flags, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
	for (let i = 0; i < 60; i++) {
		await new Promise((resolve) => setTimeout(resolve, 5));
		const runs = Atomics.load(flags, 1);
		const before = process.hrtime.bigint();
		kicks.kick(Atomics.load(flags, 0));
		while (Atomics.load(flags, 1) === runs);
		samples.push(Number(process.hrtime.bigint() - before) / 1000);
	}
	await worker.terminate();
	samples.sort((a, b) => a - b);
	report.table("kick of a guest that spins in another thread", [
		{
			"median us": Math.round(median(samples)),
			"90 % us": Math.round(samples[Math.floor(samples.length * 0.9)]!),
			aim: "150 when a core is free",
		},
	]);
}

const suite: Suite = async (report) => {
	let kvm: Kvm;
	try {
		kvm = await openHardwareKvm();
	} catch (error) {
		if (!(error instanceof HardwareUnavailableError)) throw error;
		report.note(`skipped: ${error.message}`);
		return;
	}
	await roundTrips(kvm, report);
	await ticks(kvm, report);
	await kickLatency(report);
	kvm.close();
};

export default suite;
