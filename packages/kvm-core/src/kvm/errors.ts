/** errno names that KVM's ioctls answer with, and their Linux numbers. */
export const ERRNO: {
	readonly [name in KvmErrno]: number;
} = {
	EPERM: 1,
	ENOENT: 2,
	EINTR: 4,
	EIO: 5,
	ENXIO: 6,
	E2BIG: 7,
	EAGAIN: 11,
	ENOMEM: 12,
	EACCES: 13,
	EFAULT: 14,
	EBUSY: 16,
	EEXIST: 17,
	ENODEV: 19,
	EINVAL: 22,
	ENOTTY: 25,
	ENOSPC: 28,
	ENOSYS: 38,
	EOPNOTSUPP: 95,
};

/** The names in {@link ERRNO}. */
export type KvmErrno =
	| "EPERM"
	| "ENOENT"
	| "EINTR"
	| "EIO"
	| "ENXIO"
	| "E2BIG"
	| "EAGAIN"
	| "ENOMEM"
	| "EACCES"
	| "EFAULT"
	| "EBUSY"
	| "EEXIST"
	| "ENODEV"
	| "EINVAL"
	| "ENOTTY"
	| "ENOSPC"
	| "ENOSYS"
	| "EOPNOTSUPP";

/** Thrown by every KVM operation that fails, on either engine, with the errno the kernel gives for the same mistake. */
export class KvmError extends Error {
	override readonly name = "KvmError";
	/** errno by name, as Node's own errors carry it. */
	readonly code: KvmErrno;
	/** errno by number, negative as libuv has it. */
	readonly errno: number;
	/** The operation that failed, e.g. `KVM_CREATE_VCPU`. */
	readonly syscall: string;

	constructor(code: KvmErrno, syscall: string, message: string, options?: ErrorOptions) {
		super(`${syscall}: ${message} (${code})`, options);
		this.code = code;
		this.errno = -ERRNO[code];
		this.syscall = syscall;
	}
}
