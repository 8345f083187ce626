import { getSystemErrorMap } from "node:util";

type Coded<E extends Error> = E & { code: string };

/** An error with one of node's own `ERR_*` codes. */
export function nodeError<E extends Error>(type: new (message: string) => E, code: string, message: string): Coded<E> {
	const error = new type(message) as Coded<E>;
	error.code = code;
	return error;
}

/** Numbers and descriptions of this system's errors, by code. */
const known = new Map([...getSystemErrorMap()].map(([errno, [code, text]]) => [code, { errno, text }]));
const EAI_FAIL = -3008;

export type SystemError = Error & { code: string; errno: number; syscall: string; address?: string; port?: number };

/** What node reports of a failed system call: `connect ECONNREFUSED 10.0.0.2:80` with `errno`, `code` and `syscall`. */
export function systemError(
	code: string,
	syscall: string,
	address?: string,
	port?: number,
	described = false,
): SystemError {
	const where = address === undefined ? "" : ` ${address}${port ? `:${port}` : ""}`;
	const text = described ? `: ${known.get(code)?.text ?? "unknown error"}` : "";
	const error = new Error(`${syscall} ${code}${text}${where}`) as SystemError;
	error.code = code;
	error.errno = known.get(code)?.errno ?? EAI_FAIL;
	error.syscall = syscall;
	if (address !== undefined) error.address = address;
	if (port) error.port = port;
	return error;
}
