import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { HardwareUnavailableError, openHardwareKvm, openKicks } from "@x/kvm-core/node";
import koffi from "koffi";
import { interleave, median, type Report, type Row, type Suite } from "../suite.ts";

type Kvm = Awaited<ReturnType<typeof openHardwareKvm>>;

const EXITS = 10_000;
/** Many short rounds: a host's speed changes within milliseconds. */
const ROUNDS = 25;
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
		const { vm, vcpu } = guest(kvm, [0xe6, 0x10, 0xeb, 0xfc]);
		const ours = (): number => {
			for (let i = 0; i < 1000; i++) vcpu.run();
			const before = process.hrtime.bigint();
			for (let i = 0; i < EXITS; ) if (vcpu.run().reason === "io") i++;
			return Number(process.hrtime.bigint() - before) / EXITS;
		};
		const sides = [
			{ name: "@x/kvm-core", run: ours },
			...(compiled
				? [{ name: "C", run: () => Number(spawnSync(program, [String(EXITS)], { encoding: "utf8" }).stdout) }]
				: []),
		];
		// The library's code is compiled as it runs, C's is already.
		for (let i = 0; i < 3; i++) ours();
		const figures = await interleave(sides, ROUNDS);
		vm.close();
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

/** How many 10-ms ticks the main thread keeps in a second in which `turn` runs at every turn of the event loop. */
async function ticksKept(turn: () => void): Promise<number> {
	let kept = 0;
	const timer = setInterval(() => kept++, 10);
	const end = performance.now() + 1000;
	await new Promise<void>((resolve) => {
		const next = (): void => {
			turn();
			if (performance.now() < end) setImmediate(next);
			else resolve();
		};
		next();
	});
	clearInterval(timer);
	return kept;
}

/** Ticks beside a spinning guest that the main thread runs in slices. */
async function ticks(kvm: Kvm, report: Report): Promise<void> {
	const rows: Row[] = [];
	for (const milliseconds of [undefined, 3, 5]) {
		const { vm, vcpu } = guest(kvm, [0xeb, 0xfe]);
		if (milliseconds !== undefined) vcpu.setSlice({ milliseconds });
		const kept = await ticksKept(() => vcpu.run());
		vm.close();
		const aim = milliseconds === undefined ? "at least 95" : "-";
		rows.push({
			slices: milliseconds === undefined ? "as the library has them" : `${milliseconds} ms`,
			kept,
			of: 100,
			aim,
		});
	}
	rows.push({ slices: "no guest", kept: await ticksKept(() => undefined), of: 100, aim: "-" });
	report.table("10-ms ticks of the main thread beside a guest that spins there in slices", rows);
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

/** A cpu_set_t of one. */
const onlyCpu = (cpu: number): Uint8Array => {
	const set = new Uint8Array(128);
	set[cpu >> 3] = 1 << (cpu & 7);
	return set;
};

/** Microseconds from a kick to the return of the run in another thread. */
async function kickLatency(report: Report): Promise<void> {
	/** Lets a thread of this process run on some CPUs only; 0 is the calling thread. */
	const pin = koffi.load(null).func("sched_setaffinity", "int", ["int", "size_t", "void *"]);
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
	// A kernel may let both threads wait for one CPU while the other idles: then it is its time slices that are measured.
	const all = new Uint8Array(128).fill(255);
	pin(0, 128, onlyCpu(0));
	pin(Atomics.load(flags, 0), 128, onlyCpu(1));
	for (let i = 0; i < 200; i++) {
		await new Promise((resolve) => setTimeout(resolve, 5));
		const runs = Atomics.load(flags, 1);
		const before = process.hrtime.bigint();
		kicks.kick(Atomics.load(flags, 0));
		while (Atomics.load(flags, 1) === runs);
		samples.push(Number(process.hrtime.bigint() - before) / 1000);
	}
	pin(0, 128, all);
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
