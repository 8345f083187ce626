import { startTests, type Task, type VitestRunner } from "@vitest/runner";

/** What the page tells of one test. */
export interface Outcome {
	name: string;
	state: string;
	error?: string;
}

/** Test files by name, and how each is loaded. */
export type TestFiles = Readonly<Record<string, () => Promise<unknown>>>;

const runnerOf = (files: TestFiles): VitestRunner =>
	({
		config: {
			...{
				root: "/",
				setupFiles: [],
				name: "page",
				passWithNoTests: false,
				testNamePattern: undefined,
				allowOnly: true,
			},
			...{ maxConcurrency: 1, testTimeout: 120_000, hookTimeout: 120_000, retry: 0, includeTaskLocation: false },
			...{ sequence: { shuffle: false, concurrent: false, seed: 0, hooks: "stack", setupFiles: "list" }, tags: [] },
		},
		importFile: (path: string) => files[path]!(),
	}) as unknown as VitestRunner;

function outcomes(task: Task, path: string): Outcome[] {
	const name = `${path} > ${task.name}`;
	const failed = task.result?.errors?.map(({ message, stack }) => stack ?? message).join("\n");
	if ("tasks" in task) {
		const inner = task.tasks.flatMap((child) => outcomes(child, name));
		return failed === undefined ? inner : [...inner, { name, state: "fail", error: failed }];
	}
	return [
		{
			name,
			state: task.mode === "skip" || task.mode === "todo" ? "skip" : (task.result?.state ?? "lost"),
			...(failed !== undefined && { error: failed }),
		},
	];
}

async function run(files: TestFiles): Promise<Outcome[]> {
	const specifications = Object.keys(files).map((filepath) => ({ filepath, testLocations: undefined }));
	const ran = await startTests(specifications, runnerOf(files));
	return ran.flatMap((file) =>
		file.tasks
			.flatMap((task) => outcomes(task, file.name))
			.concat(
				file.result?.errors?.map((error) => ({ name: file.name, state: "fail", error: String(error.stack) })) ?? [],
			),
	);
}

/** Runs the files and reports to whoever served the page. */
export async function runAndReport(files: TestFiles): Promise<void> {
	const results = await run(files).catch((error: Error) => [
		{ name: "the page", state: "fail", error: String(error.stack) },
	]);
	await fetch("/report", { method: "POST", body: JSON.stringify(results) });
}
