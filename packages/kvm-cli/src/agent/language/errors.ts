/** A program of the agent's language that cannot be compiled. */
export class CompileError extends Error {
	override readonly name = "CompileError";
	readonly line: number;

	constructor(line: number, message: string) {
		super(`line ${line}: ${message}`);
		this.line = line;
	}
}
