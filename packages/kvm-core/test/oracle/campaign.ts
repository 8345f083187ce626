import { compare } from "./compare.ts";
import { type Generated, type Generator, variant } from "./generate.ts";
import type { EngineCpu } from "./guest.ts";
import type { NativeCpu } from "./native.ts";
import { END_SYSCALL, END_TIMEOUT, type Mode, type Outcome } from "./protocol.ts";
import { Rng } from "./rng.ts";
import { shrink } from "./shrink.ts";
import { dataPages } from "./values.ts";
import { toVector, type Vector } from "./vectors.ts";

/** What a campaign runs over. */
export interface Campaign {
	native: NativeCpu;
	engine: EngineCpu;
	generator: Generator;
	modes: readonly Mode[];
	/** Of the first batch; the next has the next. A batch comes out the same whenever its seed does. */
	seed: number;
	/** Ends after so many cases... */
	cases: number;
	/** ...or when this says so. */
	enough?: () => boolean;
	/** Cases of only this row. */
	row?: number;
	/** Different failures after which it ends. @default 10 */
	failures?: number;
}

/** A difference found. */
export interface Failure {
	seed: number;
	differences: string[];
	/** The case made small. */
	vector: Vector;
}

/** How it went. */
export interface Report {
	cases: number;
	/** Cases whose outcome says nothing, because they made a system call or did not end. */
	void: number;
	/** Natively ended by this vector: cases. */
	vectors: Map<number, number>;
	failures: Failure[];
}

const BATCH = 1024;
const VARIANTS = 4;

export function runCampaign(campaign: Campaign): Report {
	const { native, engine, generator, modes } = campaign;
	const report: Report = { cases: 0, void: 0, vectors: new Map(), failures: [] };
	const kinds = new Set<string>();
	for (let seed = campaign.seed; report.cases < campaign.cases && campaign.enough?.() !== true; seed++) {
		const rng = new Rng(seed);
		const data = dataPages(new Rng(seed));
		const cases: Generated[] = [];
		while (cases.length < BATCH) {
			const base = generator.next(rng, modes, campaign.row);
			cases.push(base);
			for (let i = 1; i < VARIANTS; i++) cases.push(variant(rng, base));
		}
		const inputs = cases.map(({ one }) => one);
		const want = native.run(data, inputs);
		const got = engine.run(data, inputs);
		for (let i = 0; i < cases.length; i++) {
			tally(report, want[i]!);
			const differences = compare(cases[i]!, want[i]!, got[i]!);
			if (differences.length === 0) continue;
			const signature = kindOf(cases[i]!, differences);
			if (kinds.has(signature)) continue;
			kinds.add(signature);
			const small = shrink(native, engine, data, cases[i]!);
			const [wanted] = native.run(data, [small.one]);
			const [actual] = engine.run(data, [small.one]);
			const words = compare(small, wanted!, actual!);
			const kind = kindOf(small, words);
			if (kind !== signature && kinds.has(kind)) continue;
			kinds.add(kind);
			report.failures.push({
				seed,
				differences: words.length > 0 ? words : differences,
				vector: toVector(small, seed, wanted!),
			});
			if (report.failures.length >= (campaign.failures ?? 10)) return report;
		}
	}
	return report;
}

/** Failures of one kind are shown once: the same instructions, and the same things that differ. */
function kindOf({ rows }: Generated, differences: readonly string[]): string {
	const what = differences.map((words) => words.replace(/ .*/, "")).join();
	return `${rows.map((row) => `${row.name} ${row.opcode} ${row.operands}`).join()}: ${what}`;
}

function tally(report: Report, { trap }: Outcome): void {
	report.cases++;
	if (trap === END_SYSCALL || trap === END_TIMEOUT) report.void++;
	report.vectors.set(trap, (report.vectors.get(trap) ?? 0) + 1);
}
