import type { CongestionName } from "@x/ustack";
import type { Report, Row } from "../suite.ts";
import { KernelPair, OwnPair, whyNoKernel } from "./relay.ts";

const BYTES = 20_000_000;
/** Transfers at once through each relay; nothing but its delay and loss limits them. */
const FLOWS = Number(process.env["BENCH_FLOWS"] ?? 8);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 3);
const ONE_WAY_MS = 20;

function mean(values: readonly number[]): number {
	return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values: readonly number[]): number {
	const middle = mean(values);
	return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / Math.max(1, values.length - 1));
}

function row(path: string, side: string, rates: readonly number[], kernel: readonly number[], least: number): Row {
	return {
		path,
		side,
		runs: rates.length,
		"KB/s": Math.round(mean(rates) / 1000),
		deviation: Math.round(deviation(rates) / 1000),
		lowest: Math.round(Math.min(...rates) / 1000),
		highest: Math.round(Math.max(...rates) / 1000),
		ratio: Number((mean(rates) / mean(kernel)).toFixed(3)),
		least: rates === kernel ? "" : least,
	};
}

/** Our TCP and the running kernel's over the same relay: the delay and the losses are made by one piece of code for both. */
export async function besideTheKernel(report: Report): Promise<void> {
	const reason = whyNoKernel();
	if (reason !== undefined) {
		report.note(`skipped, the kernel over our relay: ${reason}`);
		return;
	}
	report.note(`${FLOWS} transfers of ${BYTES / 1e6} MB at once per side and controller, 40 ms round trip`);
	const rows: Row[] = [];
	const lossless: Record<"kernel" | "own", number[]> = { kernel: [], own: [] };
	for (let round = 0; round < ROUNDS; round++) {
		const path = { oneWayMs: ONE_WAY_MS, loss: 0, seed: round + 1 };
		const kernel = await KernelPair.open(path, "cubic");
		lossless.kernel.push(...(await kernel.transfer(BYTES, 1)));
		kernel.close();
		const own = new OwnPair(path, { congestion: "cubic" });
		lossless.own.push(...(await own.transfer(BYTES, 1)));
		own.close();
	}
	rows.push(row("lossless, CUBIC", "Linux", lossless.kernel, lossless.kernel, 0.95));
	rows.push(row("lossless, CUBIC", "ustack", lossless.own, lossless.kernel, 0.95));
	const sides: { congestion: CongestionName; kernel: KernelPair; own: OwnPair }[] = [];
	for (const congestion of ["reno", "cubic"] as const) {
		const path = { oneWayMs: ONE_WAY_MS, loss: 0.01, seed: congestion === "reno" ? 11 : 12 };
		sides.push({
			congestion,
			kernel: await KernelPair.open(path, congestion),
			own: new OwnPair({ ...path, seed: path.seed + 100 }, { congestion }),
		});
	}
	await Promise.all(
		sides.map(async ({ congestion, kernel, own }) => {
			const [ofKernel, ofOwn] = await Promise.all([kernel.transfer(BYTES, FLOWS), own.transfer(BYTES, FLOWS)]);
			const path = `1 % loss, ${congestion === "reno" ? "NewReno" : "CUBIC"}`;
			rows.push(row(path, "Linux", ofKernel, ofKernel, 1), row(path, "ustack", ofOwn, ofKernel, 1));
			kernel.close();
			own.close();
		}),
	);
	report.table("Our TCP and the running kernel's over one relay, 40 ms round trip", rows);
}
