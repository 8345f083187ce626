import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm, openKicks } from "../../src/hardware/index.node.ts";
import { openKvm } from "../../src/index.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { realModeGuest } from "./real-mode.ts";

async function hardware(): Promise<Kvm | { reason: string }> {
	try {
		return await openHardwareKvm();
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { reason: error.message };
		throw error;
	}
}

const opened = await hardware();
const reason = "reason" in opened ? ` (${opened.reason})` : "";
const built = fileURLToPath(new URL("../../dist/hardware/index.node.js", import.meta.url));
const builtDefault = fileURLToPath(new URL("../../dist/index.js", import.meta.url));

/** Opens an engine and makes a guest that spins. */
const setup = (engine: "software" | "hardware"): string => `
	const { ${engine === "hardware" ? "openHardwareKvm: open" : "openKvm: open"} } = await import(${JSON.stringify(
		engine === "hardware" ? built : builtDefault,
	)});
	const kvm = await open();
	const vm = kvm.createVm({ memoryBytes: 0x10000 });
	const memory = vm.createMemory(0x10000);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0x10000, memory });
	memory.view(0x1000, 2).set([0xeb, 0xfe]);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
`;

/** Runs it in slices, for ever. */
const spin = (engine: "software" | "hardware"): string => `
	${setup(engine)}
	console.log("spinning");
	const turn = () => { vcpu.run(); setImmediate(turn); };
	turn();
`;

/** The same in a worker that never turns to its event loop, with slices as long as they get. */
const inWorker = (engine: "software" | "hardware"): string => `
	import { Worker } from "node:worker_threads";
	const worker = new Worker(${JSON.stringify(
		`(async () => {${setup(engine)} vcpu.setSlice({ milliseconds: 60000 }); (await import("node:fs")).writeSync(1, "spinning"); for (;;) vcpu.run(); })();`,
	)}, { eval: true });
`;

/** Ends the process by `how`, and says so right before it does. */
const after = (milliseconds: number, how: string): string =>
	`setTimeout(() => { console.log("ending"); ${how}; }, ${milliseconds});`;

/** Milliseconds from `ending` on stdout, or from a signal sent some time after `spinning`, to the end of the process. */
async function timeToEnd(script: string, signal?: NodeJS.Signals): Promise<{ milliseconds: number; ended: string }> {
	const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "ignore"] });
	const ended = new Promise<string>((resolve) => child.on("exit", (code, by) => resolve(String(by ?? code))));
	const said = (word: string): Promise<void> =>
		new Promise((resolve) => child.stdout.on("data", (chunk) => String(chunk).includes(word) && resolve()));
	if (signal === undefined) await Promise.race([said("ending"), ended]);
	else {
		await Promise.race([said("spinning"), ended]);
		await new Promise((resolve) => setTimeout(resolve, 100));
	}
	const before = performance.now();
	if (signal !== undefined) child.kill(signal);
	const watchdog = setTimeout(() => child.kill("SIGKILL"), 5000);
	const how = await ended;
	clearTimeout(watchdog);
	return { milliseconds: performance.now() - before, ended: how };
}

/** The median of three, of which the third is only needed when the others stand on two sides of `bound`. */
async function medianToEnd(bound: number, script: string, signal?: NodeJS.Signals) {
	const times: number[] = [];
	const endings = new Set<string>();
	while (times.length < 3) {
		const { milliseconds, ended } = await timeToEnd(script, signal);
		times.push(milliseconds);
		endings.add(ended);
		if (times.length === 2 && times[0]! < bound === times[1]! < bound) break;
	}
	times.sort((a, b) => a - b);
	return { milliseconds: times[1]!, ended: [...endings].join() };
}

/** Gives the garbage collector a chance: what it frees late is no leak. */
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** The campaign is LIFECYCLE_CYCLES=1000. */
const cycles = Number(process.env["LIFECYCLE_CYCLES"] ?? 100);

for (const { name, kvm, reason: why } of [
	{ name: "software", kvm: openKvm(), reason: "" },
	{ name: "hardware", kvm: "reason" in opened ? undefined : opened, reason },
]) {
	test.skipIf(kvm === undefined)(
		`${cycles} machines made, run and closed leave descriptors, threads and memory as they were: ${name} engine${why}`,
		{ timeout: 60_000 + cycles * 600 },
		async () => {
			const once = (): void => {
				const guest = realModeGuest(kvm!, [0xc6, 0x06, 0x00, 0x50, 1, 0xf4]);
				expect(guest.run()).toEqual({ reason: "hlt" });
				guest.vm.close();
			};
			const status = (field: string): number =>
				Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"))![1]);
			const settle = async (): Promise<void> => {
				for (let i = 0; i < 4; i++) {
					collect();
					await new Promise((resolve) => setTimeout(resolve, 20));
				}
			};
			for (let i = 0; i < 100; i++) once();
			await settle();
			const descriptors = readdirSync("/proc/self/fd").length;
			const threads = status("Threads");
			const resident = status("VmRSS");
			for (let i = 0; i < cycles; i++) {
				once();
				if (i % 50 === 49) await settle();
			}
			await settle();
			expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(descriptors);
			expect(status("Threads")).toBeLessThanOrEqual(threads);
			expect(status("VmRSS") - resident).toBeLessThan(40_000);
		},
	);

	test.skipIf(kvm === undefined)(`close() of a machine that was spinning takes no time: ${name} engine${why}`, () => {
		const guest = realModeGuest(kvm!, [0xeb, 0xfe]);
		for (let i = 0; i < 3; i++) expect(guest.vcpu.run()).toEqual({ reason: "intr" });
		const before = performance.now();
		guest.vm.close();
		expect(performance.now() - before).toBeLessThan(100);
	});
}

describe.skipIf("reason" in opened)(`the hardware engine gives way${reason}`, () => {
	test.skipIf(!existsSync(built))("a guest that spins in a worker is kicked out of its run", async () => {
		const kicks = await openKicks();
		const flags = new Int32Array(new SharedArrayBuffer(8));
		const worker = new Worker(
			`(async () => {${setup("hardware")}
			const { openKicks } = await import(${JSON.stringify(built)});
			const { flags } = require("node:worker_threads").workerData;
			vcpu.setSlice({ milliseconds: 60000 });
			Atomics.store(flags, 0, (await openKicks()).threadId());
			for (;;) {
				vcpu.run();
				Atomics.add(flags, 1, 1);
				Atomics.notify(flags, 1);
			}
		})();`,
			{ eval: true, workerData: { flags } },
		);
		let failure: unknown;
		worker.on("error", (error) => (failure = error));
		while (Atomics.load(flags, 1) === 0 && failure === undefined)
			await new Promise((resolve) => setTimeout(resolve, 5));
		expect(failure).toBeUndefined();
		// By themselves its runs end five times a second.
		const kicked = 40;
		const before = performance.now();
		for (let i = 0; i < kicked; i++) {
			// A kick that comes before KVM_RUN is entered again is none.
			await new Promise((resolve) => setTimeout(resolve, 10));
			const runs = Atomics.load(flags, 1);
			expect(kicks.kick(Atomics.load(flags, 0))).toBe(true);
			Atomics.wait(flags, 1, runs, 1000);
		}
		expect(performance.now() - before).toBeLessThan(kicked * 150);
		await worker.terminate();
		expect(kicks.kick(Atomics.load(flags, 0))).toBe(false);
	});
});

for (const engine of ["software", "hardware"] as const) {
	const lacks = engine === "hardware" ? reason : "";
	const unbuilt = existsSync(built) ? lacks : " (the package is not built)";
	describe.skipIf(unbuilt !== "")(`a process whose guest spins on the ${engine} engine ends at once${unbuilt}`, () => {
		const SPIN = spin(engine);
		const IN_WORKER = inWorker(engine);
		const ends: readonly (readonly [string, string, NodeJS.Signals | undefined, string])[] = [
			["process.exit()", `${SPIN} ${after(150, "process.exit(7)")}`, undefined, "7"],
			["an uncaught exception", `${SPIN} ${after(150, 'throw new Error("stop")')}`, undefined, "1"],
			["SIGINT", SPIN, "SIGINT", "SIGINT"],
			["SIGTERM", SPIN, "SIGTERM", "SIGTERM"],
			["worker.terminate()", `${IN_WORKER} ${after(400, "worker.terminate()")}`, undefined, "0"],
			["process.exit() beside a worker", `${IN_WORKER} ${after(400, "process.exit(7)")}`, undefined, "7"],
			["SIGTERM beside a worker", IN_WORKER, "SIGTERM", "SIGTERM"],
			["an exception beside a worker", `${IN_WORKER} ${after(400, 'throw new Error("stop")')}`, undefined, "1"],
		];
		test.each(ends)("%s", async (_, script, signal, how) => {
			const { milliseconds, ended } = await medianToEnd(1000, script, signal);
			expect(ended).toBe(how);
			expect(milliseconds).toBeLessThan(1000);
		});
	});
}

test.skipIf("reason" in opened || !existsSync(built))(
	`machines are made while signals rain on the thread${reason}`,
	{ timeout: 60_000 },
	async () => {
		const kvm = opened as Kvm;
		const kicks = await openKicks();
		const library = JSON.stringify(built);
		const rain = new Worker(
			`(async () => {
				const { parentPort, workerData } = require("node:worker_threads");
				const kicks = await (await import(${library})).openKicks();
				parentPort.postMessage("raining");
				const clock = new Int32Array(new SharedArrayBuffer(4));
				for (;;) {
					kicks.kick(workerData);
					Atomics.wait(clock, 0, 0, 2);
				}
			})();`,
			{ eval: true, workerData: kicks.threadId() },
		);
		try {
			await new Promise((resolve, reject) => rain.once("message", resolve).once("error", reject));
			for (let made = 0; made < 20; made++) kvm.createVm().close();
		} finally {
			await rain.terminate();
		}
	},
);
