import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, test } from "vitest";

const folder = fileURLToPath(new URL("../examples/", import.meta.url));
const bench = fileURLToPath(new URL("../../../apps/bench/", import.meta.url));
const noRunner = existsSync(`${bench}node_modules/tsx`) ? undefined : "tsx is not installed";

const OUTPUT: Record<string, string> = {
	"worker-ring.ts": "hello\n",
	"udp-channel.ts": "1 packet of 60 bytes\n",
	"switch.ts": "0 ports\n",
};

test("every example has its output here", () => {
	expect(readdirSync(folder).sort()).toEqual(Object.keys(OUTPUT).sort());
});

test.skipIf(noRunner !== undefined).each(Object.entries(OUTPUT))(
	`example %s prints what it says${noRunner === undefined ? "" : ` (${noRunner})`}`,
	(name, output) => {
		const tsx = createRequire(`${bench}package.json`).resolve("tsx");
		const args = ["--conditions=@x/source", "--import", pathToFileURL(tsx).href, `${folder}${name}`];
		expect(execFileSync(process.execPath, args, { encoding: "utf8" })).toBe(output);
	},
);
