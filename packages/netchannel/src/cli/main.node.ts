import { parseArgs } from "node:util";
import { LINK_SCHEMES } from "../link/url.ts";
import { bench } from "./bench.node.ts";
import { bridge } from "./bridge.node.ts";
import { capture, read } from "./capture.node.ts";
import { probeLinks } from "./hosts.node.ts";
import { type CommandIo, EXIT, exitCodeOf, UsageError } from "./io.ts";

const HELP = `usage: netchannel COMMAND

commands:
  bench                             the ring against postMessage, as ratios
  capture IFACE -w FILE.pcapng      record an interface's packets
      [--filter EXPR] [--count N] [--netns NAME]
  read FILE                         print a pcap or pcapng file
  bridge LINK LINK                  join two links
  links                             what this host can do, and why not

options:
  --json       one JSON object (read: one for each packet)
  --help       this
  --version    the version

a LINK is one of
${Object.values(LINK_SCHEMES)
	.map((form) => `  ${form}`)
	.join("\n")}
`;

type Values = { json?: boolean; write?: string; filter?: string; count?: string; netns?: string };

function wants(words: readonly string[], names: string): void {
	const wanted = names === "" ? [] : names.split(" ");
	if (words.length !== wanted.length) {
		const what = wanted.length === 0 ? "takes no arguments" : `takes ${names}`;
		throw new UsageError(`${what}, got ${words.length === 0 ? "nothing" : words.join(" ")}`);
	}
}

async function command(name: string, words: readonly string[], values: Values, io: CommandIo): Promise<number> {
	const json = values.json === true;
	const allowed = name === "capture" ? ["write", "filter", "count", "netns"] : [];
	for (const option of ["write", "filter", "count", "netns"] as const) {
		if (values[option] !== undefined && !allowed.includes(option)) throw new UsageError(`takes no --${option}`);
	}
	switch (name) {
		case "bench":
			wants(words, "");
			return bench(json, io);
		case "links": {
			wants(words, "");
			const links = await probeLinks();
			if (json) io.out(`${JSON.stringify({ schemaVersion: 1, links })}\n`);
			else
				for (const { link, available, reason } of links)
					io.out(`${link.padEnd(12)} ${available ? "yes" : `no: ${reason}`}\n`);
			return EXIT.ok;
		}
		case "read":
			wants(words, "FILE");
			return read(words[0]!, json, io);
		case "bridge":
			wants(words, "LINK LINK");
			return bridge([words[0]!, words[1]!], json, io);
		case "capture": {
			wants(words, "IFACE");
			if (values.write === undefined) throw new UsageError("needs -w FILE.pcapng");
			if (values.count !== undefined && !/^\d{1,15}$/.test(values.count))
				throw new UsageError(`--count is ${values.count}, expected a whole number`);
			return capture(
				{
					interface: words[0]!,
					file: values.write,
					json,
					...(values.filter === undefined ? {} : { filter: values.filter }),
					...(values.count === undefined ? {} : { count: Number(values.count) }),
					...(values.netns === undefined ? {} : { netns: values.netns }),
				},
				io,
			);
		}
		default:
			throw new UsageError("no such command: expected bench, capture, read, bridge or links");
	}
}

/**
 * The `netchannel` command.
 *
 * @param argv - words after the command's name
 * @param version - what `--version` prints
 * @returns the exit code
 */
export async function main(argv: readonly string[], version: string, io: CommandIo): Promise<number> {
	let name = "";
	try {
		const { values, positionals } = parseArgs({
			args: [...argv],
			allowPositionals: true,
			options: {
				help: { type: "boolean", short: "h" },
				version: { type: "boolean" },
				json: { type: "boolean" },
				write: { type: "string", short: "w" },
				filter: { type: "string" },
				count: { type: "string" },
				netns: { type: "string" },
			},
		});
		if (values.version === true) {
			io.out(`${version}\n`);
			return EXIT.ok;
		}
		if (values.help === true) {
			io.out(HELP);
			return EXIT.ok;
		}
		const [first, ...words] = positionals;
		if (first === undefined) {
			io.err(HELP.trimEnd());
			return EXIT.usage;
		}
		name = ` ${first}`;
		return await command(first, words, values, io);
	} catch (error) {
		io.err(`netchannel${name}: ${(error as Error).message.split("\n")[0]}`);
		return exitCodeOf(error);
	}
}
