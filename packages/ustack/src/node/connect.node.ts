import { getDefaultAutoSelectFamily, getDefaultAutoSelectFamilyAttemptTimeout, isIP } from "node:net";
import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import { checkType, portOf, wrongType } from "./arguments.node.ts";
import { nodeError, type SystemError, systemError } from "./errors.node.ts";
import type { NetConnectOptions, NetSocket } from "./socket.node.ts";

/** `connect`'s arguments: options, or port and host, and a listener. */
export function normalizeConnect(args: unknown[]): [Partial<NetConnectOptions>, (() => void) | undefined] {
	const list = args.length === 1 && Array.isArray(args[0]) ? (args[0] as unknown[]) : args;
	const callback = list.find((arg) => typeof arg === "function") as (() => void) | undefined;
	if (typeof list[0] === "object" && list[0] !== null) return [list[0] as NetConnectOptions, callback];
	const options: Partial<NetConnectOptions> = { port: list[0] as number };
	if (typeof list[1] === "string") options.host = list[1];
	return [options, callback];
}

/** Checks what node checks before it does anything, and gives the port. */
export function checkConnect(options: Partial<NetConnectOptions>): number {
	const { port, localAddress, autoSelectFamilyAttemptTimeout: attempt } = options;
	if (port === undefined) {
		throw nodeError(TypeError, "ERR_MISSING_ARGS", 'The "options" or "port" or "path" argument must be specified');
	}
	if (typeof port !== "number" && typeof port !== "string") throw wrongType("options.port", "number or string", port);
	if (localAddress && isIP(localAddress) === 0) {
		throw nodeError(TypeError, "ERR_INVALID_IP_ADDRESS", `Invalid IP address: ${localAddress}`);
	}
	checkType(options.localPort, "options.localPort", "number");
	checkType(options.host, "options.host", "string");
	checkType(options.lookup, "options.lookup", "function");
	checkType(options.autoSelectFamily, "options.autoSelectFamily", "boolean");
	if (attempt !== undefined && !(Number.isInteger(attempt) && attempt >= 1)) {
		throw nodeError(
			RangeError,
			"ERR_OUT_OF_RANGE",
			`The value of "options.autoSelectFamilyAttemptTimeout" is out of range. It must be >= 1. Received ${String(attempt)}`,
		);
	}
	return portOf(port, "Port");
}

/**
 * Resolves and connects, one address after the other (RFC 8305 section 5, in turn). Undefined when the socket was
 * destroyed meanwhile.
 */
export async function openConnection(
	socket: NetSocket,
	options: NetConnectOptions,
	noDelay: boolean,
): Promise<TcpConnection | undefined> {
	const name = options.host || "localhost";
	const family = options.family === 4 || options.family === 6 ? options.family : 0;
	const addresses = await resolve(socket, options, name, family);
	if (socket.destroyed) return undefined;
	if (addresses.length === 0) throw systemError("ENOTFOUND", "getaddrinfo");
	const ordered =
		(options.autoSelectFamily ?? getDefaultAutoSelectFamily()) ? interleaveFamilies(addresses) : addresses.slice(0, 1);
	const several = ordered.length > 1;
	if (several) socket.autoSelectFamilyAttemptedAddresses = [];
	const failures: Error[] = [];
	for (const [i, address] of ordered.entries()) {
		const text = address.toString();
		if (several) socket.autoSelectFamilyAttemptedAddresses!.push(`${text}:${options.port}`);
		if (options.blockList?.check(text, address.family === 4 ? "ipv4" : "ipv6")) {
			failures.push(nodeError(Error, "ERR_IP_BLOCKED", `IP(${text}) is blocked by net.BlockList`));
			continue;
		}
		socket.emit("connectionAttempt", text, options.port, address.family);
		const limit =
			i === ordered.length - 1
				? 0
				: Math.max(10, options.autoSelectFamilyAttemptTimeout ?? getDefaultAutoSelectFamilyAttemptTimeout());
		try {
			const connection = await attempt(socket, address, options, noDelay, limit);
			if (connection !== undefined) return connection;
			if (socket.destroyed) return undefined;
			socket.emit("connectionAttemptTimeout", text, options.port, address.family);
			failures.push(systemError("ETIMEDOUT", "connect", text, options.port));
		} catch (error) {
			if (socket.destroyed) return undefined;
			if (several) socket.emit("connectionAttemptFailed", text, options.port, address.family, error);
			failures.push(error as Error);
		}
	}
	if (failures.length === 1) throw failures[0];
	const all = new AggregateError(failures) as AggregateError & { code?: string };
	all.code = (failures[0] as { code?: string }).code!;
	throw all;
}

async function resolve(
	socket: NetSocket,
	options: NetConnectOptions,
	name: string,
	family: 0 | 4 | 6,
): Promise<IpAddress[]> {
	const literal = parseAddress(name);
	if (literal !== undefined) return [literal];
	let addresses: IpAddress[];
	try {
		addresses =
			options.lookup === undefined
				? await socket.host.resolve(name, family)
				: await customLookup(options.lookup, name, family);
	} catch (error) {
		socket.emit("lookup", error, null, null, name);
		throw error;
	}
	if (socket.destroyed) return [];
	for (const address of addresses) socket.emit("lookup", null, address.toString(), address.family, name);
	return addresses;
}

/** One try; undefined when it took longer than `limit` milliseconds or the socket went away. */
function attempt(
	socket: NetSocket,
	address: IpAddress,
	options: NetConnectOptions,
	noDelay: boolean,
	limit: number,
): Promise<TcpConnection | undefined> {
	return new Promise((resolve, reject) => {
		let timer: NodeJS.Timeout | undefined;
		let connection: TcpConnection;
		const settle = () => {
			clearTimeout(timer);
			socket.removeListener("close", gone);
		};
		const gone = () => {
			settle();
			connection.abort();
			resolve(undefined);
		};
		try {
			connection = start(socket.host, address, options, noDelay, {
				onConnect: (c) => {
					settle();
					resolve(c);
				},
				onClose: (_c, error) => {
					settle();
					reject(systemError(error?.code ?? "ECONNRESET", "connect", address.toString(), options.port));
				},
			});
		} catch (error) {
			reject(error);
			return;
		}
		socket.once("close", gone);
		if (limit > 0) timer = setTimeout(gone, limit);
	});
}

function start(
	host: Host,
	address: IpAddress,
	options: NetConnectOptions,
	noDelay: boolean,
	handlers: { onConnect: (c: TcpConnection) => void; onClose: (c: TcpConnection, error?: { code: string }) => void },
): TcpConnection {
	const { localAddress, localPort } = options;
	const local = localAddress ?? (address.family === 4 ? "0.0.0.0" : "::");
	if (localPort && host.tcp.listeners.has(localPort)) throw bindError("EADDRINUSE", local, localPort);
	try {
		return host.tcp.connect(address, options.port, handlers, {
			...(localAddress ? { localAddress } : {}),
			...(localPort ? { localPort } : {}),
			noDelay,
		});
	} catch (error) {
		const { code, syscall } = error as { code: string; syscall?: string };
		if (syscall === "bind" || (code === "EADDRINUSE" && localPort)) throw bindError(code, local, localPort ?? 0);
		throw systemError(code, "connect", address.toString(), options.port);
	}
}

const bindError = (code: string, address: string, port: number): SystemError =>
	systemError(code, "bind", address, port);

function customLookup(
	lookup: NonNullable<NetConnectOptions["lookup"]>,
	name: string,
	family: number,
): Promise<IpAddress[]> {
	return new Promise((resolve, reject) => {
		lookup(name, { all: true, family }, (error, result, single) => {
			if (error) {
				reject(error);
				return;
			}
			const list = typeof result === "string" ? [{ address: result, family: single ?? 4 }] : result;
			const parsed = list.map((entry) => parseAddress(entry.address));
			if (parsed.some((entry) => entry === undefined))
				reject(
					nodeError(
						TypeError,
						"ERR_INVALID_IP_ADDRESS",
						`Invalid IP address: ${list.map((entry) => entry.address).join(", ")}`,
					),
				);
			else resolve(parsed as IpAddress[]);
		});
	});
}

/** RFC 8305 section 4: the families in turn, the resolver's first choice first. */
function interleaveFamilies(addresses: readonly IpAddress[]): IpAddress[] {
	const first = addresses.filter((address) => address.family === addresses[0]!.family);
	const second = addresses.filter((address) => address.family !== addresses[0]!.family);
	const mixed: IpAddress[] = [];
	for (let i = 0; i < Math.max(first.length, second.length); i++) {
		if (i < first.length) mixed.push(first[i]!);
		if (i < second.length) mixed.push(second[i]!);
	}
	return mixed;
}
