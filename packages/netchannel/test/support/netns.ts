import { existsSync } from "node:fs";
import { hasTool, run } from "./tools.ts";

/** Why tests with network namespaces are skipped, or undefined when this process may make them. */
export function noNamespaces(): string | undefined {
	if (process.platform !== "linux") return `this is ${process.platform}`;
	if (!hasTool("ip")) return "not installed: ip (iproute2)";
	if (!existsSync("/dev/net/tun")) return "no /dev/net/tun";
	try {
		run("ip", "netns", "add", `nct${process.pid}probe`);
		run("ip", "netns", "del", `nct${process.pid}probe`);
		return undefined;
	} catch (error) {
		return `may not make network namespaces: ${(error as Error).message.split("\n")[1] ?? ""}`;
	}
}

let serial = 0;

/** A network namespace of the test's own, with loopback up and no IPv6 chatter. */
export function makeNamespace(): {
	name: string;
	ip(...words: string[]): string;
	exec(...words: string[]): string;
	remove(): void;
} {
	const name = `nct${process.pid}n${serial++}`;
	run("ip", "netns", "add", name);
	const exec = (...words: string[]): string => run("ip", "netns", "exec", name, ...words);
	exec("sh", "-c", "for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done");
	run("ip", "-n", name, "link", "set", "lo", "up");
	return {
		name,
		exec,
		ip: (...words) => run("ip", "-n", name, ...words),
		remove: () => void run("ip", "netns", "del", name),
	};
}
