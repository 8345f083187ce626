import { expect, test } from "vitest";
import { createLinkPair } from "../src/index.ts";

test("what one end sends the other receives, until closed", () => {
	const [a, b] = createLinkPair({ mtu: 100 });
	const got: number[] = [];
	b.onFrame = (frame) => got.push(frame.length);
	expect(a.send(new Uint8Array(60))).toBe(true);
	expect(got).toEqual([60]);
	expect(() => a.send(new Uint8Array(119))).toThrowError(/119 bytes/);
	a.close();
	expect(() => a.send(new Uint8Array(60))).toThrowError(expect.objectContaining({ code: "ERR_LINK_CLOSED" }));
});
