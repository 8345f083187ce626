import { StackError } from "../errors.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { TcpLayer } from "../tcp/layer.ts";
import { CLOSED, LISTEN } from "../tcp/state.ts";
import { constant, fieldOf, numberOf } from "./constants.ts";
import type { Outcome, SocketFile } from "./files.ts";
import type { Expression } from "./script.ts";

const OK: Outcome = { value: 0 };
const INVALID: Outcome = { value: -1, errno: "EINVAL" };
/** Kept and given back; nothing on the wire depends on them here. */
const KEPT = new Set([
	"SO_REUSEADDR",
	"SO_REUSEPORT",
	"SO_PRIORITY",
	"SO_MARK",
	"SO_ZEROCOPY",
	"SO_BUSY_POLL",
	"SO_INCOMING_CPU",
	"SO_RCVTIMEO",
	"SO_SNDTIMEO",
	"SO_MAX_PACING_RATE",
	"IP_FREEBIND",
	"IP_MTU_DISCOVER",
	"IPV6_MTU_DISCOVER",
	"IPV6_V6ONLY",
	"IP_RECVERR",
	"IPV6_RECVERR",
	"IP_BIND_ADDRESS_NO_PORT",
	"TCP_INQ",
	"TCP_SAVE_SYN",
	"TCP_LINGER2",
	"TCP_DEFER_ACCEPT",
]);

/** Bytes of a script's string with C's hexadecimal escapes. */
function bytesOf(text: string): Uint8Array {
	const out: number[] = [];
	for (const match of text.matchAll(/\\x([0-9a-fA-F]{1,2})|\\(.)|([\s\S])/g)) {
		out.push(match[1] !== undefined ? Number.parseInt(match[1], 16) : (match[2] ?? match[3]!).charCodeAt(0));
	}
	return Uint8Array.from(out);
}

/** setsockopt(). */
export function setOption(
	tcp: TcpLayer,
	socket: SocketFile,
	name: string,
	argument: Expression | undefined,
	size: number,
): Outcome {
	const value = numberOf(argument);
	const apply = (action: (c: TcpConnection) => void): Outcome => {
		socket.configure.push(action);
		if (socket.connection !== undefined) action(socket.connection);
		socket.options.set(name, value);
		return OK;
	};
	switch (name) {
		case "TCP_NODELAY":
			return apply((c) => c.setNoDelay(value !== 0));
		case "TCP_CORK":
			return apply((c) => c.setCork(value !== 0));
		case "TCP_QUICKACK":
			return apply((c) => {
				c.pingPong = value === 0;
			});
		case "SO_SNDBUF":
		case "SO_SNDBUFFORCE":
			socket.sendBuffer.limit = Math.max(4608, value * 2);
			socket.sendBuffer.fixed = true;
			socket.options.set("SO_SNDBUF", socket.sendBuffer.limit);
			return OK;
		case "SO_RCVBUF":
		case "SO_RCVBUFFORCE":
			apply((c) => c.setReceiveBuffer(value));
			socket.options.set("SO_RCVBUF", value * 2);
			return OK;
		case "SO_KEEPALIVE":
			return apply((c) => c.setKeepAlive(value !== 0));
		case "TCP_KEEPIDLE":
			if (value < 1 || value > 32_767) return INVALID;
			return apply((c) => c.setKeepAlive(c.keepAlive, value * 1000));
		case "TCP_KEEPINTVL":
			if (value < 1 || value > 32_767) return INVALID;
			return apply((c) => {
				c.keepAliveIntervalMs = value * 1000;
			});
		case "TCP_KEEPCNT":
			if (value < 1 || value > 127) return INVALID;
			return apply((c) => {
				c.keepAliveProbes = value;
			});
		case "TCP_SYNCNT":
			if (value < 1 || value > 127) return INVALID;
			return apply((c) => {
				c.synRetries = value;
			});
		case "TCP_USER_TIMEOUT":
			if (value < 0) return INVALID;
			return apply((c) => {
				c.userTimeoutMs = value;
			});
		case "SO_LINGER": {
			const on = numberOf(fieldOf(argument, "onoff"));
			const linger = numberOf(fieldOf(argument, "linger"));
			return apply((c) => {
				c.lingerMs = on !== 0 ? linger * 1000 : -1;
			});
		}
		case "TCP_MAXSEG":
			if (value !== 0 && (value < 88 || value > 32_767)) return INVALID;
			return apply((c) => {
				if (value === 0) return;
				c.advertisedMss = Math.min(c.advertisedMss, value);
				c.mssClamp = value;
			});
		case "IP_TOS":
		case "IPV6_TCLASS":
			return apply((c) => {
				c.tos = value & ~3;
			});
		case "IP_TTL":
			return apply((c) => {
				c.ttl = value;
			});
		case "TCP_NOTSENT_LOWAT":
			socket.options.set(name, value);
			socket.sendBuffer.lowWater = value >>> 0 === 0 ? Number.POSITIVE_INFINITY : value >>> 0;
			return OK;
		case "TCP_CONGESTION":
			if (argument?.type !== "string" || !(argument.value === "cubic" || argument.value === "reno"))
				return { value: -1, errno: "ENOENT" };
			return apply((c) => {
				c.congestion = tcp.createCongestion(argument.value === "reno" ? "reno" : "cubic");
			});
		case "SO_TIMESTAMPING":
			socket.options.set(name, value);
			socket.errors.timestamping = value;
			socket.errors.keyBase = socket.connection?.sndUna ?? 0;
			return OK;
		case "TCP_FASTOPEN":
			if (value < 0 || !(socket.state === CLOSED || socket.state === LISTEN)) return INVALID;
			socket.options.set(name, value);
			if (socket.listener !== undefined) socket.listener.fastOpenQueue = value;
			return OK;
		case "TCP_FASTOPEN_CONNECT":
			if (value < 0 || value > 1) return INVALID;
			if (!tcp.fastOpen.clientEnabled) return { value: -1, errno: "EOPNOTSUPP" };
			if (socket.state !== CLOSED) return INVALID;
			socket.options.set(name, value);
			return OK;
		case "TCP_FASTOPEN_NO_COOKIE":
			if (value < 0 || value > 1 || !(socket.state === CLOSED || socket.state === LISTEN)) return INVALID;
			socket.options.set(name, value);
			if (socket.listener !== undefined) socket.listener.fastOpenNoCookie = value === 1;
			return OK;
		case "TCP_FASTOPEN_KEY": {
			if (size !== 16 && size !== 32) return INVALID;
			if (argument?.type !== "string")
				throw new StackError("ERR_BAD_SCRIPT", "TCP_FASTOPEN_KEY takes its key as a string here");
			const bytes = bytesOf(argument.value);
			if (bytes.length < size) return { value: -1, errno: "EFAULT" };
			socket.fastOpenKeys = [bytes.slice(0, 16), ...(size === 32 ? [bytes.slice(16, 32)] : [])];
			if (socket.listener !== undefined) socket.listener.fastOpenKeys = socket.fastOpenKeys;
			return OK;
		}
		default:
			if (!KEPT.has(name)) throw new StackError("ERR_BAD_SCRIPT", `the socket option ${name} is not known here`);
			socket.options.set(name, value);
			return OK;
	}
}

/** getsockopt(). */
export function getOption(tcp: TcpLayer, socket: SocketFile, name: string): Outcome {
	const c = socket.connection;
	const give = (data: number): Outcome => ({ value: 0, data });
	switch (name) {
		case "SO_ERROR": {
			const errno = socket.error;
			socket.error = undefined;
			return give(errno === undefined ? 0 : (constant(errno) ?? -1));
		}
		case "TCP_MAXSEG":
			return give(c?.mss ?? socket.options.get(name) ?? 536);
		case "SO_SNDBUF":
			return give(socket.sendBuffer.limit);
		case "SO_RCVBUF":
			return give(socket.options.get(name) ?? (c?.receiveLimit ?? tcp.config.receiveBuffer) * 2);
		case "TCP_SYNCNT":
			return give(c?.synRetries ?? socket.options.get(name) ?? tcp.config.synRetries);
		case "TCP_KEEPIDLE":
			return give(socket.options.get(name) ?? tcp.config.keepAliveIdleMs / 1000);
		case "TCP_KEEPINTVL":
			return give(socket.options.get(name) ?? tcp.config.keepAliveIntervalMs / 1000);
		case "TCP_KEEPCNT":
			return give(socket.options.get(name) ?? tcp.config.keepAliveProbes);
		case "TCP_QUICKACK":
			return give(c?.pingPong === true ? 0 : 1);
		case "TCP_FASTOPEN_KEY": {
			const keys = socket.fastOpenKeys ?? tcp.config.fastOpenKeys ?? [];
			return { value: 0, bytes: Uint8Array.from(keys.flatMap((key) => [...key])) };
		}
		default: {
			const kept = socket.options.get(name);
			if (kept !== undefined) return give(kept);
			if (
				KEPT.has(name) ||
				/^TCP_(NODELAY|CORK|NOTSENT_LOWAT|USER_TIMEOUT|FASTOPEN|FASTOPEN_CONNECT|FASTOPEN_NO_COOKIE)$/.test(name) ||
				/^SO_(KEEPALIVE|TIMESTAMPING)$/.test(name)
			)
				return give(0);
			throw new StackError("ERR_BAD_SCRIPT", `the socket option ${name} is not known here`);
		}
	}
}
