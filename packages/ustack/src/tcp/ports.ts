import { socketError } from "../errors.ts";
import type { Path } from "../ip/path.ts";
import type { TcpCore } from "./core.ts";

/** Least age of a TIME-WAIT whose tuple may be used again (RFC 6191); our timestamps count milliseconds. */
const REUSE_AFTER_MS = 250;

/** Whether a tuple may be used: by nobody, or by a TIME-WAIT old enough (RFC 6191). */
export function tupleFree(layer: TcpCore, path: Path, localPort: number, remotePort: number): boolean {
	if (layer.table.get(path.source, localPort, path.destination, remotePort) !== undefined) return false;
	const waiting = layer.timeWaits.find(path.source, localPort, path.destination, remotePort);
	if (waiting === undefined) return true;
	return waiting.tsOk && layer.stack.now - waiting.since >= REUSE_AFTER_MS;
}

/** The next ephemeral port that is `fit`, undefined when none is. */
export function freePort(layer: TcpCore, fit: (port: number) => boolean): number | undefined {
	const [first, last] = layer.config.ephemeralPorts;
	for (let tries = first; tries <= last; tries++) {
		const port = layer.nextPort;
		layer.nextPort = port >= last ? first : port + 1;
		if (fit(port)) return port;
	}
	return undefined;
}

/** RFC 6056's random start, then the next free. */
export function pickPort(layer: TcpCore, path: Path, remotePort: number): number {
	const port = freePort(layer, (candidate) => {
		return !layer.listeners.has(candidate) && tupleFree(layer, path, candidate, remotePort);
	});
	if (port === undefined) throw socketError("EADDRNOTAVAIL", "connect", path.destination.toString(), remotePort);
	return port;
}
