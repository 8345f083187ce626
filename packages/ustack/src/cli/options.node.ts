import { parseArgs } from "node:util";
import { openLink } from "@x/netchannel/node";
import { DhcpClient } from "../dhcp/client.ts";
import { DnsClient } from "../dns/client.ts";
import { createHost, type Host } from "../socket/host.ts";
import { type IpAddress, parseAddress, parseCidr } from "../wire/address.ts";
import { type CommandIo, UsageError } from "./io.ts";

/** What `parseArgs` takes per option. */
export type OptionTable = Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }>;

/** Parsed values by option name. */
export type OptionValues = Record<string, string | boolean | (string | boolean)[] | undefined>;

/** Options every command with a link has. */
export const LINK_OPTIONS: OptionTable = {
	link: { type: "string" },
	address: { type: "string", multiple: true },
	gateway: { type: "string", multiple: true },
	dns: { type: "string", multiple: true },
	json: { type: "boolean" },
};

/**
 * @throws UsageError naming the option that is wrong
 */
export function parse(args: readonly string[], options: OptionTable): { values: OptionValues; positionals: string[] } {
	try {
		return parseArgs({ args: [...args], options, allowPositionals: true }) as {
			values: OptionValues;
			positionals: string[];
		};
	} catch (error) {
		throw new UsageError((error as Error).message.split(". ")[0]!);
	}
}

export function stringOf(values: OptionValues, name: string): string | undefined {
	return values[name] as string | undefined;
}

export function listOf(values: OptionValues, name: string): string[] {
	return (values[name] as string[] | undefined) ?? [];
}

/** A port 1..65535 (or 0 where `zero`). */
export function portOf(text: string | undefined, what: string, zero = false): number {
	const port = Number(text);
	if (text === undefined || !/^\d{1,5}$/.test(text) || port > 65_535 || (port === 0 && !zero)) {
		throw new UsageError(`${what} "${text ?? ""}" is no port; expected ${zero ? 0 : 1}-65535`);
	}
	return port;
}

const DHCP_WAIT_MS = 10_000;

/** A host on the link of the command line: `--address` fixed, else by DHCP and router advertisements. */
export async function openHost(values: OptionValues, io: CommandIo): Promise<Host> {
	const url = stringOf(values, "link");
	if (url === undefined) throw new UsageError("--link is missing; expected a LINK such as tap:NAME or qemu:unix:PATH");
	const addresses = listOf(values, "address");
	for (const address of addresses) {
		if (parseCidr(address) === undefined || !address.includes("/"))
			throw new UsageError(`--address "${address}" is no ADDRESS/PREFIX; expected e.g. 10.0.0.2/24`);
	}
	const gateways = listOf(values, "gateway");
	for (const gateway of gateways)
		if (parseAddress(gateway) === undefined) throw new UsageError(`--gateway "${gateway}" is no IP address`);
	const link = await openLink(url, { signal: io.signal });
	const host = createHost();
	const iface = host.attach(link, { addresses, gateways, slaac: addresses.length === 0 });
	let servers: readonly (IpAddress | string)[] = listOf(values, "dns");
	if (addresses.length === 0) {
		const configuration = await new Promise<IpAddress[]>((resolve, reject) => {
			const timer = setTimeout(
				() => reject(Object.assign(new Error("no DHCP server answered; give --address CIDR"), { code: "ETIMEDOUT" })),
				DHCP_WAIT_MS,
			);
			new DhcpClient(host.udp, iface, {
				onChange: (given) => {
					clearTimeout(timer);
					if (given === undefined) return;
					io.stderr.write(`address ${given.address} by DHCP from ${given.server}\n`);
					resolve([...given.dns]);
				},
			});
		}).catch((error: Error) => {
			host.close();
			throw error;
		});
		if (servers.length === 0) servers = configuration;
	}
	if (servers.length > 0) host.lookup = new DnsClient(host, { servers }).lookup;
	io.signal.addEventListener("abort", () => host.close(), { once: true });
	return host;
}
