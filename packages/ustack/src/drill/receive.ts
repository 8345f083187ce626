import { constant } from "./constants.ts";
import type { ControlMessage, Outcome, SocketFile } from "./files.ts";

/** recvmsg(): the error queue's next message, or what goes with `length` bytes just read. */
export function receiveMessage(socket: SocketFile, length: number | undefined): Outcome {
	if (length !== undefined) {
		const control: ControlMessage[] = [];
		const c = socket.connection;
		if (socket.options.get("TCP_INQ") === 1 && c !== undefined) {
			const left = c.readable === 0 && c.finReceived ? 1 : c.readable;
			control.push({ level: constant("SOL_TCP")!, type: constant("TCP_CM_INQ")!, data: { value: left } });
		}
		return { value: length, message: { flags: 0, control } };
	}
	const next = socket.errors.messages.shift();
	if (next === undefined) return { value: -1, errno: "EAGAIN" };
	const control: ControlMessage[] = [];
	if (next.stamp !== undefined) {
		const level = constant("SOL_SOCKET")!;
		control.push({ level, type: constant("SCM_TIMESTAMPING")!, data: { stamp: next.stamp } });
	}
	const family = socket.connection?.path.ops.family ?? 4;
	control.push({
		level: constant(family === 4 ? "SOL_IP" : "SOL_IPV6")!,
		type: constant(family === 4 ? "IP_RECVERR" : "IPV6_RECVERR")!,
		data: {
			ee_errno: next.errno,
			ee_origin: next.origin,
			ee_type: 0,
			ee_code: next.code,
			ee_info: next.info,
			ee_data: next.data,
		},
	});
	return {
		value: 0,
		message: { flags: constant("MSG_ERRQUEUE")! | (next.truncated ? constant("MSG_TRUNC")! : 0), control },
	};
}
