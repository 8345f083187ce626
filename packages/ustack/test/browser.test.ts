import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, test } from "vitest";
import type { Outcome } from "./browser/page.ts";

const chromium = ["chromium", "chromium-browser", "google-chrome"].find(
	(name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0,
);
const reason = chromium === undefined ? " (skipped: not installed: chromium)" : "";

const here = fileURLToPath(new URL(".", import.meta.url));

/** Whether a file of the suite, or what it imports of the suite or the package, asks for Node.js. */
function needsNode(file: string, seen = new Set<string>()): boolean {
	if (seen.has(file)) return false;
	seen.add(file);
	const text = readFileSync(file, "utf8");
	for (const [, name] of text.matchAll(/(?:from|import) "([^"]+)"/g)) {
		if (name!.startsWith("node:") || name!.endsWith(".node.ts")) return true;
		if (name!.startsWith(".") && needsNode(join(file, "..", name!), seen)) return true;
	}
	return false;
}

const files = readdirSync(here)
	.filter((name) => name.endsWith(".test.ts") && !needsNode(join(here, name)))
	.sort();

test.skipIf(chromium === undefined)(
	`${files.length} files of this suite in Chromium, all that need no Node.js${reason}`,
	async () => {
		const bundle = await build({
			stdin: {
				contents: `import { runAndReport } from "./browser/page.ts";
void runAndReport({${files.map((name) => `"${name}": () => import("./${name}")`).join(",")}});`,
				resolveDir: here,
			},
			bundle: true,
			write: false,
			format: "iife",
			// A core that asks for node:* does not bundle.
			platform: "browser",
			conditions: ["@x/source"],
			alias: { vitest: join(here, "browser/vitest.ts") },
			define: { "process.env": "{}" },
		});
		const script = bundle.outputFiles[0]!.text;
		let report!: (body: string) => void;
		const reported = new Promise<string>((resolve) => {
			report = resolve;
		});
		const server = createServer((request, response) => {
			if (request.method === "POST") {
				let body = "";
				request.on("data", (chunk) => {
					body += chunk;
				});
				request.on("end", () => {
					response.end();
					report(body);
				});
			} else if (request.url === "/") {
				response.writeHead(200, { "Content-Type": "text/html" }).end('<!doctype html><script src="/page.js"></script>');
			} else if (request.url === "/page.js") {
				response.writeHead(200, { "Content-Type": "text/javascript" }).end(script);
			} else response.writeHead(404).end();
		});
		await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
		const profile = mkdtempSync(join(tmpdir(), "ustack-chromium-"));
		const browser = spawn(
			chromium!,
			[
				"--headless=new",
				"--no-sandbox",
				"--disable-gpu",
				"--disable-dev-shm-usage",
				`--user-data-dir=${profile}`,
				`http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
			],
			{ stdio: "ignore" },
		);
		try {
			const outcomes = JSON.parse(await reported) as Outcome[];
			expect(outcomes.filter(({ state }) => state !== "pass" && state !== "skip")).toEqual([]);
			const passed = outcomes.filter(({ state }) => state === "pass").length;
			process.stdout.write(`${passed} tests of ${files.length} files passed in Chromium: ${files.join(", ")}\n`);
			expect(passed).toBeGreaterThanOrEqual(231);
		} finally {
			const gone = new Promise((resolve) => browser.once("exit", resolve));
			browser.kill();
			await gone;
			server.closeAllConnections();
			server.close();
			rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
		}
	},
	180_000,
);
