import { createWriteStream } from "node:fs";
import { openLink } from "@x/netchannel/node";
import { createGateway } from "../gateway/gateway.ts";
import type { PublishOptions } from "../gateway/options.ts";
import { createNodeOutbound } from "../gateway/outbound.node.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { listOf, type OptionTable, parse, portOf, stringOf } from "./options.node.ts";

const OPTIONS: OptionTable = {
	link: { type: "string" },
	publish: { type: "string", multiple: true, short: "p" },
	expose: { type: "string", multiple: true },
	allow: { type: "string", multiple: true },
	deny: { type: "string", multiple: true },
	network: { type: "string" },
	network6: { type: "string" },
	audit: { type: "string" },
	json: { type: "boolean" },
};

/**
 * `[ADDRESS:]HOSTPORT:GUESTPORT[/udp]` as it stands behind `--publish`.
 *
 * @throws UsageError naming the part that is wrong
 */
export function parsePublish(text: string): PublishOptions {
	const match = /^(?:(\[[^\]]+\]|[^:[\]]+):)?(\d+):(\d+)(?:\/(tcp|udp))?$/.exec(text);
	if (match === null) throw new UsageError(`--publish "${text}" is not [ADDRESS:]HOSTPORT:GUESTPORT[/udp]`);
	return {
		...(match[1] === undefined ? {} : { hostAddress: match[1].replace(/^\[|\]$/g, "") }),
		hostPort: portOf(match[2], "--publish host port", true),
		guestPort: portOf(match[3], "--publish guest port"),
		protocol: match[4] === "udp" ? "udp" : "tcp",
	};
}

/** `GATEWAYPORT:ADDRESS:HOSTPORT` as it stands behind `--expose`. */
function parseExpose(text: string): { port: number; address: string; hostPort: number } {
	const match = /^(\d+):(.+):(\d+)$/.exec(text);
	if (match === null) throw new UsageError(`--expose "${text}" is not GATEWAYPORT:ADDRESS:HOSTPORT`);
	return {
		port: portOf(match[1], "--expose port"),
		address: match[2]!.replace(/^\[|\]$/g, ""),
		hostPort: portOf(match[3], "--expose host port"),
	};
}

/** `ustack gateway`: a user-mode network for whatever is at the link's other end. */
export async function gatewayCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, OPTIONS);
	const url = stringOf(values, "link");
	if (url === undefined || positionals.length > 0)
		throw new UsageError("gateway takes --link LINK and no other arguments");
	const publishes = listOf(values, "publish").map(parsePublish);
	const exposes = listOf(values, "expose").map(parseExpose);
	const json = values["json"] === true;
	const network = stringOf(values, "network");
	const network6 = stringOf(values, "network6");
	const auditFile = stringOf(values, "audit");
	const audit = auditFile === undefined ? undefined : createWriteStream(auditFile, { flags: "a" });
	const gateway = createGateway({
		outbound: createNodeOutbound(),
		policy: { allow: listOf(values, "allow"), deny: listOf(values, "deny") },
		...(network === undefined ? {} : { network }),
		...(network6 === undefined ? {} : { network6: network6 === "none" ? false : network6 }),
		onAudit: (event) => {
			const line = `${JSON.stringify({ schemaVersion: 1, at: new Date().toISOString(), ...event })}\n`;
			if (audit !== undefined) audit.write(line);
			if (json) io.stdout.write(line);
			else if (event.action === "deny")
				io.stderr.write(`denied ${event.protocol} ${event.source} -> ${event.destination} (${event.reason})\n`);
		},
		onLease: (lease) =>
			io.stderr.write(
				`${lease.active ? "leased" : "released"} ${lease.address} ${lease.mac}${lease.hostName === undefined ? "" : ` ${lease.hostName}`}\n`,
			),
	});
	try {
		const link = await openLink(url, { signal: io.signal });
		gateway.attach(link);
		for (const expose of exposes) gateway.expose(expose);
		for (const publish of publishes) {
			const forward = await gateway.publish(publish);
			io.stderr.write(
				`published ${publish.hostAddress ?? "127.0.0.1"}:${forward.port} -> guest:${publish.guestPort}/${publish.protocol}\n`,
			);
		}
		io.stderr.write(
			`gateway ${gateway.address}${gateway.address6 === undefined ? "" : ` ${gateway.address6}`} on ${url}\n`,
		);
		await new Promise<void>((resolve) => {
			if (io.signal.aborted) resolve();
			else io.signal.addEventListener("abort", () => resolve(), { once: true });
		});
		return EXIT.interrupted;
	} finally {
		gateway.close();
		audit?.end();
	}
}
