import { socketError } from "../errors.ts";
import type { Path } from "../ip/path.ts";
import type { TcpCore } from "./core.ts";

/** Least age of a TIME-WAIT whose tuple may be used again (RFC 6191); our timestamps count milliseconds. */
const REUSE_AFTER_MS = 250;

/** Whether a tuple may be used: by nobody, or by a TIME-WAIT old enough (RFC 6191). */
export function tupleFree(layer: TcpCore, path: Path, localPort: number, remotePort: number): boolean {
	if (layer.table.has(path.source, localPort, path.destination, remotePort)) return false;
	const waiting = layer.timeWaits.find(path.source, localPort, path.destination, remotePort);
	if (waiting === undefined) return true;
	return waiting.tsOk && layer.stack.now - waiting.since >= REUSE_AFTER_MS;
}

/** RFC 6056's random start, then the next free. */
export function pickPort(layer: TcpCore, path: Path, remotePort: number): number {
	const [first, last] = layer.config.ephemeralPorts;
	const count = last - first + 1;
	for (let tries = 0; tries < count; tries++) {
		const port = layer.nextPort;
		layer.nextPort = port >= last ? first : port + 1;
		if (layer.listening(port)) continue;
		if (tupleFree(layer, path, port, remotePort)) return port;
	}
	throw socketError("EADDRNOTAVAIL", "connect", path.destination.toString(), remotePort);
}
