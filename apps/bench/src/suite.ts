/** A row of a printed table; keys are the column heads. */
export type Row = Record<string, string | number>;

/** Where a suite reports to. */
export interface Report {
	/** Narration, on stderr. */
	note(text: string): void;
	/** A finished table, on stdout. */
	table(title: string, rows: Row[]): void;
}

/** One file in ./suites exports this by default; it skips with a note what the host lacks. */
export type Suite = (report: Report) => Promise<void>;

/** One side of a comparison: runs once and returns its figure (any unit, the same for all sides). */
export interface Side {
	name: string;
	run(): number | Promise<number>;
}

/** Median of a non-empty list. */
export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Runs every side once a round, in turn, so that a slow minute of the machine hits all of them, and returns each
 * side's median.
 *
 * @param rounds - interleaved rounds; five is the project's rule
 */
export async function interleave(sides: readonly Side[], rounds = 5): Promise<Map<string, number>> {
	const figures = new Map<string, number[]>(sides.map((side) => [side.name, []]));
	for (let round = 0; round < rounds; round++) {
		for (const side of sides) figures.get(side.name)!.push(await side.run());
	}
	return new Map([...figures].map(([name, values]) => [name, median(values)]));
}

/**
 * The ratio of two sides that took turns in slices far shorter than the machine's moods: of every round the median of
 * neighbouring slices' ratios, and of those the median.
 *
 * @param round - slices a round
 */
export function pairedRatio(ours: readonly number[], theirs: readonly number[], round: number): number {
	const ratios = ours.map((figure, slice) => figure / theirs[slice]!);
	return median(
		Array.from({ length: ratios.length / round }, (_, index) =>
			median(ratios.slice(index * round, (index + 1) * round)),
		),
	);
}
