import { readFile } from "node:fs/promises";
import { type DrillProfile, runScript } from "../drill/index.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { listOf, parse, stringOf } from "./options.node.ts";

function setting(text: string): [string, string] {
	const at = text.indexOf("=");
	if (at <= 0) throw new UsageError(`--sysctl "${text}" is not NAME=VALUE`);
	return [text.slice(0, at), text.slice(at + 1)];
}

/** `ustack drill FILE…`. */
export async function drillCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, {
		profile: { type: "string" },
		json: { type: "boolean" },
		sysctl: { type: "string", multiple: true },
	});
	const profile = stringOf(values, "profile") ?? "linux";
	if (profile !== "linux" && profile !== "freebsd")
		throw new UsageError(`--profile "${profile}" is not linux or freebsd`);
	if (positionals.length === 0) throw new UsageError("drill takes one FILE.pkt or more");
	const sysctls = Object.fromEntries(listOf(values, "sysctl").map(setting));
	const files: { file: string; ok: boolean; line?: number; message?: string }[] = [];
	const json = values["json"] === true;
	for (const file of positionals) {
		if (io.signal.aborted) return EXIT.interrupted;
		// As packetdrill's own runner has it: the name says that a script is for IPv6.
		const ipVersion = /v6\.pkt$/.test(file) ? 6 : 4;
		const result = runScript(await readFile(file, "utf8"), { profile: profile as DrillProfile, ipVersion, sysctls });
		files.push({ file, ...result });
		if (!json) io.stdout.write(result.ok ? `ok   ${file}\n` : `FAIL ${file}:${result.line}: ${result.message}\n`);
	}
	const passed = files.filter((each) => each.ok).length;
	const failed = files.length - passed;
	if (json) io.stdout.write(`${JSON.stringify({ schemaVersion: 1, files, passed, failed })}\n`);
	else io.stderr.write(`${passed} passed, ${failed} failed\n`);
	return failed === 0 ? EXIT.ok : EXIT.failed;
}
