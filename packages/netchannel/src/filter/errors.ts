/** Thrown for a filter expression that cannot be understood; `at` is the character where. */
export class FilterError extends Error {
	override readonly name = "FilterError";
	readonly code = "ERR_FILTER_SYNTAX";
	readonly at: number;

	constructor(at: number, message: string) {
		super(`filter, character ${at + 1}: ${message}`);
		this.at = at;
	}
}
