import { createWriteStream, existsSync, readFileSync, writeFileSync } from "node:fs";
import { openLink } from "@x/netchannel/node";
import { createGateway } from "../gateway/gateway.ts";
import { type AuthorityKeys, CertificateAuthority } from "../gateway/http/authority.node.ts";
import { createHttpInterceptor, type HttpInterceptor } from "../gateway/http/interceptor.node.ts";
import type { Secret } from "../gateway/http/secrets.ts";
import type { GatewayLimits } from "../gateway/limits.ts";
import type { AuditEvent, ExposeOptions, PublishOptions } from "../gateway/options.ts";
import { createNodeOutbound } from "../gateway/outbound.node.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { listOf, type OptionTable, type OptionValues, parse, portOf, stringOf } from "./options.node.ts";

/** What `ustack gateway --help` prints. */
export const GATEWAY_HELP = `ustack gateway --link LINK [options]: a user-mode network for a guest, without root

  --publish, -p [ADDRESS:]HOSTPORT:GUESTPORT[/udp]  a port of this host leads to the guest (127.0.0.1 if no ADDRESS)
  --expose GATEWAYPORT:ADDRESS:HOSTPORT[/udp]       a port of the gateway leads to one service of this host
  --allow RULE, --deny RULE     who may be reached; deny comes first, with --allow the rest is closed
  --default allow|deny          what no rule speaks of
  --allow-encrypted-hello       let TLS hellos with an encrypted name through name rules
  --network CIDR                the gateway's address and network (10.0.2.2/24)
  --network6 CIDR|none          the same for IPv6, /64 (fd00:2::2/64)
  --dns SERVER[:PORT]           upstream resolver (this host's)
  --zone NAME=ADDRESS[,ADDRESS] a name the gateway answers itself; *.SUFFIX for all below
  --domain NAME                 guests' domain: a guest called web is web.NAME
  --fixed MAC=ADDRESS           a guest's address
  --max-connections N, --connections-per-second N, --dns-per-second N
  --rate-out BYTES, --rate-in BYTES                 bytes a second to the outside, to the guest
  --secret NAME=HOST[,HOST]     requests to HOST get the environment variable NAME for the guest's placeholder-NAME
  --ca FILE                     key and certificate of the guest's authority, made when missing (needed by --secret)
  --audit FILE                  one JSON object a line; --json prints them

RULE: [tcp|udp|icmp:]NAME|*.SUFFIX|CIDR|*[:PORT[-PORT]]. Private, loopback, link-local and other special ranges and this
host itself are closed unless a rule names the network. A name rule binds the addresses the gateway's DNS gave the guest
for the name, and TLS's server name or HTTP's Host must be one a rule allows.
`;

const OPTIONS: OptionTable = {
	link: { type: "string" },
	publish: { type: "string", multiple: true, short: "p" },
	expose: { type: "string", multiple: true },
	allow: { type: "string", multiple: true },
	deny: { type: "string", multiple: true },
	default: { type: "string" },
	"allow-encrypted-hello": { type: "boolean" },
	network: { type: "string" },
	network6: { type: "string" },
	dns: { type: "string", multiple: true },
	zone: { type: "string", multiple: true },
	domain: { type: "string" },
	fixed: { type: "string", multiple: true },
	"max-connections": { type: "string" },
	"connections-per-second": { type: "string" },
	"dns-per-second": { type: "string" },
	"rate-out": { type: "string" },
	"rate-in": { type: "string" },
	secret: { type: "string", multiple: true },
	ca: { type: "string" },
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

/** `GATEWAYPORT:ADDRESS:HOSTPORT[/udp]` as it stands behind `--expose`. */
function parseExpose(text: string): ExposeOptions {
	const match = /^(\d+):(.+):(\d+)(?:\/(tcp|udp))?$/.exec(text);
	if (match === null) throw new UsageError(`--expose "${text}" is not GATEWAYPORT:ADDRESS:HOSTPORT[/udp]`);
	return {
		port: portOf(match[1], "--expose port"),
		address: match[2]!.replace(/^\[|\]$/g, ""),
		hostPort: portOf(match[3], "--expose host port"),
		protocol: match[4] === "udp" ? "udp" : "tcp",
	};
}

/** `NAME=VALUE[,VALUE]` options as a record. */
function pairsOf(values: OptionValues, option: string, what: string): [string, string][] {
	return listOf(values, option).map((text) => {
		const at = text.indexOf("=");
		if (at < 1 || at === text.length - 1) throw new UsageError(`--${option} "${text}" is not ${what}`);
		return [text.slice(0, at), text.slice(at + 1)];
	});
}

function limitsOf(values: OptionValues): GatewayLimits {
	const count = (name: string, key: keyof GatewayLimits): GatewayLimits => {
		const text = stringOf(values, name);
		if (text === undefined) return {};
		if (!/^[1-9]\d{0,14}$/.test(text)) throw new UsageError(`--${name} "${text}" is no number above 0`);
		return { [key]: Number(text) };
	};
	return {
		...count("max-connections", "connections"),
		...count("connections-per-second", "connectionsPerSecond"),
		...count("dns-per-second", "dnsPerSecond"),
		...count("rate-out", "bytesPerSecondOut"),
		...count("rate-in", "bytesPerSecondIn"),
	};
}

/** The authority of a file with its key and certificate; made, readable by its owner only, when there is none. */
function authorityOf(path: string): CertificateAuthority {
	if (!existsSync(path)) {
		const made = new CertificateAuthority();
		const { key, certificate } = made.export();
		writeFileSync(path, `${key}${certificate}`, { mode: 0o600 });
		return made;
	}
	const text = readFileSync(path, "utf8");
	const part = (kind: string) =>
		new RegExp(`-----BEGIN ${kind}-----[\\s\\S]+?-----END ${kind}-----\\n?`).exec(text)?.[0];
	const keys = { key: part("PRIVATE KEY"), certificate: part("CERTIFICATE") };
	if (keys.key === undefined || keys.certificate === undefined)
		throw new UsageError(`--ca "${path}" does not hold a PEM key and certificate; remove it to have one made`);
	return new CertificateAuthority({ keys: keys as AuthorityKeys });
}

/** Placeholders are made of the name, so that a guest's configuration can be written before the gateway runs. */
export function placeholderOf(name: string): string {
	return `placeholder-${name}`;
}

function interceptorOf(values: OptionValues): HttpInterceptor | undefined {
	const secrets = pairsOf(values, "secret", "NAME=HOST[,HOST]").map(([name, hosts]): Secret => {
		const value = process.env[name];
		if (value === undefined || value === "")
			throw new UsageError(`--secret "${name}": there is no environment variable ${name}`);
		return { name, placeholder: placeholderOf(name), value, hosts: hosts.split(",") };
	});
	const ca = stringOf(values, "ca");
	if (secrets.length === 0) return undefined;
	if (ca === undefined) throw new UsageError("--secret needs --ca FILE, whose certificate the guest is to trust");
	return createHttpInterceptor({ secrets, authority: authorityOf(ca) });
}

/** `ustack gateway`: a user-mode network for whatever is at the link's other end. */
export async function gatewayCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, OPTIONS);
	const url = stringOf(values, "link");
	if (url === undefined || positionals.length > 0)
		throw new UsageError("gateway takes --link LINK and no other arguments");
	const publish = listOf(values, "publish").map(parsePublish);
	const expose = listOf(values, "expose").map(parseExpose);
	const zones = Object.fromEntries(
		pairsOf(values, "zone", "NAME=ADDRESS[,ADDRESS]").map(([name, list]) => [name, list.split(",")]),
	);
	const fixed = Object.fromEntries(pairsOf(values, "fixed", "MAC=ADDRESS"));
	const fallback = stringOf(values, "default");
	if (fallback !== undefined && fallback !== "allow" && fallback !== "deny")
		throw new UsageError(`--default "${fallback}" is neither allow nor deny`);
	const network = stringOf(values, "network");
	const network6 = stringOf(values, "network6");
	const domain = stringOf(values, "domain");
	const dnsServers = listOf(values, "dns");
	const limits = limitsOf(values);
	const interceptor = interceptorOf(values);
	const auditFile = stringOf(values, "audit");
	const audit = auditFile === undefined ? undefined : createWriteStream(auditFile, { flags: "a" });
	const onAudit = (event: AuditEvent) => {
		const line = `${JSON.stringify({ schemaVersion: 1, at: new Date().toISOString(), ...event })}\n`;
		audit?.write(line);
		if (values["json"] === true) io.stdout.write(line);
		else if (event.action === "deny")
			io.stderr.write(`denied ${event.protocol} ${event.source} -> ${event.destination} (${event.reason})\n`);
	};
	let broke: ((error: Error) => void) | undefined;
	const gateway = createGateway({
		outbound: createNodeOutbound(dnsServers.length === 0 ? {} : { dnsServers }),
		policy: {
			allow: listOf(values, "allow"),
			deny: listOf(values, "deny"),
			allowEncryptedHello: values["allow-encrypted-hello"] === true,
			...(fallback === undefined ? {} : { default: fallback }),
		},
		...(network === undefined ? {} : { network }),
		...(network6 === undefined ? {} : { network6: network6 === "none" ? false : network6 }),
		...(domain === undefined ? {} : { domain }),
		...(interceptor === undefined ? {} : { interceptor }),
		zones,
		fixed,
		limits,
		expose,
		onAudit,
		onLease: ({ active, address, mac, hostName }) =>
			io.stderr.write(
				`${active ? "leased" : "released"} ${address} ${mac}${hostName === undefined ? "" : ` ${hostName}`}\n`,
			),
		onError: (error) => broke?.(error),
	});
	try {
		// Ports first: whoever waits for the guest may connect as soon as the link is there.
		for (const options of publish) {
			const { port } = await gateway.publish(options);
			const where = `${options.hostAddress ?? "127.0.0.1"}:${port}`;
			io.stderr.write(`published ${where} -> guest:${options.guestPort}/${options.protocol}\n`);
		}
		gateway.attach(await openLink(url, { signal: io.signal }));
		const { address, address6 } = gateway;
		io.stderr.write(`gateway ${address}${address6 === undefined ? "" : ` ${address6}`} on ${url}\n`);
		await new Promise<void>((resolve, reject) => {
			broke = reject;
			if (io.signal.aborted) resolve();
			else io.signal.addEventListener("abort", () => resolve(), { once: true });
		});
		return EXIT.interrupted;
	} finally {
		gateway.close();
		interceptor?.close();
		audit?.end();
	}
}
