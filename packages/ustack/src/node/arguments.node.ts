import { inspect } from "node:util";
import { nodeError } from "./errors.node.ts";

type Kind = "string" | "number" | "boolean" | "function" | "object";

/** Node's complaint about an argument of the wrong type. */
export function wrongType(name: string, expected: string, value: unknown): TypeError & { code: string } {
	const what = name.includes(".") ? "property" : "argument";
	const got = value === undefined || value === null ? String(value) : `type ${typeof value} (${inspect(value)})`;
	return nodeError(
		TypeError,
		"ERR_INVALID_ARG_TYPE",
		`The "${name}" ${what} must be of type ${expected}. Received ${got}`,
	);
}

/** An argument that may be left out must have its type. */
export function checkType(value: unknown, name: string, kind: Kind): void {
	if (value !== undefined && typeof value !== kind) throw wrongType(name, kind, value);
}

/** A port as node takes it: an integer or one in text. */
export function portOf(value: unknown, name: string, zero = true): number {
	const port = typeof value === "number" || (typeof value === "string" && value.trim() !== "") ? Number(value) : -1;
	if (!Number.isInteger(port) || port < (zero ? 0 : 1) || port > 65_535) {
		throw nodeError(
			RangeError,
			"ERR_SOCKET_BAD_PORT",
			`${name} should be ${zero ? ">=" : ">"} 0 and < 65536. Received ${inspect(value)}.`,
		);
	}
	return port;
}

/** A signal that may be left out must be one. */
export function checkSignal(signal: unknown, name: string): void {
	if (signal !== undefined && (typeof signal !== "object" || signal === null || !("aborted" in signal))) {
		throw wrongType(name, "AbortSignal", signal);
	}
}

/** What an aborted signal ends things with. */
export function abortError(signal: AbortSignal): Error {
	const error = new Error("The operation was aborted", { cause: signal.reason }) as Error & { code: string };
	error.name = "AbortError";
	error.code = "ABORT_ERR";
	return error;
}
