import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Report } from "../suite.ts";

/** Compiles the C++ sides, where there is a compiler. */
export function buildPeer(report: Report): { path: string | undefined; remove(): void } {
	const folder = mkdtempSync(join(tmpdir(), "netchannel-bench-"));
	const remove = (): void => rmSync(folder, { recursive: true });
	const path = join(folder, "peer");
	const source = fileURLToPath(new URL("./peer.cpp", import.meta.url));
	const { status, error, stderr } = spawnSync("g++", ["-O2", "-std=c++17", "-pthread", "-o", path, source], {
		encoding: "utf8",
	});
	if (status === 0) return { path, remove };
	report.note(`skipped all C++ sides: ${error === undefined ? stderr.split("\n")[0] : "g++ is not installed"}`);
	return { path: undefined, remove };
}
