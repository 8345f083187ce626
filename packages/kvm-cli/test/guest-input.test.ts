import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EscapeFilter } from "../src/guest/escape.ts";
import { overlayInitrd, shellQuote } from "../src/guest/overlay.ts";

describe("shellQuote", () => {
	it("makes any word one argument of a real shell", () => {
		fc.assert(
			fc.property(fc.array(fc.string({ unit: "grapheme", maxLength: 20 }), { minLength: 1, maxLength: 5 }), (raw) => {
				const words = raw.map((word) => word.replaceAll("\0", ""));
				const script = `for word in ${words.map(shellQuote).join(" ")}; do printf '%s\\0' "$word"; done`;
				const out = execFileSync("/bin/sh", ["-c", script], { encoding: "utf8" });
				expect(out.split("\0").slice(0, -1)).toEqual(words);
			}),
			{ numRuns: 30, seed: 9 },
		);
	});
});

describe("overlayInitrd", () => {
	it("starts its archive on a multiple of four after the image's", () => {
		const all = overlayInitrd(new Uint8Array(5).fill(9), [["A", "it's"]], ["echo", "x y"]);
		const text = new TextDecoder().decode(all);
		expect([...all.subarray(0, 8)]).toEqual([9, 9, 9, 9, 9, 0, 0, 0]);
		expect(text.slice(8, 14)).toBe("070701");
		expect(text).toContain("export A='it'\\''s'\n");
		expect(text).toContain("exec 'echo' 'x y'\n");
		expect(new TextDecoder().decode(overlayInitrd(new Uint8Array(4), [], undefined))).not.toContain("xkvm/command");
	});
});

describe("EscapeFilter", () => {
	const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

	it("finds Ctrl-A x wherever chunks are cut", () => {
		const filter = new EscapeFilter();
		expect(filter.push(bytes("ls\x01"))).toEqual({ bytes: bytes("ls"), actions: [] });
		expect(filter.push(bytes("xy"))).toEqual({ bytes: bytes("y"), actions: ["leave"] });
	});

	it("sends Ctrl-A on when typed twice, and what it does not know", () => {
		expect(new EscapeFilter().push(bytes("\x01\x01a\x01qb"))).toEqual({ bytes: bytes("\x01a\x01qb"), actions: [] });
	});

	it("passes everything else untouched, however it is cut", () => {
		fc.assert(
			fc.property(fc.array(fc.uint8Array({ maxLength: 10 })), (chunks) => {
				const filter = new EscapeFilter();
				const plain = chunks.map((chunk) => chunk.map((byte) => (byte === 1 ? 2 : byte)));
				expect(plain.flatMap((chunk) => [...filter.push(chunk).bytes])).toEqual(plain.flatMap((chunk) => [...chunk]));
			}),
			{ numRuns: 100, seed: 10 },
		);
	});
});
