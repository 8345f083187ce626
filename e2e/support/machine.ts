import { randomFillSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { IMAGE_COMMAND_LINE, overlayInitrd } from "../../packages/kvm-cli/src/guest/overlay.ts";
import type * as Core from "../../packages/kvm-core/src/index.ts";
import type { Image } from "./images.ts";

/** What is built, by Node's own import: vitest rewrites what it imports, which makes the engine some times slower. */
const importBuilt = (url: string): Promise<typeof Core> =>
	import(/* @vite-ignore */ `data:text/javascript,export * from ${JSON.stringify(url)}`);

/** How a script in a guest ended; `code` is undefined when the guest went down first. */
export interface GuestResult {
	code: number | undefined;
	stdout: string;
	stderr: string;
	/** The last of what was on the serial console. */
	console: string;
}

/** Runs a shell script in an image's guest with more devices than the command has, in this process. */
export async function runInGuest(
	image: Image,
	script: string,
	options: { devices?: readonly Core.VirtioDevice[]; memoryMib?: number; onStdout?: (text: string) => void } = {},
): Promise<GuestResult> {
	const core = await importBuilt(new URL("../../packages/kvm-core/dist/index.js", import.meta.url).href);
	const output = { "xkvm.stdout": "", "xkvm.stderr": "", "xkvm.control": "", serial: "" };
	const port = (name: "xkvm.stdout" | "xkvm.stderr" | "xkvm.control") => ({
		name,
		output: (bytes: Uint8Array) => {
			const text = Buffer.from(bytes).toString("latin1");
			output[name] += text;
			if (name === "xkvm.stdout") options.onStdout?.(text);
		},
	});
	const consoleDevice = new core.VirtioConsole([
		{ name: "xkvm.stdin", output: () => undefined },
		port("xkvm.stdout"),
		port("xkvm.stderr"),
		port("xkvm.control"),
	]);
	consoleDevice.setOpen(0, false);
	const now = (): number => performance.now() * 1e6;
	const kvm = core.openKvm();
	try {
		const machine = core.createMachine({
			kvm,
			memoryBytes: (options.memoryMib ?? 256) * 2 ** 20,
			now,
			epochSeconds: Math.floor(Date.now() / 1000),
			scheduler: core.createEventLoopScheduler(),
			onSerial: (bytes) => {
				output.serial = (output.serial + Buffer.from(bytes).toString("latin1")).slice(-8192);
			},
			virtio: [consoleDevice, new core.VirtioRng((bytes) => randomFillSync(bytes)), ...(options.devices ?? [])],
		});
		const plan = core.planBoot(await core.loadKernel(readFileSync(image.kernel)), {
			memoryMap: machine.memoryMap,
			commandLine: IMAGE_COMMAND_LINE.join(" "),
			rsdpAddress: machine.prepareWithoutFirmware(),
			initrd: overlayInitrd(readFileSync(image.initrd), [], ["sh", "-c", script]),
		});
		core.applyBootPlan(plan, machine, machine.vcpus[0]!);
		await machine.run();
		machine.close();
	} finally {
		kvm.close();
	}
	const code = /^exit (\d+)$/m.exec(output["xkvm.control"])?.[1];
	return {
		code: code === undefined ? undefined : Number(code),
		stdout: output["xkvm.stdout"],
		stderr: output["xkvm.stderr"],
		console: output.serial,
	};
}
