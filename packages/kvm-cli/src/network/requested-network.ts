import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import type { NetworkRequest } from "../commands/network-options.ts";
import { CliError, EXIT } from "../exit.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { SandboxNetwork } from "./options.ts";

/** A network as a command line asked for it, with its log open. */
export interface RequestedNetwork {
	readonly network: SandboxNetwork;
	/** Ends the log. */
	close(): void;
}

/**
 * Opens the file of `--audit`, if one is asked for.
 *
 * @throws the file system's error
 */
export async function openRequestedNetwork(request: NetworkRequest): Promise<RequestedNetwork> {
	if (request.kind === "none") return { network: "none", close() {} };
	if (request.kind === "link" || request.audit === undefined) return { network: request.network, close() {} };
	const audit: WriteStream = createWriteStream(request.audit, { flags: "a" });
	await once(audit, "open");
	return {
		network: {
			...request.network,
			onAudit: (event) =>
				audit.write(`${JSON.stringify({ schemaVersion: 1, at: new Date().toISOString(), ...event })}\n`),
		},
		close: () => audit.end(),
	};
}

/** Says where published ports are: which one it became may be news. */
export function tellPublished(request: NetworkRequest, ports: readonly number[], json: boolean, io: CliIo): void {
	if (request.kind !== "user") return;
	for (const [i, { hostAddress = "127.0.0.1", guestPort, protocol = "tcp" }] of (
		request.network.publish ?? []
	).entries()) {
		const port = ports[i]!;
		if (json) io.stdout.write(jsonDocument({ event: "published", hostAddress, hostPort: port, guestPort, protocol }));
		else io.stderr.write(`published ${hostAddress}:${port} -> guest:${guestPort}/${protocol}\n`);
	}
}

/** What to say when a link of `--net` cannot be opened. */
export function linkFailure(error: { readonly code?: string; readonly message: string }): CliError {
	const exitCode = /EPERM|EACCES/.test(error.message) ? EXIT.permission : EXIT.io;
	return new CliError(exitCode, error.code ?? "FAILED", `--net: ${error.message}`);
}
