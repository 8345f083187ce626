import { arithmetic } from "./arithmetic.ts";
import { bitOperations } from "./bit.ts";
import { branches } from "./branch.ts";
import type { Instruction } from "./define.ts";
import { moves } from "./move.ts";
import { packedInteger } from "./packed-integer.ts";
import { packedShift } from "./packed-shift.ts";
import { shifts } from "./shift.ts";
import { sseConvert } from "./sse-convert.ts";
import { sseFloat } from "./sse-float.ts";
import { sse42 } from "./sse42.ts";
import { stack } from "./stack.ts";
import { strings } from "./string.ts";
import { systemRows } from "./system.ts";
import { vectorMove } from "./vector-move.ts";
import { x87Basic } from "./x87.ts";
import { x87Environment } from "./x87-environment.ts";
import { x87Functions } from "./x87-functions.ts";

/** Every instruction the engine knows. */
export const table: readonly Instruction[] = [
	...arithmetic,
	...shifts,
	...bitOperations,
	...moves,
	...stack,
	...branches,
	...strings,
	...systemRows,
	...packedInteger,
	...packedShift,
	...vectorMove,
	...sseFloat,
	...sseConvert,
	...sse42,
	...x87Basic,
	...x87Functions,
	...x87Environment,
];
