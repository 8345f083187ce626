import type { Expression } from "./script.ts";

/** Linux's numbers of the names scripts use. */
const NUMBERS: Record<string, number> = {
	O_RDONLY: 0,
	O_WRONLY: 1,
	O_RDWR: 2,
	O_NONBLOCK: 0x800,
	SHUT_RD: 0,
	SHUT_WR: 1,
	SHUT_RDWR: 2,
	POLLIN: 1,
	POLLPRI: 2,
	POLLOUT: 4,
	POLLERR: 8,
	POLLHUP: 16,
	POLLRDHUP: 0x2000,
	EPOLLIN: 1,
	EPOLLPRI: 2,
	EPOLLOUT: 4,
	EPOLLERR: 8,
	EPOLLHUP: 16,
	EPOLLRDHUP: 0x2000,
	EPOLLEXCLUSIVE: 1 << 28,
	EPOLLWAKEUP: 1 << 29,
	EPOLLONESHOT: 1 << 30,
	EPOLLET: 0x80000000 | 0,
	MSG_OOB: 1,
	MSG_PEEK: 2,
	MSG_CTRUNC: 8,
	MSG_TRUNC: 0x20,
	MSG_DONTWAIT: 0x40,
	MSG_EOR: 0x80,
	MSG_WAITALL: 0x100,
	MSG_ERRQUEUE: 0x2000,
	MSG_NOSIGNAL: 0x4000,
	MSG_MORE: 0x8000,
	MSG_ZEROCOPY: 0x4000000,
	MSG_FASTOPEN: 0x20000000,
	SOL_IP: 0,
	SOL_SOCKET: 1,
	SOL_TCP: 6,
	SOL_IPV6: 41,
	IPPROTO_TCP: 6,
	CMSG_LEVEL_IP: 0,
	CMSG_TYPE_RECVERR: 11,
	IP_RECVERR: 11,
	IPV6_RECVERR: 25,
	IP_PMTUDISC_DONT: 0,
	IP_PMTUDISC_WANT: 1,
	IP_PMTUDISC_DO: 2,
	IP_PMTUDISC_PROBE: 3,
	SCM_TIMESTAMPING: 37,
	SO_TIMESTAMPING: 37,
	TCP_CM_INQ: 36,
	SO_EE_ORIGIN_TIMESTAMPING: 4,
	SO_EE_ORIGIN_ZEROCOPY: 5,
	SO_EE_CODE_ZEROCOPY_COPIED: 1,
	SCM_TSTAMP_SND: 0,
	SCM_TSTAMP_SCHED: 1,
	SCM_TSTAMP_ACK: 2,
	SOF_TIMESTAMPING_TX_HARDWARE: 1,
	SOF_TIMESTAMPING_TX_SOFTWARE: 2,
	SOF_TIMESTAMPING_RX_HARDWARE: 4,
	SOF_TIMESTAMPING_RX_SOFTWARE: 8,
	SOF_TIMESTAMPING_SOFTWARE: 16,
	SOF_TIMESTAMPING_SYS_HARDWARE: 32,
	SOF_TIMESTAMPING_RAW_HARDWARE: 64,
	SOF_TIMESTAMPING_OPT_ID: 128,
	SOF_TIMESTAMPING_TX_SCHED: 256,
	SOF_TIMESTAMPING_TX_ACK: 512,
	SOF_TIMESTAMPING_OPT_CMSG: 1024,
	SOF_TIMESTAMPING_OPT_TSONLY: 2048,
	EPERM: 1,
	EINTR: 4,
	EBADF: 9,
	EAGAIN: 11,
	EFAULT: 14,
	EINVAL: 22,
	EPIPE: 32,
	ENOMSG: 42,
	EMSGSIZE: 90,
	ENOPROTOOPT: 92,
	EOPNOTSUPP: 95,
	EADDRINUSE: 98,
	EADDRNOTAVAIL: 99,
	ENETUNREACH: 101,
	ECONNABORTED: 103,
	ECONNRESET: 104,
	ENOBUFS: 105,
	EISCONN: 106,
	ENOTCONN: 107,
	ETIMEDOUT: 110,
	ECONNREFUSED: 111,
	EHOSTUNREACH: 113,
	EALREADY: 114,
	EINPROGRESS: 115,
};

export const IN = 1;
export const OUT = 4;
export const ERR = 8;
export const HUP = 16;
export const RDHUP = 0x2000;
export const EDGE = 0x80000000 | 0;
export const ONESHOT = 1 << 30;

/** A name's number; undefined for names nothing is known of. */
export function constant(name: string): number | undefined {
	return NUMBERS[name];
}

/** The value of a scripted expression, names and sums of bits included; what is left open counts 0. */
export function numberOf(expression: Expression | undefined): number {
	if (expression === undefined) return 0;
	switch (expression.type) {
		case "number":
			return expression.value;
		case "name":
			return NUMBERS[expression.value] ?? 0;
		case "or":
			return expression.items.reduce((sum, item) => sum | numberOf(item), 0);
		case "list":
			return numberOf(expression.items[0]);
		default:
			return 0;
	}
}

/** The first name in an expression, as of an option. */
export function nameOf(expression: Expression | undefined): string {
	if (expression?.type === "name") return expression.value;
	return expression?.type === "or" ? nameOf(expression.items[0]) : "";
}

export function fieldOf(expression: Expression | undefined, name: string): Expression | undefined {
	return expression?.type === "struct" ? expression.fields.get(name) : undefined;
}

/** Lengths of an iovec's buffers, or of a msghdr's. */
export function iovLengths(expression: Expression | undefined): number[] {
	if (expression === undefined) return [];
	if (expression.type === "struct") {
		const iov = expression.fields.get("msg_iov");
		return iov !== undefined ? iovLengths(iov) : [numberOf(expression.fields.get("1"))];
	}
	if (expression.type === "list") return expression.items.flatMap(iovLengths);
	return expression.type === "call" ? expression.args.flatMap(iovLengths) : [];
}
