import { AGENT_PATH } from "./boot-archive.ts";

/**
 * What every image's kernel is told. Self-tests of its ciphers take it longer than all the rest of its start; the software
 * engine never speculates, so there is nothing to mitigate. The agent's port is the first port of the first virtio device.
 */
export function kernelCommandLine(append: string | undefined): string {
	const words = [
		"console=ttyS0",
		"quiet",
		"panic=-1",
		"cryptomgr.notests",
		"mitigations=off",
		`rdinit=${AGENT_PATH}`,
		...(append === undefined ? [] : [append]),
		"--",
		"/dev/vport0p0",
	];
	return words.join(" ");
}
