import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../../../../shared/data/regdomain/", import.meta.url));

/** Whether the recordings lie beside the repository; without them the tests that replay them are skipped. */
export const haveShared = existsSync(folder);

/** Text of a recording. */
export const shared = (name: string): string => readFileSync(`${folder}${name}`, "utf8");

/** Sections that start with `@@`, by their heading. */
export function sections(text: string): { heading: string; lines: string[] }[] {
	const found: { heading: string; lines: string[] }[] = [];
	for (const line of text.split("\n")) {
		if (line.startsWith("@@")) found.push({ heading: line.slice(2), lines: [] });
		else found.at(-1)?.lines.push(line);
	}
	return found.filter(({ heading }) => heading !== "END");
}
