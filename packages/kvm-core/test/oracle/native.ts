import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Case, Outcome } from "./protocol.ts";
import { INPUT_BYTES, MAGIC, OUTPUT_BYTES, readOutput, writeBatch } from "./protocol.ts";

/** The host's own CPU. */
export interface NativeCpu {
	/** 16-bit code segments are to be had (the kernel has modify_ldt). */
	readonly has16Bit: boolean;
	/** The kernel has set CR4.PKE. */
	readonly protectionKeys: boolean;
	run(data: Uint8Array, cases: readonly Case[]): Outcome[];
	close(): void;
}

const HELLO_BYTES = 16;

/** Compiles native.c into a temporary folder; or says why there is no native CPU here. */
export function openNativeCpu(): NativeCpu | { reason: string } {
	if (process.platform !== "linux" || process.arch !== "x64") return { reason: "the oracle needs Linux on x86-64" };
	const folder = mkdtempSync(join(tmpdir(), "native-cpu-"));
	const close = (): void => rmSync(folder, { recursive: true, force: true });
	const program = join(folder, "native");
	const source = fileURLToPath(new URL("./native.c", import.meta.url));
	const compiler = spawnSync(
		process.env["CC"] ?? "cc",
		// -z now: the handler runs with a foreign FS base, so no symbol may be looked up in it.
		["-O2", "-fno-stack-protector", "-fcf-protection=none", "-mfsgsbase", "-Wl,-z,now", "-o", program, source],
		{ encoding: "utf8" },
	);
	if (compiler.error !== undefined || compiler.status !== 0) {
		close();
		return { reason: `no C compiler: ${compiler.error?.message ?? compiler.stderr}` };
	}
	const run = (input: Uint8Array): Buffer => {
		const child = spawnSync(program, { input, maxBuffer: 2 ** 30 });
		if (child.status !== 0) {
			throw new Error(
				`native.c ended with ${child.status ?? child.signal}: ${child.stderr?.toString() ?? child.error}`,
			);
		}
		return child.stdout;
	};
	let hello: Buffer;
	try {
		hello = run(new Uint8Array(0));
	} catch (error) {
		close();
		return { reason: (error as Error).message };
	}
	const sizes = [0, 4, 8].map((at) => hello.readUInt32LE(at));
	if (sizes.join() !== [MAGIC, INPUT_BYTES, OUTPUT_BYTES].join()) {
		close();
		throw new Error(`native.c and protocol.ts differ: ${sizes.join()}`);
	}
	return {
		has16Bit: (hello.readUInt32LE(12) & 1) !== 0,
		protectionKeys: (hello.readUInt32LE(12) & 2) !== 0,
		run(data, cases) {
			const output = run(writeBatch(data, cases));
			const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
			let at = HELLO_BYTES + 8;
			return cases.map(() => {
				const { outcome, next } = readOutput(view, at);
				at = next;
				return outcome;
			});
		},
		close,
	};
}
