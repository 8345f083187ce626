import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm, openKicks } from "../../src/hardware/index.node.ts";
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

/** Opens the device and makes a guest that spins. */
const SETUP = `
	const { openHardwareKvm } = await import(${JSON.stringify(built)});
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
`;

/** Runs it in slices, for ever. */
const SPIN = `
	${SETUP}
	console.log("spinning");
	const turn = () => { vcpu.run(); setImmediate(turn); };
	turn();
`;

const IN_WORKER = `
	import { Worker } from "node:worker_threads";
	const worker = new Worker(${JSON.stringify(`(async () => {${SPIN}})();`)}, { eval: true });
`;

/** Milliseconds from `spinning` on stdout, or from the signal sent then, to the end of the process. */
async function timeToEnd(script: string, signal?: NodeJS.Signals): Promise<{ milliseconds: number; ended: string }> {
	const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "ignore"] });
	const ended = new Promise<string>((resolve) => child.on("exit", (code, by) => resolve(String(by ?? code))));
	await new Promise((resolve) => child.stdout.once("data", resolve));
	await new Promise((resolve) => setTimeout(resolve, 100));
	const before = performance.now();
	if (signal !== undefined) child.kill(signal);
	const watchdog = setTimeout(() => child.kill("SIGKILL"), 5000);
	const how = await ended;
	clearTimeout(watchdog);
	return { milliseconds: performance.now() - before, ended: how };
}

describe.skipIf("reason" in opened)(`the hardware engine gives everything back${reason}`, () => {
	test("300 machines made, run and closed leave descriptors, threads and memory as they were", () => {
		const kvm = opened as Kvm;
		const once = (): void => {
			const guest = realModeGuest(kvm, [0xc6, 0x06, 0x00, 0x50, 1, 0xf4]);
			expect(guest.run()).toEqual({ reason: "hlt" });
			guest.vm.close();
		};
		const status = (name: string): number =>
			Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"))![1]);
		for (let i = 0; i < 50; i++) once();
		const descriptors = readdirSync("/proc/self/fd").length;
		const threads = status("Threads");
		const resident = status("VmRSS");
		for (let i = 0; i < 300; i++) once();
		expect(readdirSync("/proc/self/fd").length).toBe(descriptors);
		expect(status("Threads")).toBeLessThanOrEqual(threads);
		expect(status("VmRSS") - resident).toBeLessThan(40_000);
	});

	test("close() of a machine that was spinning takes no time", () => {
		const guest = realModeGuest(opened as Kvm, [0xeb, 0xfe]);
		for (let i = 0; i < 3; i++) expect(guest.vcpu.run()).toEqual({ reason: "intr" });
		const before = performance.now();
		guest.vm.close();
		expect(performance.now() - before).toBeLessThan(100);
	});

	test.skipIf(!existsSync(built))("a guest that spins in a worker is kicked out of its run", async () => {
		const kicks = await openKicks();
		const worker = new Worker(
			`(async () => {${SETUP}
			const { openKicks } = await import(${JSON.stringify(built)});
			const { parentPort } = require("node:worker_threads");
			vcpu.setSlice({ milliseconds: 4000 });
			parentPort.postMessage((await openKicks()).threadId());
			parentPort.postMessage(vcpu.run().reason);
			process.exit();
		})();`,
			{ eval: true, stdout: true },
		);
		const messages: unknown[] = [];
		const exited = new Promise((resolve) => worker.once("exit", resolve));
		let failure: unknown;
		worker.on("message", (message) => messages.push(message));
		worker.on("error", (error) => (failure = error));
		const wait = async (count: number): Promise<void> => {
			while (messages.length < count && failure === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
		};
		await wait(1);
		expect(failure).toBeUndefined();
		await new Promise((resolve) => setTimeout(resolve, 100));
		const before = performance.now();
		expect(kicks.kick(messages[0] as number)).toBe(true);
		await wait(2);
		expect(messages[1]).toBe("intr");
		expect(performance.now() - before).toBeLessThan(1000);
		await exited;
		expect(kicks.kick(messages[0] as number)).toBe(false);
	});

	const unbuilt = existsSync(built) ? "" : " (the package is not built)";
	describe.skipIf(unbuilt !== "")(`a process whose guest spins ends at once${unbuilt}`, () => {
		const ends: readonly (readonly [string, string, NodeJS.Signals | undefined, string])[] = [
			["process.exit()", `${SPIN} setTimeout(() => process.exit(7), 150);`, undefined, "7"],
			["an uncaught exception", `${SPIN} setTimeout(() => { throw new Error("stop"); }, 150);`, undefined, "1"],
			["SIGINT", SPIN, "SIGINT", "SIGINT"],
			["SIGTERM", SPIN, "SIGTERM", "SIGTERM"],
			["worker.terminate()", `${IN_WORKER} setTimeout(() => worker.terminate(), 400);`, undefined, "0"],
			["process.exit() beside a worker", `${IN_WORKER} setTimeout(() => process.exit(7), 400);`, undefined, "7"],
		];
		for (const [name, script, signal, how] of ends) {
			test(name, async () => {
				const { milliseconds, ended } = await timeToEnd(script, signal);
				expect(ended).toBe(how);
				expect(milliseconds).toBeLessThan(1500);
			});
		}
	});
});
