/**
 * What went wrong, stable across releases. The prefix names the input: `BAD_` arguments, `DB_` regulatory.db, `BIN_`
 * regulatory.bin, `DBTXT_` db.txt, `DER_`/`SIGNATURE_` signatures, `ELEMENT_` country elements, `TEXT_` iw output,
 * `CONFIG_` configuration files, `SCENARIO_` simulations.
 */
export type RegdomainErrorCode =
	| "BAD_ARGUMENT"
	| "BAD_ALPHA2"
	| "BAD_RULE"
	| "BAD_CHANNEL"
	| "BAD_CHANNEL_DEFINITION"
	| "UNKNOWN_COUNTRY"
	| "DB_TRUNCATED"
	| "DB_MAGIC"
	| "DB_VERSION"
	| "DB_COLLECTION"
	| "DB_RULE"
	| "DB_WMM"
	| "DB_UNREPRESENTABLE"
	| "BIN_TRUNCATED"
	| "BIN_MAGIC"
	| "BIN_VERSION"
	| "BIN_POINTER"
	| "BIN_LIMIT"
	| "DBTXT_SYNTAX"
	| "DBTXT_DFS_REGION"
	| "DBTXT_ENCODING"
	| "DBTXT_VALUE"
	| "DBTXT_UNSUPPORTED_FLAG"
	| "DBTXT_RANGE"
	| "DER_SYNTAX"
	| "SIGNATURE_FORMAT"
	| "SIGNATURE_KEY"
	| "ELEMENT_LENGTH"
	| "ELEMENT_ID"
	| "TEXT_SYNTAX"
	| "CONFIG_SYNTAX"
	| "SCENARIO_SYNTAX";

/** Where in the input the fault lies. */
export interface ErrorPlace {
	/** Byte offset, for binary inputs. */
	offset?: number;
	/** Line, counted from 1, for text inputs. */
	line?: number;
	/** Name or path of the field. */
	field?: string;
}

/** Every error this package throws: a `code` to switch on, the value refused, and a message that says what to do. */
export class RegdomainError extends Error {
	override readonly name = "RegdomainError";
	/** The kind of fault. */
	readonly code: RegdomainErrorCode;
	/** The offending value, as it was given. */
	readonly value: unknown;
	/** Where it was found, when that is known. */
	readonly place: ErrorPlace;

	constructor(code: RegdomainErrorCode, message: string, value?: unknown, place: ErrorPlace = {}) {
		super(message);
		this.code = code;
		this.value = value;
		this.place = place;
	}
}
