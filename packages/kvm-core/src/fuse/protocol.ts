/** Numbers of the FUSE protocol, version 7.31 and up: include/uapi/linux/fuse.h. */
export const OP = {
	LOOKUP: 1,
	FORGET: 2,
	GETATTR: 3,
	SETATTR: 4,
	READLINK: 5,
	SYMLINK: 6,
	MKNOD: 8,
	MKDIR: 9,
	UNLINK: 10,
	RMDIR: 11,
	RENAME: 12,
	LINK: 13,
	OPEN: 14,
	READ: 15,
	WRITE: 16,
	STATFS: 17,
	RELEASE: 18,
	FSYNC: 20,
	FLUSH: 25,
	INIT: 26,
	OPENDIR: 27,
	READDIR: 28,
	RELEASEDIR: 29,
	FSYNCDIR: 30,
	CREATE: 35,
	INTERRUPT: 36,
	DESTROY: 38,
	BATCH_FORGET: 42,
	FALLOCATE: 43,
	READDIRPLUS: 44,
	RENAME2: 45,
} as const;

export const IN_HEADER = 40;
export const OUT_HEADER = 16;
export const ENTRY_BYTES = 128;

export const MAJOR = 7;
export const MINOR = 31;
/** Oldest minor version whose structures have the sizes used here. */
export const LEAST_MINOR = 23;

/** Flags of INIT. */
export const INIT = {
	ASYNC_READ: 1 << 0,
	BIG_WRITES: 1 << 5,
	AUTO_INVAL_DATA: 1 << 12,
	DO_READDIRPLUS: 1 << 13,
	READDIRPLUS_AUTO: 1 << 14,
	PARALLEL_DIROPS: 1 << 18,
	MAX_PAGES: 1 << 22,
} as const;

/** Which fields of SETATTR are meant. */
export const FATTR = {
	MODE: 1 << 0,
	UID: 1 << 1,
	GID: 1 << 2,
	SIZE: 1 << 3,
	ATIME: 1 << 4,
	MTIME: 1 << 5,
	FH: 1 << 6,
	ATIME_NOW: 1 << 7,
	MTIME_NOW: 1 << 8,
} as const;

export const GETATTR_FH = 1;
export const FSYNC_DATA_ONLY = 1;
export const RENAME_NOREPLACE = 1;
