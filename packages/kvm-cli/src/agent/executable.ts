import { linkExecutable } from "./language/elf.ts";
import { AGENT_SOURCE } from "./program.ts";

let executable: Uint8Array | undefined;

/** The agent as an ELF file for x86-64 Linux; the same bytes every time. */
export function agentExecutable(): Uint8Array {
	executable ??= linkExecutable(AGENT_SOURCE);
	return executable;
}
