import { existsSync, readFileSync } from "node:fs";
import { StackError } from "../errors.ts";
import { drillCommand } from "./drill.node.ts";
import { GATEWAY_HELP, gatewayCommand } from "./gateway.node.ts";
import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { ncCommand } from "./nc.node.ts";
import { pingCommand } from "./ping.node.ts";
import { serveCommand } from "./serve.node.ts";

const HELP = `ustack: a TCP/IP stack in user space

  ustack ping HOST --link LINK [--address CIDR] [--gateway IP] [--count N] [--size BYTES]
  ustack nc HOST PORT --link LINK …        stdin to the connection, the connection to stdout
  ustack nc -l PORT --link LINK …
  ustack serve DIR --link LINK … [--port N]
  ustack gateway --link LINK [--publish HOST:GUEST[/udp]] [--allow RULE] [--deny RULE] …
  ustack drill [--profile linux|freebsd] [--sysctl NAME=VALUE]… FILE.pkt…

Without --address the address comes by DHCP. LINK: tap:NAME, tun:NAME, packet:IFACE, qemu:unix:PATH,
qemu-listen:unix:PATH, udp:…, ws://…. RULE: [tcp|udp|icmp:]NAME|*.SUFFIX|CIDR|*[:PORT[-PORT]].
Every command takes --json, --help and --version.
`;

const COMMANDS: Record<string, (args: readonly string[], io: CommandIo) => Promise<number>> = {
	ping: pingCommand,
	nc: ncCommand,
	serve: serveCommand,
	gateway: gatewayCommand,
	drill: drillCommand,
};

const NOT_FOUND = new Set(["ENOENT", "ENODEV", "ENOTFOUND", "ERR_LINK_UNSUPPORTED", "ERR_LINK_MISSING"]);
const PERMISSION = new Set(["EACCES", "EPERM", "ERR_LINK_PERMISSION"]);
const NETWORK = new Set([
	"ECONNREFUSED",
	"ECONNRESET",
	"EHOSTUNREACH",
	"ENETUNREACH",
	"ETIMEDOUT",
	"EPIPE",
	"EIO",
	"EADDRINUSE",
	"EAI_AGAIN",
]);

function codeOf(error: unknown): number {
	const { code } = error as { code?: string };
	if (
		error instanceof UsageError ||
		code === "ERR_BAD_RULE" ||
		code === "ERR_BAD_ADDRESS" ||
		code === "ERR_BAD_OPTION" ||
		code === "ERR_LINK_OPTION" ||
		code === "ERR_LINK_URL"
	) {
		return EXIT.usage;
	}
	if (code === undefined) return EXIT.failed;
	if (NOT_FOUND.has(code)) return EXIT.notFound;
	if (PERMISSION.has(code)) return EXIT.permission;
	return NETWORK.has(code) || (!(error instanceof StackError) && code.startsWith("E")) ? EXIT.io : EXIT.failed;
}

/** From the nearest package.json above: the sources lie deeper than what is built of them. */
function ownVersion(): string {
	for (const up of ["../", "../../"]) {
		const file = new URL(`${up}package.json`, import.meta.url);
		if (existsSync(file)) return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
	}
	return "unknown";
}

/** The `ustack` command; returns its exit code. */
export async function main(args: readonly string[], io: CommandIo): Promise<number> {
	const [name, ...rest] = args;
	if (name === undefined || name === "--help" || name === "-h" || rest.includes("--help")) {
		(name === undefined ? io.stderr : io.stdout).write(name === "gateway" ? GATEWAY_HELP : HELP);
		return name === undefined ? EXIT.usage : EXIT.ok;
	}
	if (name === "--version" || rest.includes("--version")) {
		const version = ownVersion();
		io.stdout.write(`${version}\n`);
		return EXIT.ok;
	}
	const command = COMMANDS[name];
	if (command === undefined) {
		io.stderr.write(`ustack: no command "${name}"; expected one of ${Object.keys(COMMANDS).join(", ")}\n`);
		return EXIT.usage;
	}
	try {
		return await command(rest, io);
	} catch (error) {
		if (io.signal.aborted) return EXIT.interrupted;
		io.stderr.write(`ustack ${name}: ${(error as Error).message}\n`);
		return codeOf(error);
	}
}
