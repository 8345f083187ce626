import { conditionNames } from "../insn/condition.ts";
import type { Instruction } from "../insn/define.ts";
import { type OperandForm, parseOperands } from "../insn/operands.ts";
import type { RmKind, Size, StackKind, Variant } from "./emitter.ts";
import { flagUse, fusedConditions, hasFlagless } from "./fusion.ts";

/** Handlers that no row makes, by their place in the function table. */
export const STALE = 0;
/** Leaves generated code with PC at this micro-op. */
export const LEAVE = 1;
/** Goes on at the micro-op in the immediate: joins a run that was decoded before. */
export const JOIN = 2;
/** The page ends here; the immediate is the offset to go on at. By code size 16, 32, 64. */
export const PAGE_END_16 = 3;
export const PAGE_END_32 = 4;
export const PAGE_END_64 = 5;
/** #UD. */
export const INVALID = 6;
/** An instruction that reaches into the next page. */
export const CROSSING = 7;
/** x87 while CR0 forbids it; SSE and MMX likewise. */
export const NO_FPU = 8;
export const NO_SSE = 9;
export const NO_MMX = 10;
/** #GP(0): an instruction of more than 15 bytes. */
export const TOO_LONG = 11;
/** Number of the first handler that a row makes. */
export const FIRST_ROW_HANDLER = 12;

const SIZES: readonly Size[] = [2, 4, 8];
const RM_KINDS: readonly RmKind[] = ["register", "flat64", "flat32", "segmented"];
const STACKS: readonly StackKind[] = ["flat64", "flat32", "segmented"];
const REPEATS = [0, 0xf2, 0xf3] as const;
/** Handler slots a row has: size x rm x stack x repeat, then the near form per size and stack. */
const NEAR_SLOTS = 9;
const SLOTS_PER_ROW: number = 3 * 4 * 3 * 3 + NEAR_SLOTS;

/** A handler that calls into TypeScript: what it must know besides its micro-op. */
export interface SystemHandler {
	readonly row: Instruction;
	readonly operandSize: 1 | 2 | 4 | 8;
	readonly isMemory: boolean;
	readonly repeat: 0 | 0xf2 | 0xf3;
	/** reg and rm hold general registers' byte offsets rather than numbers. */
	readonly generalReg: boolean;
	readonly generalRm: boolean;
}

/** One handler of the function table, behind the special ones. */
export type PlannedHandler =
	| { readonly kind: "system"; readonly number: number }
	| { readonly kind: "plain" | "near" | "flagless"; readonly row: Row; readonly variant: Variant }
	| { readonly kind: "fused"; readonly row: Row; readonly variant: Variant; readonly condition: number };

/** Which handlers there are and what the decoder must know of them: all but their code. */
export interface HandlerPlan {
	readonly rows: readonly Row[];
	/** In the function table's order, from FIRST_ROW_HANDLER on. */
	readonly planned: readonly PlannedHandler[];
	readonly systemHandlers: readonly SystemHandler[];
	/** Handler number by row and slot; 0 where there is none. */
	readonly handlers: Uint16Array;
	/** By handler: FLAGS_* bits. */
	readonly flagUse: Uint8Array;
	/** By handler: the one that leaves the flags alone, or 0. */
	readonly flagless: Uint16Array;
	/** By handler: 1 + the condition code that a near branch tests, or 0. */
	readonly branchCondition: Uint8Array;
	/** By handler * 16 + condition code: the one that takes the following near branch too. */
	readonly fused: ReadonlyMap<number, number>;
	/** By handler: the one that does no more and no less than its instruction. */
	readonly plain: Uint16Array;
}

/** A table row with what is derived from it once. */
export interface Row {
	readonly number: number;
	readonly insn: Instruction;
	readonly operands: readonly OperandForm[];
	readonly sized: boolean;
	readonly byteSized: boolean;
	/** Attributes and forms the decoder asks for with every instruction. */
	readonly force64: boolean;
	readonly default64: boolean;
	readonly lockable: boolean;
	readonly repeats: boolean;
	readonly string: boolean;
	/** A string instruction with a DS:rSI operand. */
	readonly readsSource: boolean;
	readonly stack: boolean;
	readonly address: boolean;
	readonly ends: boolean;
	readonly x87: boolean;
	readonly sse: boolean;
	readonly mmx: boolean;
	readonly isSystem: boolean;
	/** Handlers are made per operand size. */
	readonly perSize: boolean;
	readonly regFile: OperandForm["file"];
	readonly rmFile: OperandForm["file"];
	readonly regByte: boolean;
	readonly rmByte: boolean;
	/** Operands with bytes of their own behind ModRM. */
	readonly encoded: readonly OperandForm[];
	/** The register is in the opcode byte. */
	readonly inOpcode: boolean;
}

/** Where a row's handler stands in `Generated.handlers`. */
export function slotOf(row: number, size: Size, rm: RmKind, stack: StackKind, repeat: 0 | 0xf2 | 0xf3): number {
	const sizeIndex = size === 2 ? 0 : size === 4 ? 1 : 2;
	const rmIndex = rm === "register" ? 0 : rm === "flat64" ? 1 : rm === "flat32" ? 2 : 3;
	const stackIndex = stack === "flat64" ? 0 : stack === "flat32" ? 1 : 2;
	const repeatIndex = repeat === 0 ? 0 : repeat === 0xf2 ? 1 : 2;
	return row * SLOTS_PER_ROW + ((sizeIndex * 4 + rmIndex) * 3 + stackIndex) * 3 + repeatIndex;
}

/** Where the near form of a branch stands. */
export function nearSlotOf(row: number, size: Size, stack: StackKind): number {
	const sizeIndex = size === 2 ? 0 : size === 4 ? 1 : 2;
	const stackIndex = stack === "flat64" ? 0 : stack === "flat32" ? 1 : 2;
	return row * SLOTS_PER_ROW + 108 + sizeIndex * 3 + stackIndex;
}

/** Prepares table rows: operands parsed, numbered. */
export function prepareRows(table: readonly Instruction[]): Row[] {
	return table.map((insn, number) => {
		const operands = parseOperands(insn.operands);
		const sized =
			insn.attributes.includes("sized") ||
			insn.attributes.includes("stack") ||
			operands.some(({ size }) => size === "v" || size === "z" || size === "y" || size === "far");
		const byteSized = !sized && operands.some(({ size, place }) => size === 1 && place !== "immediate");
		const has = (attribute: Instruction["attributes"][number]): boolean => insn.attributes.includes(attribute);
		const reg = operands.findLast(({ place }) => place === "reg");
		const rm = operands.findLast(({ place }) => place === "rm");
		const perSize = sized || (insn.system !== undefined && !byteSized);
		const relative = operands.some(({ encoding }) => encoding === "jb" || encoding === "jz");
		return {
			number,
			insn,
			operands,
			sized: perSize,
			byteSized,
			force64: has("f64"),
			default64: has("d64"),
			lockable: has("lock"),
			repeats: has("rep"),
			string: has("string"),
			readsSource: operands.some(({ string }) => string === "source"),
			stack: has("stack"),
			address: has("address"),
			ends: has("ends"),
			x87: has("x87"),
			mmx: has("mmx"),
			sse: has("sse"),
			isSystem: insn.system !== undefined,
			perSize: perSize || has("f64") || relative,
			regFile: reg?.file ?? "none",
			rmFile: rm?.file ?? "none",
			regByte: reg?.size === 1,
			rmByte: rm?.size === 1,
			encoded: operands.filter(({ encoding }) => encoding !== undefined),
			inOpcode: operands.some(({ inOpcode }) => inOpcode === true),
		};
	});
}

/** Numbers every handler the table asks for. */
export function planHandlers(table: readonly Instruction[]): HandlerPlan {
	const rows = prepareRows(table);
	const handlers = new Uint16Array(rows.length * SLOTS_PER_ROW);
	const planned: PlannedHandler[] = [];
	const systemHandlers: SystemHandler[] = [];
	const uses: [handler: number, use: number][] = [];
	const conditions: [handler: number, code: number][] = [];
	const flaglessPairs: [base: number, other: number][] = [];
	const fused = new Map<number, number>();
	const add = (handler: PlannedHandler): number => {
		planned.push(handler);
		return FIRST_ROW_HANDLER + planned.length - 1;
	};
	for (const row of rows) {
		for (const { variant, slot, near } of variantsOf(row)) {
			const operation = systemOperation(row.insn, variant);
			if (operation !== undefined) {
				handlers[slot] = add({ kind: "system", number: systemHandlers.length });
				systemHandlers.push({
					row: operation === row.insn.system ? row.insn : { ...row.insn, system: operation },
					operandSize: row.byteSized ? 1 : variant.size,
					isMemory: variant.rm !== "register",
					repeat: variant.repeat,
					generalReg: row.operands.some(({ place, file }) => place === "reg" && file === "general"),
					generalRm: row.operands.some(({ place, file }) => place === "rm" && file === "general"),
				});
				continue;
			}
			const handler = add({ kind: near ? "near" : "plain", row, variant });
			handlers[slot] = handler;
			if (near) {
				const code = conditionCode(row.insn.name);
				if (code >= 0) conditions.push([handler, code]);
				continue;
			}
			uses.push([handler, flagUse(row, variant)]);
			if (hasFlagless(row, variant)) flaglessPairs.push([handler, add({ kind: "flagless", row, variant })]);
			for (const condition of fusedConditions(row, variant)) {
				fused.set(handler * 16 + condition, add({ kind: "fused", row, variant, condition }));
			}
		}
	}
	const count = FIRST_ROW_HANDLER + planned.length;
	const plain = Uint16Array.from({ length: count }, (_, i) => i);
	const flagless = new Uint16Array(count);
	for (const [base, other] of flaglessPairs) {
		flagless[base] = other;
		plain[other] = base;
	}
	for (const [key, other] of fused) plain[other] = key >>> 4;
	const flagUses = new Uint8Array(count);
	for (const [handler, use] of uses) flagUses[handler] = use;
	const branchCondition = new Uint8Array(count);
	for (const [handler, code] of conditions) branchCondition[handler] = code + 1;
	return {
		rows,
		planned,
		systemHandlers,
		handlers,
		flagUse: flagUses,
		flagless,
		branchCondition,
		fused,
		plain,
	};
}

/** Condition code of a Jcc by name, or -1. */
function conditionCode(name: string): number {
	return name.startsWith("j") ? conditionNames.indexOf(name.slice(1)) : -1;
}

function systemOperation(insn: Instruction, variant: Variant): Instruction["system"] {
	if (insn.system !== undefined) return insn.system;
	if (insn.segmented === undefined) return undefined;
	if (insn.attributes.includes("stack")) return variant.stack === "segmented" ? insn.segmented : undefined;
	return variant.rm === "segmented" ? insn.segmented : undefined;
}

/** Every combination a row needs a handler for. */
function variantsOf(row: Row): { variant: Variant; slot: number; near: boolean }[] {
	const { insn, operands } = row;
	const has = (attribute: Instruction["attributes"][number]): boolean => insn.attributes.includes(attribute);
	const rmOperand = operands.find(({ place }) => place === "rm");
	const modrmMemory = insn.opcode.includes("mod=m");
	const modrmRegister = insn.opcode.includes("mod=3");
	const rms = RM_KINDS.filter((rm) => {
		if (has("string")) return rm !== "register";
		if (rmOperand === undefined) return rm === "register" || (modrmMemory && rm === "segmented");
		if (rm === "register") return rmOperand.mod !== "memory" && !modrmMemory && rmOperand.encoding === undefined;
		if (insn.system !== undefined) return rm === "segmented" && rmOperand.mod !== "register" && !modrmRegister;
		return rmOperand.mod !== "register" && !modrmRegister;
	});
	const sizes = row.perSize ? SIZES : [8 as Size];
	const stacks: readonly StackKind[] = has("stack") ? STACKS : ["flat64"];
	const out: { variant: Variant; slot: number; near: boolean }[] = [];
	for (const size of sizes) {
		if (size === 8 && has("i64") && sizes.length > 1) continue;
		if (size !== 8 && has("o64") && has("f64")) continue;
		for (const stack of stacks) {
			if (has("stack") && stack === "flat64" && size === 4) continue;
			if (has("stack") && stack !== "flat64" && size === 8) continue;
			for (const rm of rms) {
				for (const repeat of has("rep") ? REPEATS : [0 as const]) {
					const variant: Variant = { size, rm, stack, repeat };
					out.push({ variant, slot: slotOf(row.number, size, rm, stack, repeat), near: false });
				}
			}
			if (insn.near !== undefined && stack !== "segmented") {
				const variant: Variant = { size, rm: "register", stack, repeat: 0 };
				out.push({ variant, slot: nearSlotOf(row.number, size, stack), near: true });
			} else if (insn.near !== undefined && !has("stack")) {
				throw new Error("a near form without a stack has no segmented variant");
			}
		}
	}
	return out;
}
