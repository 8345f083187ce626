import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";
import { compare } from "./compare.ts";
import { openEngineCpu } from "./guest.ts";
import { fromVector, type Vector } from "./vectors.ts";

const vectors = JSON.parse(readFileSync(new URL("../data/cpu-vectors.json", import.meta.url), "utf8")) as Vector[];

test(`the ${vectors.length} cases that once differed from a real CPU do so no more`, () => {
	const engine = openEngineCpu(openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }));
	const differences = vectors.flatMap((vector) => {
		const { one, data, want } = fromVector(vector);
		const [got] = engine.run(data, [one]);
		const words = compare(vector, want, got!);
		return words.length === 0 ? [] : [{ case: `${vector.mode}-bit ${vector.name} ${vector.code}`, words }];
	});
	expect(differences).toEqual([]);
	engine.close();
});
