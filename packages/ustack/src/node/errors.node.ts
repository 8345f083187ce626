import { constants } from "node:os";

type Coded<E extends Error> = E & { code: string };

/** An error with one of node's own `ERR_*` codes. */
export function nodeError<E extends Error>(type: new (message: string) => E, code: string, message: string): Coded<E> {
	const error = new type(message) as Coded<E>;
	error.code = code;
	return error;
}

/** What node reports of a failed system call: `connect ECONNREFUSED 10.0.0.2:80` with `errno`, `code` and `syscall`. */
export function systemError(
	code: string,
	syscall: string,
	address?: string,
	port?: number,
): Error & { code: string; errno: number; syscall: string; address?: string; port?: number } {
	const where = address === undefined ? "" : ` ${address}${port === undefined ? "" : `:${port}`}`;
	const error = new Error(`${syscall} ${code}${where}`) as ReturnType<typeof systemError>;
	error.code = code;
	error.errno = -(constants.errno[code as keyof typeof constants.errno] ?? 3008);
	error.syscall = syscall;
	if (address !== undefined) error.address = address;
	if (port !== undefined) error.port = port;
	return error;
}
