import { arithmetic } from "./arithmetic.ts";
import { bitOperations } from "./bit.ts";
import { branches } from "./branch.ts";
import type { Instruction } from "./define.ts";
import { moves } from "./move.ts";
import { shifts } from "./shift.ts";
import { stack } from "./stack.ts";
import { strings } from "./string.ts";

/** Every instruction the engine knows. */
export const table: readonly Instruction[] = [
	...arithmetic,
	...shifts,
	...bitOperations,
	...moves,
	...stack,
	...branches,
	...strings,
];
