import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bin, buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";
const library = pathToFileURL(join(bin, "../../dist/index.js")).href;

/** A program that starts a sandbox, says where its published port is, and ends as soon as the guest runs. */
const program = (files: Image, ending: string): string => `
import { createSandbox } from ${JSON.stringify(library)};
const vm = await createSandbox({
	image: ${JSON.stringify({ kernel: files.kernel, initrd: files.initrd })},
	network: { publish: [{ hostPort: 0, guestPort: 80 }] },
});
const [port] = await vm.published();
vm.exec("sleep 1000");
process.stdout.write(port + "\\n", () => { ${ending} });
`;

/** Processes with this text in their environment: whatever a process started has inherited it. */
function marked(mark: string): number[] {
	return readdirSync("/proc")
		.filter((name) => /^\d+$/.test(name))
		.filter((pid) => {
			try {
				return readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark);
			} catch {
				return false;
			}
		})
		.map(Number);
}

function refuses(port: number): Promise<boolean> {
	return new Promise((resolve) => {
		const socket = connect(port, "127.0.0.1");
		socket.on("connect", () => {
			socket.destroy();
			resolve(false);
		});
		socket.on("error", () => resolve(true));
	});
}

const ended = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
	new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal })));

describe.skipIf(typeof image === "string" || process.platform !== "linux")(`when a process ends${because}`, () => {
	let folder: string;
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-end-"));
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	it(
		"by whatever way, no sandbox of it is left",
		async () => {
			const ways: readonly [ending: string, code: number | null, signal: string | null][] = [
				["process.exit(3)", 3, null],
				["throw new Error('nobody catches this')", 1, null],
				["Promise.reject(new Error('nor this'))", 1, null],
				["process.kill(process.pid, 'SIGKILL')", null, "SIGKILL"],
			];
			// The others come to their end as the exception does; PROCESS_ENDS=all looks at every one.
			const looked = env["PROCESS_ENDS"] === "all" ? ways : ways.filter((_, i) => i % 2 === 1);
			await Promise.all(
				looked.map(async ([ending, code, signal]) => {
					const mark = randomUUID();
					const args = ["--input-type=module", "--eval", program(image as Image, ending)];
					const child = spawn(process.execPath, args, { env: { ...env, XKVM_TEST_MARK: mark } });
					let port = "";
					child.stdout.on("data", (chunk) => {
						port += String(chunk);
					});
					child.stderr.resume();
					expect([ending, await ended(child)]).toEqual([ending, { code, signal }]);
					expect(Number(port)).toBeGreaterThan(0);
					expect(marked(mark)).toEqual([]);
					expect(await refuses(Number(port))).toBe(true);
				}),
			);
		},
		GUEST_TEST_MS,
	);

	it(
		"an xkvm that is killed leaves a socket, which the next one removes, and nothing else",
		async () => {
			const mark = randomUUID();
			const own = { ...env, XDG_RUNTIME_DIR: folder, XKVM_TEST_MARK: mark };
			const child = spawn(process.execPath, [bin, "run", "--", "sh", "-c", "echo on; exec sleep 1000"], { env: own });
			child.stderr.resume();
			await new Promise((resolve) => child.stdout.once("data", resolve));
			const sockets = (): string[] => readdirSync(join(folder, "xkvm"));
			expect(sockets()).toHaveLength(1);
			expect(marked(mark)).toEqual([child.pid]);
			child.kill("SIGKILL");
			expect(await ended(child)).toEqual({ code: null, signal: "SIGKILL" });
			expect(marked(mark)).toEqual([]);
			expect(existsSync(`/proc/${child.pid}`)).toBe(false);
			expect(sockets()).toHaveLength(1);
			const ps = spawn(process.execPath, [bin, "ps", "--json"], { env: own });
			let text = "";
			ps.stdout.on("data", (chunk) => {
				text += String(chunk);
			});
			expect((await ended(ps)).code).toBe(0);
			expect(JSON.parse(text).sandboxes).toEqual([]);
			expect(sockets()).toEqual([]);
		},
		GUEST_TEST_MS,
	);
});
