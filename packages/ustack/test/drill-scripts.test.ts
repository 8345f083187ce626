import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runScript } from "../src/drill/index.ts";

const OURS = new URL("./scripts/", import.meta.url);

describe("our own scripts", () => {
	test.each(readdirSync(OURS).sort())("%s", (name) => {
		expect(runScript(readFileSync(new URL(name, OURS), "utf8"))).toEqual({ ok: true });
	});
});

const theirs = process.env["PACKETDRILL"];
/** Of google/packetdrill's 162 TCP scripts; fewer is a regression. */
const LEAST = 150;

describe.skipIf(theirs === undefined)("google/packetdrill's TCP scripts (PACKETDRILL=DIR)", () => {
	test(`at least ${LEAST} pass, the same three times`, () => {
		const root = `${theirs}/gtests/net/tcp`;
		const files = (readdirSync(root, { recursive: true }) as string[]).filter((name) => name.endsWith(".pkt")).sort();
		expect(files.length).toBeGreaterThan(100);
		const once = (): string[] =>
			files.flatMap((name) => {
				const ipVersion = name.endsWith("v6.pkt") ? 6 : 4;
				const result = runScript(readFileSync(`${root}/${name}`, "utf8"), { ipVersion });
				return result.ok ? [] : [`${name}:${result.line}: ${result.message}`];
			});
		const failed = once();
		expect(once()).toEqual(failed);
		expect(once()).toEqual(failed);
		process.stdout.write(
			`${files.length - failed.length} of ${files.length} pass; the others:\n${failed.join("\n")}\n`,
		);
		expect(files.length - failed.length).toBeGreaterThanOrEqual(LEAST);
	});
});
