/** Message types of 9P2000.L; a reply's is one more. */
export const T = {
	LERROR: 6,
	STATFS: 8,
	LOPEN: 12,
	LCREATE: 14,
	SYMLINK: 16,
	MKNOD: 18,
	RENAME: 20,
	READLINK: 22,
	GETATTR: 24,
	SETATTR: 26,
	XATTRWALK: 30,
	READDIR: 40,
	FSYNC: 50,
	LOCK: 52,
	GETLOCK: 54,
	LINK: 70,
	MKDIR: 72,
	RENAMEAT: 74,
	UNLINKAT: 76,
	VERSION: 100,
	ATTACH: 104,
	FLUSH: 108,
	WALK: 110,
	READ: 116,
	WRITE: 118,
	CLUNK: 120,
	REMOVE: 122,
} as const;

export const VERSION_TEXT = "9P2000.L";
/** Size, type and tag. */
export const HEADER = 7;
export const QID_BYTES = 13;
export const MAX_WALK = 16;
export const V9FS_MAGIC = 0x0102_1997;
export const AT_REMOVEDIR = 0x200;
/** All fields up to the change time: P9_GETATTR_BASIC. */
export const GETATTR_BASIC = 0x7ff;

/** Which fields of SETATTR are meant. */
export const SETATTR = {
	MODE: 1,
	UID: 2,
	GID: 4,
	SIZE: 8,
	ATIME: 0x10,
	MTIME: 0x20,
	ATIME_SET: 0x80,
	MTIME_SET: 0x100,
} as const;
