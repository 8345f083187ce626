import { ERRNO, type KvmErrno, KvmError } from "../kvm/errors.ts";
import { HardwareUnavailableError } from "./errors.ts";
import { KVM } from "./ioctls.ts";
import { runCode } from "./run-code.ts";

type Koffi = typeof import("koffi");

/** What the engine needs of the C library. Pointers are bigint, as koffi has them. */
export interface Libc {
	/** Each throws {@link KvmError} under the name given when the call answers -1. */
	ioctl(fd: number, request: number, argument: number | bigint, name: string): number;
	ioctlBuffer(fd: number, request: number, argument: Uint8Array, name: string): number;
	/**
	 * KVM_RUN of one vCPU.
	 *
	 * @param spare - 32 bits of memory that nobody else uses, as long as the vCPU is there
	 */
	runner(fd: number, spare: Spare): Runner;
	mmapShared(fd: number, length: number): bigint;
	/** Zeroed memory that costs nothing until it is touched. */
	mmapAnonymous(length: number): bigint;
	munmap(address: bigint, length: number): void;
	/**
	 * Gives a mapping back though `views` of it may still be in somebody's hands: puts untouched private pages in its
	 * place, and unmaps those when no view can be reached any more. (Views of foreign memory cannot be detached.)
	 */
	release(address: bigint, length: number, views: readonly ArrayBuffer[]): void;
	/** The memory itself, at most 4 GiB; reading it after `munmap` is a crash. */
	view(address: bigint, length: number): ArrayBuffer;
	/** Where the bytes of a view lie that the garbage collector does not move. */
	addressOf(view: Uint8Array): bigint;
	eventfd(): number;
	/** Calls back from the event loop while `fd` is readable, without keeping the process alive. Returns the end of it. */
	watch(fd: number, callback: () => void): () => void;
	/** The calling thread, as the kernel numbers it. */
	gettid(): number;
	/** Sends {@link KICK_SIGNAL} to a thread of this process; false when there is none of that number. */
	kick(thread: number): boolean;
	/** A timer that sends {@link KICK_SIGNAL} to the calling thread. */
	timerCreate(): number;
	/** First after and then every `nanoseconds`, a minute at the most; 0 stops it. */
	timerSet(timer: number, nanoseconds: number): void;
	timerDelete(timer: number): void;
}

/** A word of memory. */
export interface Spare {
	readonly address: bigint;
	readonly words: Int32Array;
	readonly index: number;
}

/** What {@link Libc.runner} gives. */
export interface Runner {
	/** 0, or the positive errno. */
	readonly run: () => number;
	/** Gives back what it needs; `run` must not be called any more. */
	readonly release: () => void;
}

/** A realtime signal that neither glibc nor Node use. Its handler does nothing: what counts is that KVM_RUN returns. */
export const KICK_SIGNAL = 40;

/** The largest view that V8 takes: one byte more ends the process. */
export const VIEW_MAX: number = 2 ** 32;

const PROT_READ_WRITE = 3;
const PROT_READ_EXECUTE = 5;
const PAGE = 4096;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const CLOCK_MONOTONIC = 1;
const SIGEV_THREAD_ID = 4;
const SYS_GETTID = 186;
const SYS_TIMER_CREATE = 222;
const SYS_TIMER_SETTIME = 223;
const SYS_TIMER_DELETE = 226;
const SYS_TGKILL = 234;
const SIGACTION_BYTES = 152;
const SIGACTION_FLAGS = 136;
const SA_RESTART = 0x10000000;
const EINTR = 4;
/** So often is an interrupted call made again: signals that come faster than it ends must not keep the thread. */
const MOST_TRIES = 100;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const byNumber = new Map<number, KvmErrno>(Object.entries(ERRNO).map(([name, number]) => [number, name as KvmErrno]));

let loaded: Libc | undefined;

/** Loads koffi and the C library, once. @throws HardwareUnavailableError without koffi */
export async function loadLibc(): Promise<Libc> {
	if (loaded !== undefined) return loaded;
	let koffi: Koffi;
	try {
		const module = (await import("koffi")) as Koffi & { default?: Koffi };
		koffi = module.default ?? module;
	} catch (cause) {
		throw new HardwareUnavailableError(
			"koffi",
			"the hardware engine needs the optional package koffi: npm install koffi",
			{ cause },
		);
	}
	return (loaded = bind(koffi));
}

function bind(koffi: Koffi): Libc {
	const libc = koffi.load(null);
	const ioctlInteger = libc.func("ioctl", "int", ["int", "ulong", "int64"]);
	const ioctlPointer = libc.func("ioctl", "int", ["int", "ulong", "void *"]);
	const mmap = libc.func("mmap", "void *", ["void *", "size_t", "int", "int", "int", "int64"]);
	const mprotect = libc.func("mprotect", "int", ["void *", "size_t", "int"]);
	const munmap = libc.func("munmap", "int", ["void *", "size_t"]);
	const tgkill = libc.func("syscall", "long", ["long", "long", "long", "long"]);
	const syscall = libc.func("syscall", "long", ["long", "long", "void *", "void *", "void *"]);
	const eventfd = libc.func("eventfd", "int", ["uint", "int"]);
	const sigaction = libc.func("sigaction", "int", ["int", "void *", "void *"]);

	const errnoName = (): KvmErrno => byNumber.get(koffi.errno()) ?? "EIO";
	const check = (result: number, name: string, what: string): number => {
		if (result >= 0) return result;
		const errno = koffi.errno();
		throw new KvmError(byNumber.get(errno) ?? "EIO", name, `${what}, errno ${errno}`);
	};
	/** KVM gives up some work, such as making a machine, for any signal: a profiler's will do. */
	const uninterrupted = (
		ioctl: ReturnType<typeof libc.func>,
		fd: number,
		request: number,
		argument: unknown,
	): number => {
		for (let tries = 1; ; tries++) {
			const result: number = ioctl(fd, request, argument);
			if (result >= 0 || tries === MOST_TRIES || koffi.errno() !== EINTR) return result;
		}
	};
	const map = (length: number, flags: number, fd: number): bigint => {
		const address = BigInt(mmap(null, length, PROT_READ_WRITE, flags, fd, 0));
		if (address === MAP_FAILED) throw new KvmError(errnoName(), "mmap", `${length} bytes`);
		return address;
	};

	const voidFunction = koffi.proto("void ()");
	const runByCode = (fd: number, { address, words, index }: Spare): Runner | undefined => {
		const page = map(PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		const release = () => munmap(page, PAGE);
		new Uint8Array(koffi.view(page, PAGE)).set(runCode(fd, address));
		if (mprotect(page, PAGE, PROT_READ_EXECUTE) === 0) {
			const call: () => void = koffi.decode(page, voidFunction);
			const run = (): number => {
				call();
				return -words[index]!;
			};
			return { run, release };
		}
		release();
		return undefined;
	};
	const runByLibc = (fd: number): Runner => ({
		run: () => (ioctlInteger(fd, KVM.RUN, 0) === -1 ? koffi.errno() : 0),
		release() {},
	});

	// abs() is as good a handler as any: it touches nothing.
	const action = new Uint8Array(SIGACTION_BYTES);
	const actionView = new DataView(action.buffer);
	actionView.setBigUint64(0, BigInt(koffi.address(libc.symbol("abs"))), true);
	actionView.setInt32(SIGACTION_FLAGS, SA_RESTART, true);
	check(sigaction(KICK_SIGNAL, action, null), "sigaction", `signal ${KICK_SIGNAL}`);

	const collected = new FinalizationRegistry<{ views: number; address: bigint; length: number }>((mapping) => {
		if (--mapping.views === 0) munmap(mapping.address, mapping.length);
	});
	const spec = new Int32Array(8);
	const { pid } = process;
	const gettid = (): number => Number(syscall(SYS_GETTID, 0, null, null, null));
	return {
		ioctl: (fd, request, argument, name) =>
			check(uninterrupted(ioctlInteger, fd, request, argument), name, `argument ${argument}`),
		ioctlBuffer: (fd, request, argument, name) =>
			check(uninterrupted(ioctlPointer, fd, request, argument), name, "refused"),
		// A host may forbid code of one's own.
		runner: (fd, spare) => runByCode(fd, spare) ?? runByLibc(fd),
		mmapShared: (fd, length) => map(length, MAP_SHARED, fd),
		mmapAnonymous: (length) => map(length, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1),
		munmap(address, length) {
			munmap(address, length);
		},
		release(address, length, views) {
			if (views.length === 0) {
				munmap(address, length);
				return;
			}
			const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
			if (BigInt(mmap(address, length, PROT_READ_WRITE, flags, -1, 0)) === MAP_FAILED) {
				throw new KvmError(errnoName(), "mmap", `${length} bytes at ${address.toString(16)}`);
			}
			const mapping = { views: views.length, address, length };
			for (const view of views) collected.register(view, mapping);
		},
		view: (address, length) => koffi.view(address, length),
		addressOf: (view) => BigInt(koffi.address(view)),
		eventfd: () => check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", "refused"),
		watch(fd, callback) {
			const handle = koffi.node.poll(fd, { readable: true }, callback);
			handle.unref();
			// Never stop() as well: behind close() it is a crash.
			return () => handle.close();
		},
		gettid,
		kick: (thread) => Number(tgkill(SYS_TGKILL, pid, thread, KICK_SIGNAL)) === 0,
		timerCreate() {
			const event = new Uint8Array(64);
			const view = new DataView(event.buffer);
			view.setInt32(8, KICK_SIGNAL, true);
			view.setInt32(12, SIGEV_THREAD_ID, true);
			view.setInt32(16, gettid(), true);
			const id = new Int32Array(1);
			check(Number(syscall(SYS_TIMER_CREATE, CLOCK_MONOTONIC, event, id, null)), "timer_create", "refused");
			return id[0]!;
		},
		timerSet(timer, nanoseconds) {
			// struct itimerspec, in whole seconds and the rest of each.
			spec[0] = spec[4] = Math.floor(nanoseconds / 1e9);
			spec[2] = spec[6] = nanoseconds % 1e9;
			check(Number(syscall(SYS_TIMER_SETTIME, timer, null, spec, null)), "timer_settime", `${nanoseconds} ns`);
		},
		timerDelete(timer) {
			syscall(SYS_TIMER_DELETE, timer, null, null, null);
		},
	};
}

/** Whether what {@link Runner.run} returned means that a signal came. */
export function isInterrupted(errno: number): boolean {
	return errno === EINTR;
}

/** What {@link Runner.run} returned, as an error. */
export function runError(errno: number): KvmError {
	return new KvmError(byNumber.get(errno) ?? "EIO", "KVM_RUN", `errno ${errno}`);
}
