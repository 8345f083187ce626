/** \`npm run bench -- NAME\`: runs the suite of that name from ./suites and prints its tables. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Suite } from "./suite.ts";

const folder = new URL("./suites/", import.meta.url);
const known = readdirSync(fileURLToPath(folder))
	.map((file) => file.replace(/\.ts$/, ""))
	.sort();

const names = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const json = process.argv.includes("--json");
const unknown = names.filter((name) => !known.includes(name));

if (names.length === 0 || unknown.length > 0) {
	if (unknown.length > 0) console.error(`bench: no suite named ${unknown.join(", ")}`);
	console.error(`usage: npm run bench -- NAME… [--json]\nsuites: ${known.join(", ")}`);
	process.exitCode = 2;
} else {
	for (const name of names) {
		const suite = ((await import(new URL(`${name}.ts`, folder).href)) as { default: Suite }).default;
		await suite({
			note: (text) => console.error(text),
			table: (title, rows) => {
				if (json) console.log(JSON.stringify({ schemaVersion: 1, suite: name, title, rows }));
				else {
					console.log(`\n${title}`);
					console.table(rows);
				}
			},
		});
	}
}
