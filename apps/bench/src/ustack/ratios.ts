import { median, type Report, type Row, type Side } from "../suite.ts";

/** One side of a comparison, and what the issue asks of its ratio to the first. */
export interface Contender extends Side {
	least?: number;
	aim?: number;
}

const ROUNDS = 5;

/**
 * Reports every side's rate and its ratio to the first side's.
 *
 * Each of five rounds is cut into slices that go to the sides in turn, so that a change of the machine's pace within a
 * round hits all of them; a round's ratio is that of its slices' sums, and the medians of the rounds are told. A slice
 * of each side goes before, untold: neither is to pay for the compiler.
 *
 * @param slices - of a round and side; every slice does the same work
 */
export async function compare(
	report: Report,
	title: string,
	unit: string,
	slices: number,
	sides: readonly Contender[],
): Promise<void> {
	for (const side of sides) await side.run();
	const rates: number[][] = sides.map(() => []);
	const toFirst: number[][] = sides.map(() => []);
	for (let round = 0; round < ROUNDS; round++) {
		const times = sides.map(() => 0);
		for (let slice = 0; slice < slices; slice++) {
			for (const [i, side] of sides.entries()) times[i]! += 1 / (await side.run());
		}
		for (const [i, time] of times.entries()) {
			rates[i]!.push(slices / time);
			toFirst[i]!.push(times[0]! / time);
		}
	}
	report.table(
		title,
		sides.map(
			(side, i): Row => ({
				side: side.name,
				[unit]: Math.round(median(rates[i]!)),
				ratio: Number(median(toFirst[i]!).toFixed(2)),
				lowest: Number(Math.min(...toFirst[i]!).toFixed(2)),
				highest: Number(Math.max(...toFirst[i]!).toFixed(2)),
				least: side.least ?? "",
				aim: side.aim ?? "",
			}),
		),
	);
}
