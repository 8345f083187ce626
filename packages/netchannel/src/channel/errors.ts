/** Codes of {@link ChannelError}, and the errno each stands for in the original interface. */
export const CHANNEL_ERRNO = {
	EEXIST: 17,
	ENOENT: 2,
	EINVAL: 22,
	EAGAIN: 11,
	ETIMEDOUT: 110,
	ENOTSUP: 95,
	EMSGSIZE: 90,
	ENODEV: 19,
	EBADF: 9,
} as const;

/** Codes of {@link ChannelError}. */
export type ChannelErrorCode = keyof typeof CHANNEL_ERRNO;

/** Thrown by channels; `errno` is the number the system call would have returned, positive. */
export class ChannelError extends Error {
	override readonly name = "ChannelError";
	readonly code: ChannelErrorCode;
	readonly errno: number;

	constructor(code: ChannelErrorCode, message: string, options?: ErrorOptions) {
		super(message, options);
		this.code = code;
		this.errno = CHANNEL_ERRNO[code];
	}
}
