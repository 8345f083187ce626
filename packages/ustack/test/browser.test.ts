import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, test } from "vitest";

const chromium = ["chromium", "chromium-browser", "google-chrome"].find(
	(name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0,
);
const reason = chromium === undefined ? " (skipped: not installed: chromium)" : "";

test.skipIf(chromium === undefined)(
	`the core in Chromium: TCP, UDP, streams, raw sockets${reason}`,
	async () => {
		const bundle = await build({
			entryPoints: [fileURLToPath(new URL("./browser/page.ts", import.meta.url))],
			bundle: true,
			write: false,
			format: "iife",
			// A core that asks for node:* does not bundle.
			platform: "browser",
			conditions: ["@x/source"],
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
			const results = JSON.parse(await reported) as Record<string, string>;
			expect(Object.keys(results).length).toBe(7);
			expect(Object.entries(results).filter(([, result]) => result !== "ok")).toEqual([]);
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
