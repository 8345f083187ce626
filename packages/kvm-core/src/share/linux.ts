import type { ShareKind, ShareOpenMode } from "./directory.ts";

/** Type bits of a Linux mode by kind, and of a directory entry (those bits shifted by twelve). */
export const MODE_OF_KIND: Readonly<Record<ShareKind, number>> = {
	file: 0o100000,
	folder: 0o040000,
	link: 0o120000,
	fifo: 0o010000,
	socket: 0o140000,
	character: 0o020000,
	block: 0o060000,
};

export const S_IFMT = 0o170000;

const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_RDWR = 2;
export const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_DSYNC = 0o10000;

/** What Linux's open flags ask for, of what a share knows. */
export function openMode(flags: number): ShareOpenMode {
	const access = flags & O_ACCMODE;
	return {
		read: access !== O_WRONLY,
		write: access === O_WRONLY || access === O_RDWR,
		append: (flags & O_APPEND) !== 0,
		truncate: (flags & O_TRUNC) !== 0,
		// O_SYNC contains the bit of O_DSYNC.
		sync: (flags & O_DSYNC) !== 0,
	};
}
