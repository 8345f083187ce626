import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { type Libc, loadLibc } from "./libc.node.ts";

/** What opening the device needs of the machine it runs on. */
export interface KvmHost {
	readonly platform: string;
	readonly arch: string;
	/** For reading and writing; throws Node's errors. */
	open(path: string): number;
	close(fd: number): void;
	/** How this user gets access to a device that was refused. */
	accessHint(path: string): string;
	/** @throws HardwareUnavailableError without koffi */
	loadLibc(): Promise<Libc>;
}

/** The machine this runs on. */
export const thisHost: KvmHost = {
	platform: process.platform,
	arch: process.arch,
	open: (path) => openSync(path, "r+"),
	close: (fd) => closeSync(fd),
	accessHint(path) {
		const { mode, gid } = statSync(path);
		return accessHint(mode, gid, groupName(gid));
	},
	loadLibc,
};

const GROUP_READ_WRITE = 0o060;

/** What to do about a device of this mode and group. */
export function accessHint(mode: number, gid: number, group: string | undefined): string {
	if ((mode & GROUP_READ_WRITE) !== GROUP_READ_WRITE || gid === 0) {
		return "only root may use it: run as root, or have root give it to a group (chgrp kvm, chmod 660)";
	}
	const name = group ?? String(gid);
	return `join its group ${name} (sudo usermod -aG ${name} "$USER") and log in again`;
}

function groupName(gid: number): string | undefined {
	try {
		const line = readFileSync("/etc/group", "utf8")
			.split("\n")
			.find((entry) => entry.split(":")[2] === String(gid));
		return line?.split(":")[0];
	} catch {
		return undefined;
	}
}
