import { existsSync } from "node:fs";
import { LinkError } from "../link/errors.ts";
import { type Libc, systemFailure } from "./libc.node.ts";

const O_RDONLY = 0;
const O_CLOEXEC = 0x80000;
const CLONE_NEWNET = 0x40000000;

/**
 * Runs `body` in a named network namespace (`ip netns`), and comes back. What it opens stays there. It must not await:
 * the whole thread is in the namespace meanwhile.
 *
 * @throws LinkError `ERR_LINK_NOT_FOUND`, `ERR_LINK_PERMISSION` (CAP_SYS_ADMIN)
 */
export function inNamespace<T>(libc: Libc, name: string | undefined, body: () => T): T {
	if (name === undefined) return body();
	if (!/^[^/]+$/.test(name) || name === "." || name === "..") {
		throw new LinkError("ERR_LINK_OPTION", `${JSON.stringify(name)} is no name of a network namespace`);
	}
	const path = `/var/run/netns/${name}`;
	if (!existsSync(path)) {
		throw new LinkError("ERR_LINK_NOT_FOUND", `there is no network namespace ${name} (ip netns list shows them)`, {
			errno: 2,
			errnoName: "ENOENT",
		});
	}
	const home = libc.open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0) throw systemFailure(libc, "open", "cannot open this thread's network namespace");
	const there = libc.open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0) {
		const error = systemFailure(libc, "open", `cannot open network namespace ${name}`, "CAP_SYS_ADMIN");
		libc.close(home);
		throw error;
	}
	try {
		if (libc.setns(there, CLONE_NEWNET) < 0)
			throw systemFailure(libc, "setns", `cannot enter network namespace ${name}`, "CAP_SYS_ADMIN");
		try {
			return body();
		} finally {
			if (libc.setns(home, CLONE_NEWNET) < 0) {
				// Nothing this thread does from here on would be where its owner thinks.
				const error = systemFailure(libc, "setns", `cannot come back from network namespace ${name}`);
				queueMicrotask(() => {
					throw error;
				});
			}
		}
	} finally {
		libc.close(there);
		libc.close(home);
	}
}
