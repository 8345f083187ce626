import { constant, fieldOf, nameOf, numberOf } from "./constants.ts";
import type { ControlMessage, Outcome } from "./files.ts";
import type { Expression } from "./script.ts";

/** Compares what a call wrote through its arguments; gives the difference in words. */
export function checkOutputs(
	name: string,
	args: readonly Expression[],
	outcome: Outcome,
	startedAt: number,
	tolerance: number,
): string | undefined {
	if (outcome.errno !== undefined) return undefined;
	switch (name) {
		case "getsockopt":
		case "ioctl": {
			const wanted = args[name === "ioctl" ? 2 : 3];
			const item = wanted?.type === "list" ? wanted.items[0] : undefined;
			if (item === undefined || item.type === "ellipsis" || outcome.data === undefined) return undefined;
			const value = numberOf(item);
			return value >>> 0 === outcome.data >>> 0 ? undefined : `${name}() gives ${outcome.data}, expected ${value}`;
		}
		case "poll":
			return checkPoll(args[0], outcome);
		case "epoll_wait":
		case "epoll_pwait":
			return checkEpoll(args[1], outcome);
		case "recvmsg":
			return checkMessage(args[1], outcome, startedAt, tolerance);
		default:
			return undefined;
	}
}

function itemsOf(expression: Expression | undefined): readonly Expression[] {
	if (expression === undefined) return [];
	return expression.type === "list" ? expression.items : [expression];
}

function checkPoll(list: Expression | undefined, outcome: Outcome): string | undefined {
	for (const item of itemsOf(list)) {
		const fd = numberOf(fieldOf(item, "fd"));
		const wanted = numberOf(fieldOf(item, "revents"));
		const got = outcome.events?.get(fd) ?? 0;
		if (wanted !== got) return `poll() reports ${got} for ${fd}, expected ${wanted}`;
	}
	return undefined;
}

function checkEpoll(list: Expression | undefined, outcome: Outcome): string | undefined {
	if (outcome.value <= 0) return undefined;
	for (const item of itemsOf(list)) {
		if (item.type !== "struct") continue;
		const data = numberOf(fieldOf(item, "fd") ?? fieldOf(item, "ptr") ?? fieldOf(item, "u32") ?? fieldOf(item, "u64"));
		const wanted = numberOf(fieldOf(item, "events"));
		const got = outcome.events?.get(data) ?? 0;
		if (wanted !== got) return `epoll_wait() reports ${got} for ${data}, expected ${wanted}`;
	}
	return undefined;
}

function checkMessage(
	header: Expression | undefined,
	outcome: Outcome,
	startedAt: number,
	tolerance: number,
): string | undefined {
	const { message } = outcome;
	if (message === undefined) return undefined;
	const flags = fieldOf(header, "msg_flags");
	if (flags !== undefined && flags.type !== "ellipsis" && numberOf(flags) !== message.flags)
		return `recvmsg() gives flags ${message.flags}, expected ${numberOf(flags)}`;
	const wanted = fieldOf(header, "msg_control");
	if (wanted === undefined || wanted.type === "ellipsis") return undefined;
	const items = itemsOf(wanted);
	if (items.length !== message.control.length)
		return `recvmsg() gives ${message.control.length} control messages, expected ${items.length}`;
	for (const [i, item] of items.entries()) {
		const wrong = checkControl(item, message.control[i]!, startedAt, tolerance);
		if (wrong !== undefined) return wrong;
	}
	return undefined;
}

function checkControl(item: Expression, got: ControlMessage, startedAt: number, tolerance: number): string | undefined {
	const level = numberOf(fieldOf(item, "cmsg_level"));
	const type = numberOf(fieldOf(item, "cmsg_type"));
	if (level !== got.level && nameOf(fieldOf(item, "cmsg_level")) !== "CMSG_LEVEL_IP")
		return `control message of level ${got.level}, expected ${level}`;
	if (type !== got.type && nameOf(fieldOf(item, "cmsg_type")) !== "CMSG_TYPE_RECVERR")
		return `control message of type ${got.type}, expected ${type}`;
	const data = fieldOf(item, "cmsg_data");
	if (got.type === constant("SCM_TIMESTAMPING") && got.data["stamp"] !== undefined) {
		const wanted = numberOf(fieldOf(data, "scm_sec")) * 1000 + numberOf(fieldOf(data, "scm_nsec")) / 1e6;
		const seen = got.data["stamp"] - startedAt;
		return Math.abs(seen - wanted) <= tolerance ? undefined : `stamped at ${seen} ms, expected ${wanted} ms`;
	}
	if (data?.type !== "struct") {
		const value = got.data["value"] ?? 0;
		return numberOf(data) === value ? undefined : `control message says ${value}, expected ${numberOf(data)}`;
	}
	for (const [key, expected] of data.fields) {
		const value = got.data[key] ?? 0;
		if (expected.type !== "ellipsis" && numberOf(expected) !== value)
			return `${key} is ${value}, expected ${numberOf(expected)}`;
	}
	return undefined;
}
