/** How many bytes of memory a load or store touches, and whether it extends the sign. */
export type Width = "u8" | "u16" | "u32" | "i32" | "u64";

/** Bytes of each width. */
export const WIDTH_BYTES: { readonly [width in Width]: number } = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 };

/** A member of a record: a word of some width, or bytes whose address is the member's value. */
export interface Field {
	readonly name: string;
	readonly offset: number;
	readonly width: Width | "bytes";
	readonly size: number;
}

/** Names for offsets into memory. */
export interface RecordType {
	readonly name: string;
	readonly size: number;
	readonly fields: ReadonlyMap<string, Field>;
}

/** Operators on two words, comparisons signed, division and right shift unsigned. */
export type BinaryOperator =
	| "+"
	| "-"
	| "*"
	| "/"
	| "%"
	| "&"
	| "|"
	| "^"
	| "<<"
	| ">>"
	| "=="
	| "!="
	| "<"
	| "<="
	| ">"
	| ">="
	| "&&"
	| "||";

/** A value of 64 bits. */
export type Expression =
	| { readonly kind: "number"; readonly value: bigint; readonly line: number }
	| { readonly kind: "text"; readonly text: string; readonly line: number }
	| { readonly kind: "name"; readonly name: string; readonly line: number }
	| { readonly kind: "unary"; readonly operator: "-" | "~" | "!"; readonly operand: Expression; readonly line: number }
	| {
			readonly kind: "binary";
			readonly operator: BinaryOperator;
			readonly left: Expression;
			readonly right: Expression;
			readonly line: number;
	  }
	| { readonly kind: "call"; readonly name: string; readonly args: readonly Expression[]; readonly line: number }
	| { readonly kind: "load"; readonly width: Width; readonly address: Expression; readonly line: number }
	| { readonly kind: "member"; readonly base: string; readonly field: string; readonly line: number };

/** What can stand left of `=`. */
export type Target = Extract<Expression, { kind: "name" | "load" | "member" }>;

export type Statement =
	| {
			readonly kind: "let";
			readonly name: string;
			readonly record: string | undefined;
			readonly value: Expression;
			readonly line: number;
	  }
	| { readonly kind: "assign"; readonly target: Target; readonly value: Expression; readonly line: number }
	| { readonly kind: "expression"; readonly value: Expression; readonly line: number }
	| {
			readonly kind: "if";
			readonly condition: Expression;
			readonly then: readonly Statement[];
			readonly otherwise: readonly Statement[];
			readonly line: number;
	  }
	| {
			readonly kind: "while";
			readonly condition: Expression;
			readonly body: readonly Statement[];
			readonly line: number;
	  }
	| { readonly kind: "break" | "continue"; readonly line: number }
	| { readonly kind: "return"; readonly value: Expression | undefined; readonly line: number };

/** A local variable or parameter; with a record its members can be named. */
export interface Variable {
	readonly name: string;
	readonly record: string | undefined;
}

export interface FunctionDefinition {
	readonly name: string;
	readonly parameters: readonly Variable[];
	readonly body: readonly Statement[];
	readonly line: number;
}

/** A whole program. */
export interface Program {
	readonly constants: ReadonlyMap<string, bigint>;
	readonly records: ReadonlyMap<string, RecordType>;
	/** Zeroed memory by name, in bytes. A global variable is one of 8. */
	readonly buffers: ReadonlyMap<string, number>;
	readonly globals: ReadonlySet<string>;
	readonly functions: ReadonlyMap<string, FunctionDefinition>;
}
