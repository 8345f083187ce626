import { access, constants } from "node:fs/promises";
import type { Command } from "commander";
import { EXIT } from "../exit.ts";
import { type EngineReport, probeEngines } from "../guest/engines.ts";
import { runChild } from "../image/child.ts";
import { cacheFolder, ImageStore } from "../image/store.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { styleFor } from "../terminal/style.ts";

interface Check {
	readonly ok: boolean;
	readonly detail: string;
}

async function aptCheck(io: CliIo): Promise<Check> {
	try {
		const { stdout } = await runChild("apt-get", ["--version"], { signal: io.signal });
		return { ok: true, detail: stdout.toString().split("\n")[0]! };
	} catch {
		io.signal.throwIfAborted();
		return { ok: false, detail: "not installed: `xkvm image build` needs it; `xkvm run --kernel` does not" };
	}
}

async function cacheCheck(io: CliIo): Promise<Check> {
	const folder = cacheFolder(io.env);
	for (let path = folder; ; path = path.replace(/\/[^/]*$/, "") || "/") {
		try {
			await access(path, constants.W_OK);
			return { ok: true, detail: folder };
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "ENOENT" || path === "/")
				return { ok: false, detail: `${folder} cannot be written` };
		}
	}
}

function engineLine(name: string, engine: EngineReport): readonly [string, Check] {
	return [name, { ok: engine.available, detail: engine.available ? engine.detail : engine.reason }];
}

export function addDoctorCommand(program: Command, io: CliIo, outcome: Outcome): void {
	program
		.command("doctor")
		.description("say what this host can do and why not")
		.option("--json", "print one JSON object")
		.action(async (flags: { json?: boolean }) => {
			const { engines, auto } = await probeEngines();
			const apt = await aptCheck(io);
			const cache = await cacheCheck(io);
			const images = await new ImageStore(cacheFolder(io.env)).list();
			if (!engines.software.available && !engines.hardware.available) outcome.exitCode = EXIT.notFound;
			if (flags.json) {
				io.stdout.write(jsonDocument({ engines, auto, apt, cache, images: images.map(({ id }) => id) }));
				return;
			}
			const style = styleFor(io.stdout, io.env);
			const lines: (readonly [string, Check])[] = [
				engineLine("software engine", engines.software),
				engineLine("hardware engine", engines.hardware),
				["apt", apt],
				["cache", cache],
				[
					"images",
					{
						ok: images.length > 0,
						detail:
							images.length > 0 ? images.map(({ id }) => id).join(", ") : "none yet: `xkvm image build` makes one",
					},
				],
			];
			for (const [name, { ok, detail }] of lines) {
				io.stdout.write(`${ok ? style.green("yes") : style.red("no ")}  ${name.padEnd(16)} ${detail}\n`);
			}
			io.stdout.write(`     --engine auto    means ${auto ?? "nothing: no engine works here"}\n`);
		});
}
