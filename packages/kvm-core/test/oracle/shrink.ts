import { compare } from "./compare.ts";
import { type Generated, nameOf } from "./generate.ts";
import type { EngineCpu } from "./guest.ts";
import type { NativeCpu } from "./native.ts";
import { FX } from "./protocol.ts";

/** Makes a failing case smaller as long as it still fails, not necessarily in the same way. */
export function shrink(native: NativeCpu, engine: EngineCpu, data: Uint8Array, failing: Generated): Generated {
	let best = failing;
	for (let round = 0; round < 6; round++) {
		const list = steps(best).flatMap((step) => {
			const candidate = step(best);
			return candidate === undefined ? [] : [{ step, candidate }];
		});
		const helped = failures(
			native,
			engine,
			data,
			list.map(({ candidate }) => candidate),
		);
		const good = list.filter((_, i) => helped[i]);
		if (good.length === 0) break;
		// All of them at once where that still fails, or the first half, a quarter...
		let count = good.length;
		let next = combine(
			best,
			good.map(({ step }) => step),
		);
		while (count > 1 && !failures(native, engine, data, [next])[0]) {
			count = count >> 1;
			next = combine(
				best,
				good.slice(0, count).map(({ step }) => step),
			);
		}
		best = next;
	}
	return best;
}

function combine(from: Generated, list: readonly Step[]): Generated {
	return list.reduce((best, step) => step(best) ?? best, from);
}

function failures(native: NativeCpu, engine: EngineCpu, data: Uint8Array, list: readonly Generated[]): boolean[] {
	const inputs = list.map(({ one }) => one);
	const want = native.run(data, inputs);
	const got = engine.run(data, inputs);
	return list.map((one, i) => compare(one, want[i]!, got[i]!).length > 0);
}

type Step = (from: Generated) => Generated | undefined;

function steps(from: Generated): Step[] {
	const list: Step[] = [];
	for (let i = from.starts.length - 1; i >= 0; i--) list.push((g) => without(g, i));
	list.push((g) =>
		withFx(g, (view, bytes) => {
			bytes.fill(0);
			view.setUint16(FX.fcw, 0x37f, true);
			view.setUint32(FX.mxcsr, 0x1f80, true);
		}),
	);
	list.push((g) => withFx(g, (_, bytes) => bytes.fill(0, FX.xmm, FX.xmm + 256)));
	list.push((g) => withFx(g, (_, bytes) => bytes.fill(0, FX.st, FX.st + 128)));
	for (let i = 0; i < 16; i++)
		list.push((g) => withFx(g, (_, bytes) => bytes.fill(0, FX.xmm + i * 16, FX.xmm + i * 16 + 16)));
	for (let i = 0; i < 8; i++)
		list.push((g) => withFx(g, (_, bytes) => bytes.fill(0, FX.st + i * 16, FX.st + i * 16 + 16)));
	list.push((g) => withFx(g, (view) => view.setUint16(FX.fcw, 0x37f, true)));
	list.push((g) => withFx(g, (view) => view.setUint16(FX.fsw, 0, true)));
	list.push((g) => withFx(g, (view) => view.setUint32(FX.mxcsr, 0x1f80, true)));
	for (let i = 0; i < 16; i++) {
		list.push((g) => (g.one.gpr[i] === 0n ? undefined : { ...g, one: { ...g.one, gpr: g.one.gpr.with(i, 0n) } }));
		list.push((g) =>
			g.one.gpr[i]! < 0x10000n
				? undefined
				: { ...g, one: { ...g.one, gpr: g.one.gpr.with(i, g.one.gpr[i]! & 0xffffn) } },
		);
	}
	for (const rflags of [0x202n, from.one.rflags & 0x203n])
		list.push((g) => (g.one.rflags === rflags ? undefined : { ...g, one: { ...g.one, rflags } }));
	list.push((g) => (g.one.offset === 0x400 ? undefined : { ...g, one: { ...g.one, offset: 0x400 } }));
	return list;
}

function without(g: Generated, index: number): Generated | undefined {
	if (g.starts.length < 2 || index >= g.starts.length) return undefined;
	const start = g.starts[index]!;
	const end = g.starts[index + 1] ?? g.one.code.length;
	const code = Uint8Array.from([...g.one.code.subarray(0, start), ...g.one.code.subarray(end)]);
	const rows = g.rows.filter((_, i) => i !== index);
	const starts = g.starts.flatMap((at, i) => (i === index ? [] : [at > start ? at - (end - start) : at]));
	return { ...g, one: { ...g.one, code }, starts, rows, name: nameOf(rows) };
}

function withFx(g: Generated, change: (view: DataView, bytes: Uint8Array) => void): Generated | undefined {
	const fx = g.one.fx.slice();
	change(new DataView(fx.buffer), fx);
	return Buffer.compare(fx, g.one.fx) === 0 ? undefined : { ...g, one: { ...g.one, fx } };
}
