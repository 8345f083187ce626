import fc from "fast-check";
import { expect, test } from "vitest";
import { PicPair } from "../../src/chips/pic.ts";

function started(autoEoi = false): PicPair {
	const pic = new PicPair(() => undefined);
	const icw4 = autoEoi ? 3 : 1;
	for (const [port, value] of [
		[0x20, 0x11],
		[0x21, 0x20],
		[0x21, 0x04],
		[0x21, icw4],
		[0xa0, 0x11],
		[0xa1, 0x28],
		[0xa1, 0x02],
		[0xa1, icw4],
		[0x21, 0],
		[0xa1, 0],
	]) {
		pic.write(port, value);
	}
	return pic;
}

test("priorities, the cascade and end of interrupt", () => {
	const pic = started();
	pic.setLine(4, true);
	pic.setLine(12, true);
	expect(pic.acknowledge()).toBe(0x2c);
	pic.write(0x20, 0x0b);
	expect(pic.read(0x20)).toBe(0x04);
	expect(pic.pending).toBe(false);
	pic.setLine(1, true); // above the cascade line
	expect(pic.acknowledge()).toBe(0x21);
	pic.write(0x20, 0x20);
	pic.write(0xa0, 0x20);
	pic.write(0x20, 0x20);
	expect(pic.acknowledge()).toBe(0x24);
	pic.write(0x20, 0x64); // specific EOI of line 4
	expect(pic.pending).toBe(false);
});

test("edges need a fall between, levels come back until the line falls", () => {
	const pic = started(true);
	pic.setLine(5, true);
	expect(pic.acknowledge()).toBe(0x25);
	pic.setLine(5, true);
	expect(pic.pending).toBe(false);
	pic.write(0x4d0, 0xff);
	expect(pic.read(0x4d0)).toBe(0xf8); // 0 to 2 stay edges
	pic.setLine(6, true);
	pic.setLine(5, false);
	expect(pic.acknowledge()).toBe(0x26);
	expect(pic.acknowledge()).toBe(0x26);
	pic.setLine(6, false);
	expect(pic.pending).toBe(false);
});

test("an interrupt gone before its acknowledge is the spurious one of line 7 or 15", () => {
	const pic = started();
	expect(pic.acknowledge()).toBe(0x27);
	pic.write(0x20, 0x0b);
	expect(pic.read(0x20)).toBe(0);
});

test("rotation makes the served line the last", () => {
	const pic = started();
	pic.setLine(0, true);
	pic.setLine(3, true);
	expect(pic.acknowledge()).toBe(0x20);
	pic.write(0x20, 0xa0); // rotate on non-specific EOI
	pic.setLine(0, false);
	pic.setLine(0, true);
	expect(pic.acknowledge()).toBe(0x23);
});

test("the mask, polling, and special mask mode", () => {
	const pic = started();
	pic.write(0x21, 0x10);
	pic.setLine(4, true);
	expect(pic.pending).toBe(false);
	expect(pic.read(0x21)).toBe(0x10);
	pic.write(0x21, 0);
	pic.write(0x20, 0x0c);
	expect(pic.read(0x20)).toBe(0x84);
	pic.setLine(6, true);
	expect(pic.pending).toBe(false); // line 4 is in service
	pic.write(0x21, 0x10);
	pic.write(0x20, 0x68);
	expect(pic.acknowledge()).toBe(0x26);
});

test("save and restore at any point change nothing that follows", () => {
	const step = fc.oneof(
		fc.record({
			kind: fc.constant("port" as const),
			port: fc.constantFrom(0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1),
			value: fc.integer({ min: 0, max: 255 }),
		}),
		fc.record({
			kind: fc.constant("line" as const),
			port: fc.integer({ min: 0, max: 15 }),
			value: fc.integer({ min: 0, max: 1 }),
		}),
		fc.record({ kind: fc.constant("ack" as const), port: fc.constant(0x20), value: fc.constant(0) }),
	);
	const play = (pic: PicPair, steps: { kind: string; port: number; value: number }[]) =>
		steps.map(({ kind, port, value }) => {
			if (kind === "line") pic.setLine(port, value === 1);
			else if (kind === "port") {
				pic.write(port, value);
				return pic.read(port);
			} else return pic.acknowledge();
			return pic.pending;
		});
	fc.assert(
		fc.property(fc.array(step, { maxLength: 40 }), fc.array(step, { maxLength: 40 }), (before, after) => {
			const pic = started();
			play(pic, before);
			const twin = new PicPair(() => undefined);
			twin.restore(JSON.parse(JSON.stringify(pic.save())));
			expect(play(twin, after)).toEqual(play(pic, after));
		}),
		{ seed: 11, numRuns: 200 },
	);
});
