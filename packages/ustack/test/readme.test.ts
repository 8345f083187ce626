import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const blocks = [...readme.matchAll(/```ts\n\/\/ \.\/(examples\/[\w-]+\.ts)\n([\s\S]*?)```/g)];

test.each(blocks.map(([, file, code]) => [file!, code!]))("the README's %s is the file's beginning", (file, code) => {
	expect(readFileSync(new URL(`../${file}`, import.meta.url), "utf8").startsWith(code)).toBe(true);
});

test("the gateway's example runs", async () => {
	expect(blocks.map(([, file]) => file)).toContain("examples/gateway.ts");
	await import("../examples/gateway.ts");
});
