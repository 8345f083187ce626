import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Domain, evaluateDomain, hwsimChannels, intersectDomains } from "@x/regdomain";
import { bundledDatabase } from "@x/regdomain/data";
import { dbTxtToRegulatoryDb, parseDbTxt, readRegulatoryDb, writeDbTxt, writeRegulatoryDb } from "@x/regdomain/formats";
import { createRegulatoryCore } from "@x/regdomain/hints";
import { interleave, type Side, type Suite } from "../suite.ts";

/** Milliseconds of the fastest of some runs: other processes can only make a run slower. */
function timed(run: () => unknown, repeats: number): number {
	let fastest = Number.POSITIVE_INFINITY;
	for (let index = 0; index < repeats; index++) {
		const start = performance.now();
		run();
		fastest = Math.min(fastest, performance.now() - start);
	}
	return fastest;
}

/** A side that measures its own run, after warming up. */
function side(name: string, run: () => unknown, repeats = 15): Side {
	for (let index = 0; index < repeats; index++) run();
	return { name, run: () => timed(run, repeats) };
}

/** The original compiler, where REGDB_TOOLS names a folder with wireless-regdb's db2fw.py and Python 3 is installed. */
function originals(text: string): { sides: Side[]; note: string; done: () => void } {
	const folder = process.env["REGDB_TOOLS"];
	const nothing = (note: string): ReturnType<typeof originals> => ({ sides: [], note, done: () => {} });
	if (folder === undefined || !existsSync(join(folder, "db2fw.py"))) {
		return nothing(
			"skipped: set REGDB_TOOLS to a folder with wireless-regdb's db2fw.py and dbparse.py to compare with the originals",
		);
	}
	try {
		execFileSync("python3", ["--version"], { stdio: "ignore" });
	} catch {
		return nothing("skipped: python3 is not installed");
	}
	const scratch = mkdtempSync(join(tmpdir(), "regdomain-bench-"));
	const input = join(scratch, "db.txt");
	writeFileSync(input, text);
	const python = (...args: string[]): string => execFileSync("python3", args, { encoding: "utf8", cwd: folder });
	const loop = [
		"import sys, time, io",
		"from dbparse import DBParser",
		"text = open(sys.argv[1], encoding='utf-8').read()",
		"best = []",
		"for _ in range(15):",
		"    start = time.perf_counter(); DBParser().parse(io.StringIO(text)); best.append(time.perf_counter() - start)",
		"print(min(best) * 1000)",
	].join("\n");
	return {
		sides: [
			{ name: "dbparse.py, parse alone, warm", run: () => Number(python("-c", loop, input)) },
			{ name: "db2fw.py, whole process", run: () => timed(() => python("db2fw.py", join(scratch, "out"), input), 3) },
		],
		note: "",
		done: () => rmSync(scratch, { recursive: true, force: true }),
	};
}

const suite: Suite = async (report) => {
	const database = bundledDatabase();
	const text = writeDbTxt(database);
	const bytes = writeRegulatoryDb(database);
	const domains: Domain[] = [...database.domains.values()];

	const python = originals(text);
	if (python.note !== "") report.note(python.note);
	const compile = await interleave([
		side("parse db.txt", () => parseDbTxt(text)),
		side("parse and compile db.txt", () => dbTxtToRegulatoryDb(parseDbTxt(text))),
		side("read regulatory.db", () => readRegulatoryDb(bytes)),
		side("write regulatory.db", () => writeRegulatoryDb(database)),
		...python.sides,
	]);
	python.done();
	const whole = compile.get("parse and compile db.txt")!;
	report.table(
		"db.txt of 182 countries: fastest runs, medians of five interleaved rounds",
		[...compile].map(([what, ms]) => ({
			what,
			ms: Number(ms.toFixed(2)),
			"× parse and compile": Number((ms / whole).toFixed(2)),
		})),
	);

	const germany = database.domains.get("DE")!;
	const repeats = 50;
	const decide = await interleave([
		side("all countries × all channels", () => domains.map((domain) => evaluateDomain(domain))),
		side(
			`DE × all channels, ${repeats} times`,
			() => {
				for (let index = 0; index < repeats; index++) evaluateDomain(germany);
			},
			15,
		),
		side("intersect DE with every country", () => domains.map((domain) => intersectDomains(domain, germany))),
		side("simulate a user hint on four radios", () => {
			const core = createRegulatoryCore({ database, radios: ["a", "b", "c", "d"].map((name) => ({ name })) });
			core.apply({ kind: "user", alpha2: "US" });
		}),
	]);
	const perSecond = (name: string, count: number): number => Math.round((count / decide.get(name)!) * 1000);
	const every = domains.length * hwsimChannels.length;
	const counts: Record<string, number> = {
		"all countries × all channels": every,
		[`DE × all channels, ${repeats} times`]: repeats * hwsimChannels.length,
	};
	report.table(
		"decisions: fastest runs, medians of five interleaved rounds",
		[...decide].map(([what, ms]) => {
			const count = counts[what];
			return {
				what,
				ms: Number(ms.toFixed(2)),
				decisions: count ?? "",
				"decisions/s": count === undefined ? "" : perSecond(what, count),
			};
		}),
	);
};

export default suite;
