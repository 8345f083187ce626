import type { PublishOptions } from "@x/ustack/gateway";
import { parseRule } from "@x/ustack/gateway";
import { CliError, EXIT } from "../exit.ts";
import type { LinkNetwork, SandboxExpose, SandboxSecret, UserNetwork } from "../network/options.ts";

/** Options of a guest's network as commander hands them over. */
export interface NetworkFlags {
	net?: string;
	publish: string[];
	expose: string[];
	allow: string[];
	deny: string[];
	secret: string[];
	audit?: string;
	netRate?: string;
	address?: string;
	gateway?: string;
}

function usage(message: string): CliError {
	return new CliError(EXIT.usage, "BAD_OPTION", message);
}

function portOf(flag: string, text: string, least: number): number {
	const value = Number(text);
	if (/^\d{1,5}$/.test(text) && value >= least && value <= 65_535) return value;
	throw usage(`${flag}: port ${text}: expected a number from ${least} to 65535`);
}

/** `[ADDRESS:]HOST:GUEST[/udp]`. */
function publishOf(text: string): PublishOptions {
	const match = /^(?:(\[[^\]]+\]|[^:[\]]+):)?(\d+):(\d+)(?:\/(tcp|udp))?$/.exec(text);
	if (match === null) throw usage(`--publish ${text}: expected [ADDRESS:]HOSTPORT:GUESTPORT[/udp]`);
	return {
		...(match[1] !== undefined && { hostAddress: match[1].replace(/^\[|\]$/g, "") }),
		hostPort: portOf(`--publish ${text}`, match[2]!, 0),
		guestPort: portOf(`--publish ${text}`, match[3]!, 1),
		protocol: match[4] === "udp" ? "udp" : "tcp",
	};
}

/** `PORT` of the host's loopback, or `PORT:ADDRESS:HOSTPORT`. */
function exposeOf(text: string): SandboxExpose {
	const match = /^(\d+)(?::(.+):(\d+))?$/.exec(text);
	if (match === null) throw usage(`--expose ${text}: expected PORT or PORT:ADDRESS:HOSTPORT`);
	const port = portOf(`--expose ${text}`, match[1]!, 1);
	if (match[2] === undefined) return { port, hostPort: port };
	return {
		port,
		address: match[2].replace(/^\[|\]$/g, ""),
		hostPort: portOf(`--expose ${text}`, match[3]!, 1),
	};
}

/** `NAME=VALUE@HOST[,HOST]`, or `NAME@HOST[,HOST]` with the value in this process's environment. */
function secretOf(text: string, env: Readonly<Record<string, string | undefined>>): SandboxSecret {
	const match = /^([A-Za-z_]\w*)(?:=([\s\S]*))?@([^@=\s]+)$/.exec(text);
	// The value must not be repeated to whoever reads the error.
	if (match === null) throw usage("--secret: expected NAME=VALUE@HOST, or NAME@HOST with the value in the environment");
	const name = match[1]!;
	const value = match[2] ?? env[name];
	if (value === undefined || value === "") throw usage(`--secret ${name}: there is no value, nor one in ${name}`);
	return { name, value, hosts: match[3]!.split(",") };
}

function rulesOf(flag: string, texts: readonly string[]): readonly string[] {
	for (const text of texts) {
		try {
			parseRule(text);
		} catch (error) {
			throw usage(`${flag} ${text}: ${(error as Error).message}`);
		}
	}
	return texts;
}

/** A network as asked for; `audit` is the file for the log. */
export type NetworkRequest =
	| { readonly kind: "none" }
	| { readonly kind: "user"; readonly network: UserNetwork; readonly audit: string | undefined }
	| { readonly kind: "link"; readonly network: LinkNetwork };

/**
 * Checks a network's options against each other and themselves.
 *
 * @param byDefault - what it is when `--net` says nothing
 * @throws CliError BAD_OPTION
 */
export function parseNetworkOptions(
	flags: NetworkFlags,
	byDefault: "user" | "none",
	env: Readonly<Record<string, string | undefined>>,
): NetworkRequest {
	const userOnly = [
		["--publish", flags.publish[0]],
		["--expose", flags.expose[0]],
		["--allow", flags.allow[0]],
		["--deny", flags.deny[0]],
		["--secret", flags.secret.length > 0 ? "" : undefined],
		["--audit", flags.audit],
		["--net-rate", flags.netRate],
	] as const;
	const given = userOnly.find(([, value]) => value !== undefined);
	const net = flags.net ?? (given === undefined ? byDefault : "user");
	if (net !== "user" && given !== undefined) throw usage(`${given[0]} needs --net user, not ${net}`);
	const isLink = net !== "user" && net !== "none";
	if (!isLink && (flags.address ?? flags.gateway) !== undefined) throw usage("--address and --gateway need --net LINK");
	if (net === "none") return { kind: "none" };
	if (isLink) {
		if (!/^[a-z-]+:/.test(net)) throw usage(`--net ${net}: expected user, none or a link such as tap:NAME`);
		return {
			kind: "link",
			network: {
				link: net,
				...(flags.address !== undefined && { address: flags.address }),
				...(flags.gateway !== undefined && { gateway: flags.gateway }),
			},
		};
	}
	const rate = flags.netRate === undefined ? undefined : Number(flags.netRate);
	if (rate !== undefined && !(rate > 0 && rate <= 1e8)) {
		throw usage(`--net-rate ${flags.netRate}: expected KiB a second, more than 0`);
	}
	return {
		kind: "user",
		audit: flags.audit,
		network: {
			allow: rulesOf("--allow", flags.allow),
			deny: rulesOf("--deny", flags.deny),
			publish: flags.publish.map(publishOf),
			expose: flags.expose.map(exposeOf),
			secrets: flags.secret.map((text) => secretOf(text, env)),
			...(rate !== undefined && {
				limits: { bytesPerSecondIn: Math.ceil(rate * 1024), bytesPerSecondOut: Math.ceil(rate * 1024) },
			}),
		},
	};
}
