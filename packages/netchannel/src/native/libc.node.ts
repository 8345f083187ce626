import { closeSync, openSync } from "node:fs";
import { constants } from "node:os";
import { LinkError, type LinkErrorCode } from "../link/errors.ts";
import { codeForErrno } from "../link/system-error.ts";
import { loopPoll, type WatchByLoop } from "./loop-poll.node.ts";

/** A pointer argument: memory of ours, or an address. */
type Pointer = Uint8Array | Int32Array | Uint32Array | BigUint64Array | bigint | null;

/** The C library's calls that links are made of. Every one returns what C returns; {@link Libc.fail} makes it an error. */
export interface Libc {
	open(path: string, flags: number): number;
	close(fd: number): number;
	read(fd: number, buffer: Pointer, length: number): number;
	write(fd: number, buffer: Pointer, length: number): number;
	/** {@link read} and {@link write} of memory at an address: a fifth cheaper, for what is called for every frame. */
	readAt(fd: number, address: number, length: number): number;
	writeAt(fd: number, address: number, length: number): number;
	ioctl(fd: number, request: number, argument: Pointer): number;
	socket(domain: number, type: number, protocol: number): number;
	bind(fd: number, address: Pointer, length: number): number;
	connect(fd: number, address: Pointer, length: number): number;
	send(fd: number, buffer: Pointer, length: number, flags: number): number;
	sendto(fd: number, buffer: Pointer, length: number, flags: number, address: Pointer, addressLength: number): number;
	getsockname(fd: number, address: Pointer, length: Pointer): number;
	setsockopt(fd: number, level: number, option: number, value: Pointer, length: number): number;
	getsockopt(fd: number, level: number, option: number, value: Pointer, length: Pointer): number;
	recvmmsg(fd: number, messages: Pointer, count: number, flags: number, timeout: Pointer): number;
	sendmmsg(fd: number, messages: Pointer, count: number, flags: number): number;
	poll(fds: Pointer, count: number, timeoutMs: number): number;
	/** The same on a thread of the pool. */
	pollAsync(fds: Uint8Array, count: number, timeoutMs: number): Promise<number>;
	mmap(address: Pointer, length: number, protection: number, flags: number, fd: number, offset: number): bigint;
	munmap(address: bigint, length: number): number;
	setns(fd: number, type: number): number;
	eventfd(value: number, flags: number): number;
	dup3(from: number, to: number, flags: number): number;
	memfdCreate(name: string, flags: number): number;
	ftruncate(fd: number, length: number): number;
	futex(word: bigint, operation: number, value: number, timeout: Pointer): number;
	futexAsync(word: bigint, operation: number, value: number, timeout: Uint8Array): Promise<number>;
	/** The last call's errno. */
	errno(): number;
	/** Memory at an address, not copied. */
	view(address: bigint, length: number): ArrayBuffer;
	/** Where a buffer of ours lies; it must be kept alive for as long as the address is used. */
	addressOf(buffer: Uint8Array | BigUint64Array): bigint;
	/** On the main thread, where it can be. */
	watch: WatchByLoop | undefined;
}

type Func = ((...values: unknown[]) => number) & { async(...values: unknown[]): void };

/** What is used of koffi. */
export interface Koffi {
	load(path: null): { func(signature: string): Func; func(name: string, result: string, values: unknown[]): Func };
	proto(signature: string): unknown;
	pointer(type: unknown): unknown;
	register(callback: (...values: number[]) => void, type: unknown): unknown;
	errno(): number;
	view(address: bigint, length: number): ArrayBuffer;
	address(value: unknown): bigint;
	node?: { poll?: WatchByLoop };
}

const SYS_FUTEX: Record<string, number> = { x64: 202, arm64: 98 };

function bindings(koffi: Koffi): Libc {
	const lib = koffi.load(null);
	const func = (signature: string): Func => lib.func(signature);
	const asynchronous = (call: Func, ...values: unknown[]): Promise<number> =>
		new Promise((resolve, reject) => {
			call.async(...values, (error: Error | null, result: number) =>
				error === null ? resolve(result) : reject(error),
			);
		});
	const poll = func("int poll(void *fds, ulong count, int timeout)");
	const futex = func(
		"long syscall(long number, uintptr_t word, long operation, long value, void *timeout, void *word2, long value3)",
	);
	const futexNumber = SYS_FUTEX[process.arch] ?? -1;
	const mmap = func("uintptr_t mmap(void *address, size_t length, int protection, int flags, int fd, long offset)");
	const munmap = func("int munmap(uintptr_t address, size_t length)");
	return {
		open: func("int open(const char *path, int flags)"),
		close: func("int close(int fd)"),
		read: func("long read(int fd, void *buffer, size_t length)"),
		write: func("long write(int fd, void *buffer, size_t length)"),
		readAt: func("int read(int fd, uintptr_t buffer, uint length)"),
		writeAt: func("int write(int fd, uintptr_t buffer, uint length)"),
		ioctl: func("int ioctl(int fd, ulong request, void *argument)"),
		socket: func("int socket(int domain, int type, int protocol)"),
		bind: func("int bind(int fd, void *address, uint length)"),
		connect: func("int connect(int fd, void *address, uint length)"),
		send: func("long send(int fd, void *buffer, size_t length, int flags)"),
		sendto: func("long sendto(int fd, void *buffer, size_t length, int flags, void *address, uint addressLength)"),
		getsockname: func("int getsockname(int fd, void *address, void *length)"),
		setsockopt: func("int setsockopt(int fd, int level, int option, void *value, uint length)"),
		getsockopt: func("int getsockopt(int fd, int level, int option, void *value, void *length)"),
		recvmmsg: func("int recvmmsg(int fd, void *messages, uint count, int flags, void *timeout)"),
		sendmmsg: func("int sendmmsg(int fd, void *messages, uint count, int flags)"),
		poll,
		pollAsync: (fds, count, timeoutMs) => asynchronous(poll, fds, count, timeoutMs),
		mmap: (...values) => BigInt(mmap(...values)),
		munmap: (address, length) => munmap(address, length),
		setns: func("int setns(int fd, int type)"),
		eventfd: func("int eventfd(uint value, int flags)"),
		dup3: func("int dup3(int from, int to, int flags)"),
		memfdCreate: func("int memfd_create(const char *name, uint flags)"),
		ftruncate: func("int ftruncate(int fd, long length)"),
		futex: (word, operation, value, timeout) => futex(futexNumber, word, operation, value, timeout, null, 0),
		futexAsync: (word, operation, value, timeout) =>
			asynchronous(futex, futexNumber, word, operation, value, timeout, null, 0),
		errno: () => koffi.errno(),
		view: (address, length) => koffi.view(address, length),
		addressOf: (buffer) => koffi.address(buffer),
		watch: loopPoll(koffi),
	};
}

let loaded: Promise<Libc> | undefined;

/**
 * The C library through koffi.
 *
 * @throws LinkError `ERR_LINK_UNSUPPORTED` off Linux and without koffi
 */
export function loadLibc(): Promise<Libc> {
	loaded ??= load();
	return loaded;
}

async function load(): Promise<Libc> {
	if (process.platform !== "linux") {
		throw new LinkError("ERR_LINK_UNSUPPORTED", `native links need Linux, this is ${process.platform}`);
	}
	let koffi: Koffi;
	try {
		const module = (await import("koffi")) as unknown as { default: Koffi };
		koffi = module.default;
	} catch (cause) {
		throw new LinkError("ERR_LINK_UNSUPPORTED", "native links need the optional package koffi: npm install koffi", {
			cause,
		});
	}
	return bindings(koffi);
}

/** An errno's name. */
export function errnoName(errno: number): string {
	return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}

/** The last failure as an error; `needs` names the capability a refusal is about. */
export function systemFailure(libc: Libc, syscall: string, attempted: string, needs?: string): LinkError {
	const errno = libc.errno();
	const name = errnoName(errno);
	const code: LinkErrorCode = codeForErrno(name);
	const hint = code === "ERR_LINK_PERMISSION" && needs !== undefined ? ` (this needs ${needs})` : "";
	return new LinkError(code, `${attempted}: ${syscall} failed with ${name}${hint}`, {
		errno,
		errnoName: name,
		syscall,
	});
}

const O_CLOEXEC = 0x80000;

/**
 * Moves a descriptor under Node's own care: those a worker opened through `fs` are closed when it is terminated, those
 * it got from C are not. Closed with {@link releaseDescriptor}.
 */
export function holdDescriptor(libc: Libc, fd: number): number {
	try {
		return moveDescriptor(libc, fd);
	} finally {
		libc.close(fd);
	}
}

function moveDescriptor(libc: Libc, fd: number): number {
	const held = openSync("/dev/null", "r");
	if (libc.dup3(fd, held, O_CLOEXEC) < 0) {
		const error = systemFailure(libc, "dup3", "cannot move a descriptor");
		closeSync(held);
		throw error;
	}
	return held;
}

/** Closes what {@link holdDescriptor} returned. */
export function releaseDescriptor(fd: number): void {
	closeSync(fd);
}

export const EAGAIN: number = constants.errno.EAGAIN;
