import { controlRegisterRows } from "./control-registers.ts";
import { decimalRows } from "./decimal.ts";
import type { Instruction } from "./define.ts";
import { farRows } from "./far.ts";
import { systemFlagRows } from "./flags-system.ts";
import { machineRows } from "./machine.ts";
import { portIoRows } from "./port-io.ts";
import { segmentRows } from "./segment.ts";
import { stateSaveRows } from "./state-save.ts";
import { systemCallRows } from "./system-call.ts";

/** Every instruction whose semantics are TypeScript because it is privileged or rare. */
export const systemRows: readonly Instruction[] = [
	...controlRegisterRows,
	...segmentRows,
	...farRows,
	...systemFlagRows,
	...portIoRows,
	...machineRows,
	...systemCallRows,
	...stateSaveRows,
	...decimalRows,
];
