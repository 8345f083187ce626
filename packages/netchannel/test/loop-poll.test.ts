import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { holdDescriptor, type Koffi, type Libc, loadLibc, releaseDescriptor } from "../src/native/libc.node.ts";
import { loopPoll } from "../src/native/loop-poll.node.ts";

const notLinux = process.platform !== "linux" ? `this is ${process.platform}` : undefined;
const dist = new URL("../dist/index.node.js", import.meta.url);
const noBuild = notLinux ?? (existsSync(fileURLToPath(dist)) ? undefined : "not built: pnpm build");
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
const until = async (condition: () => boolean): Promise<void> => {
	for (let waited = 0; !condition(); waited++) {
		if (waited > 2000) throw new Error("waited too long");
		await turn();
	}
};

const EFD_NONBLOCK_CLOEXEC = 0x80800;
const ONE = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
const bell = (libc: Libc): number => holdDescriptor(libc, libc.eventfd(0, EFD_NONBLOCK_CLOEXEC));
const koffiOf = async (): Promise<Koffi> => ((await import("koffi")) as unknown as { default: Koffi }).default;

describe.skipIf(notLinux !== undefined)(`the event loop's own poll handles${because(notLinux)}`, () => {
	test("are what this Node.js uses, and not koffi's", async () => {
		const libc = await loadLibc();
		expect(libc.watch).toBeTypeOf("function");
		expect(libc.watch).not.toBe((await koffiOf()).node?.poll);
	});

	test("call for as long as there is something to read, through collections of garbage", async () => {
		const libc = await loadLibc();
		const fd = bell(libc);
		const counter = new Uint8Array(8);
		let calls = 0;
		let taken = 0;
		const handle = libc.watch!(fd, { readable: true }, () => {
			calls++;
			if (calls % 3 === 0 && libc.read(fd, counter, 8) === 8) taken++;
		});
		setFlagsFromString("--expose-gc");
		const collectGarbage = runInNewContext("gc") as () => void;
		for (let round = 1; round <= 5; round++) {
			collectGarbage();
			libc.write(fd, ONE, 8);
			await until(() => taken === round);
			await turn();
			// Level-triggered, and silent once read.
			expect(calls).toBe(3 * round);
		}
		handle.close();
		releaseDescriptor(fd);
	});

	test("change what they wait for, and who is called", async () => {
		const libc = await loadLibc();
		const fd = bell(libc);
		const said: string[] = [];
		const handle = libc.watch!(fd, { readable: true }, () => said.push("first"));
		await turn();
		expect(said).toEqual([]);
		handle.start({ readable: true, writable: true }, () => {
			said.push("writable");
			handle.start({ readable: true }, () => said.push("again"));
		});
		await until(() => said.length > 0);
		await turn();
		expect(said).toEqual(["writable"]);
		handle.close();
		releaseDescriptor(fd);
	});

	test("are closed inside their own call, twice, with their descriptor, a thousand of them", async () => {
		const libc = await loadLibc();
		let calls = 0;
		for (let count = 0; count < 1000; count++) {
			const fd = bell(libc);
			libc.write(fd, ONE, 8);
			const handle = libc.watch!(fd, { readable: true }, () => {
				calls++;
				handle.close();
				handle.close();
				releaseDescriptor(fd);
			});
			if (count % 100 === 99) await turn();
		}
		await until(() => calls === 1000);
		for (let turns = 0; turns < 5; turns++) await turn();
		expect(calls).toBe(1000);
	});

	test("say that a descriptor cannot be polled", async () => {
		const libc = await loadLibc();
		const fd = holdDescriptor(libc, libc.open("/proc/self/status", 0x80000));
		expect(() => libc.watch!(fd, { readable: true }, () => {})).toThrow(/uv_poll_init/);
		releaseDescriptor(fd);
	});

	test("give way to koffi's where Node.js exports none, and where the loop is another", async () => {
		const koffi = await koffiOf();
		const none: Koffi = {
			...koffi,
			load: () => ({
				func(name: string): never {
					throw new Error(`no ${name}`);
				},
			}),
		};
		expect(loopPoll(none)).toBe(koffi.node?.poll);
		const lib = koffi.load(null);
		const idle: Koffi = {
			...koffi,
			load: () =>
				({
					func: (name: string, ...rest: unknown[]) =>
						name.includes("uv_loop_alive") ? () => 0 : (lib.func as (...all: unknown[]) => unknown)(name, ...rest),
				}) as ReturnType<Koffi["load"]>,
		};
		expect(loopPoll(idle)).toBe(koffi.node?.poll);
	});
});

describe.skipIf(noBuild !== undefined)(`a process with a watched link${because(noBuild)}`, () => {
	const run = (body: string): { status: number | null; output: string } => {
		const program = `
			import { openUdpBatch } from ${JSON.stringify(dist.href)};
			const loopback = { host: "127.0.0.1", port: 0 };
			const link = await openUdpBatch({ local: loopback, remote: { host: "127.0.0.1", port: 9 } });
			const self = await openUdpBatch({ local: loopback, remote: { host: "127.0.0.1", port: link.port } });
			const send = () => self.send(new Uint8Array(60));
			${body}`;
		const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
			encoding: "utf8",
		});
		return { status, output: stdout + stderr };
	};

	test("ends by process.exit with its links open", () => {
		expect(run("setTimeout(() => process.exit(7), 20); setInterval(send, 1);")).toEqual({ status: 7, output: "" });
	});

	test("ends by itself once its links are closed", () => {
		expect(run("setTimeout(() => { link.close(); self.close(); }, 20);")).toEqual({ status: 0, output: "" });
	});

	test("ends by what its own code throws, with its links open", () => {
		const { status, output } = run('setTimeout(() => { throw new Error("mine"); }, 20);');
		expect(status).toBe(1);
		expect(output).toContain("Error: mine");
	});
});
