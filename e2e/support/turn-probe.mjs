/**
 * Uses a sandbox for all it can do, and says how much processor time the busiest turn of this thread's event loop took.
 * Processor time, for a turn that merely waits for a busy host's scheduler blocks nothing of ours; what waits for files
 * instead is found by Node itself (--trace-sync-io).
 */
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { createSandbox } from "../../packages/kvm-cli/dist/index.js";

const koffi = createRequire(new URL("../../packages/kvm-core/package.json", import.meta.url))("koffi");
const CLOCK_THREAD_CPUTIME_ID = 3;
const clock = koffi.load("libc.so.6").func("int clock_gettime(int clock, void *time)");
const time = new BigInt64Array(2);
const cpuMs = () => {
	clock(CLOCK_THREAD_CPUTIME_ID, time);
	return Number(time[0]) * 1e3 + Number(time[1]) / 1e6;
};

const phases = {};
let phase = "";
let last = cpuMs();
const tick = () => {
	const now = cpuMs();
	phases[phase] = Math.max(phases[phase] ?? 0, now - last);
	last = now;
};
const [image, folder, ownWorkMs] = [JSON.parse(process.argv[2]), process.argv[3], Number(process.argv[4] ?? 0)];
const timer = setInterval(tick, 1);
const during = async (name, work) => {
	phase = name;
	last = cpuMs();
	const result = await work();
	tick();
	return result;
};

const vm = await during("start", () =>
	createSandbox({
		...(image && { image }),
		network: "user",
		mounts: ["one", "two"].map((name) => ({ host: folder, guest: `/mnt/${name}` })),
	}),
);
const bytes = randomBytes(4_000_000);
await during("input", () => vm.exec(["sha256sum"], { stdin: bytes }).output());
await during("output", () => vm.exec("dd if=/dev/zero bs=65536 count=60 2>/dev/null").output());
await during("many commands", () => Promise.all(Array.from({ length: 50 }, () => vm.exec("true").exit)));
await during("files", async () => {
	await vm.files.write("/tmp/file", bytes.subarray(0, 1_000_000));
	await vm.files.read("/tmp/file");
	await vm.files.upload(folder, "/tmp/up");
});
await during("publish", async () => (await vm.publish(80)).close());
await during("close", () => vm.close());
clearInterval(timer);
if (ownWorkMs > 0) {
	// The measure itself can fail.
	await during("own work", async () => {
		for (const end = cpuMs() + ownWorkMs; cpuMs() < end; );
	});
}
process.stdout.write(JSON.stringify(phases));
