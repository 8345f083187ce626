import type { AgentClient } from "../agent/client.ts";
import type { CallArgument } from "../agent/protocol.ts";
import { GuestSystemError } from "./errors.ts";

/** Numbers of x86-64 Linux's system calls (arch/x86/entry/syscalls/syscall_64.tbl), of those the host makes. */
export const SYSCALL = {
	close: 3,
	ioctl: 16,
	pread64: 17,
	pwrite64: 18,
	socket: 41,
	kill: 62,
	fchmod: 91,
	fchown: 93,
	ftruncate: 77,
	chroot: 161,
	chdir: 80,
	sync: 162,
	mount: 165,
	umount2: 166,
	reboot: 169,
	sethostname: 170,
	getdents64: 217,
	openat: 257,
	mkdirat: 258,
	fchownat: 260,
	newfstatat: 262,
	unlinkat: 263,
	renameat: 264,
	symlinkat: 266,
	readlinkat: 267,
	fchmodat: 268,
	utimensat: 280,
	clock_settime: 227,
	finit_module: 313,
} as const;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;

/** Flags of open(2). */
export const OPEN = {
	RDONLY: 0,
	WRONLY: 1,
	RDWR: 2,
	CREAT: 0o100,
	EXCL: 0o200,
	TRUNC: 0o1000,
	APPEND: 0o2000,
	NONBLOCK: 0o4000,
	DIRECTORY: 0o200000,
	NOFOLLOW: 0o400000,
	CLOEXEC: 0o2000000,
} as const;

const CHUNK = 61_440;
const MOST_TEXT = 2 ** 22;

/** The guest's kernel, asked through the agent, as root. */
export class GuestKernel {
	readonly #client: AgentClient;

	constructor(client: AgentClient) {
		this.#client = client;
	}

	/**
	 * Makes a system call.
	 *
	 * @param path - what it is about, for the error
	 * @throws GuestSystemError
	 */
	async call(
		name: keyof typeof SYSCALL,
		args: readonly CallArgument[],
		path?: string,
	): Promise<{ result: number; output: Uint8Array }> {
		const answer = await this.#client.call(SYSCALL[name], args);
		if (answer.result < 0) throw new GuestSystemError(-answer.result, name, path);
		return answer;
	}

	/** The same when its failure does not matter. */
	async attempt(name: keyof typeof SYSCALL, args: readonly CallArgument[]): Promise<number> {
		return (await this.#client.call(SYSCALL[name], args)).result;
	}

	async open(path: string, flags: number, mode = 0o644): Promise<number> {
		return (await this.call("openat", [AT_FDCWD, path, flags | OPEN.CLOEXEC, mode], path)).result;
	}

	async close(descriptor: number): Promise<void> {
		await this.attempt("close", [descriptor]);
	}

	/** Reads a whole file of text. */
	async readFile(path: string): Promise<string> {
		const descriptor = await this.open(path, OPEN.RDONLY | OPEN.NONBLOCK);
		try {
			const chunks: Uint8Array[] = [];
			for (let offset = 0; offset < MOST_TEXT; ) {
				const { result, output } = await this.call("pread64", [descriptor, { output: CHUNK }, CHUNK, offset], path);
				if (result === 0) break;
				chunks.push(output.subarray(0, result));
				offset += result;
			}
			return Buffer.concat(chunks).toString();
		} finally {
			await this.close(descriptor);
		}
	}

	/** Writes a whole file of text. */
	async writeFile(path: string, text: string): Promise<void> {
		const descriptor = await this.open(path, OPEN.WRONLY | OPEN.CREAT | OPEN.TRUNC);
		try {
			const bytes = new TextEncoder().encode(text);
			for (let offset = 0; offset < bytes.length; ) {
				const piece = bytes.subarray(offset, offset + CHUNK);
				offset += (await this.call("pwrite64", [descriptor, piece, piece.length, offset], path)).result;
			}
		} finally {
			await this.close(descriptor);
		}
	}

	/** Loads kernel modules, each after those it needs; one that is there already is fine. */
	async loadModules(paths: readonly string[]): Promise<void> {
		const descriptors = await Promise.all(paths.map((path) => this.open(path, OPEN.RDONLY)));
		// All are sent at once and done in order: going back and forth would take longer than the loading.
		const results = await Promise.all(
			descriptors.map((descriptor) => {
				const loaded = this.attempt("finit_module", [descriptor, "", 0]);
				void this.close(descriptor).catch(() => {});
				return loaded;
			}),
		);
		// EEXIST: loaded or built in.
		const failed = results.findIndex((result) => result < 0 && result !== -17);
		if (failed >= 0) throw new GuestSystemError(-results[failed]!, "finit_module", paths[failed]);
	}
}
