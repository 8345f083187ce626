import { type IpAddress, toAddress } from "@x/ustack";
import { AT_FDCWD, type GuestKernel, OPEN } from "../sandbox/system-calls.ts";
import { GUEST } from "./options.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SIOCADDRT = 0x890b;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const IFF_UP_RUNNING = 0x41;
/** In the second byte of the flags. */
const IFF_MULTICAST = 0x10;
const RTF_UP_GATEWAY = 3;
const NAME = "eth0";

/** An address for an interface, and the way to everything else. */
export interface InterfaceAddress {
	readonly address: string;
	readonly prefix: number;
	readonly router: string | undefined;
}

function bytesOf(address: IpAddress | string): Uint8Array {
	const parsed = typeof address === "string" ? toAddress(address) : address;
	const words = parsed.family === 4 ? [parsed.d] : [parsed.a, parsed.b, parsed.c, parsed.d];
	const bytes = new Uint8Array(4 * words.length);
	const view = new DataView(bytes.buffer);
	for (const [i, word] of words.entries()) view.setUint32(4 * i, word);
	return bytes;
}

/** struct sockaddr_in. */
function socketAddress(address: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(16);
	bytes[0] = AF_INET;
	bytes.set(address, 4);
	return bytes;
}

/** struct ifreq. */
function interfaceRequest(name: string, value: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(40);
	bytes.set(new TextEncoder().encode(name));
	bytes.set(value, 16);
	return bytes;
}

function netmask(prefix: number): Uint8Array {
	const bytes = new Uint8Array(4);
	new DataView(bytes.buffer).setUint32(0, prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0);
	return bytes;
}

/** struct rtentry: everything goes there. */
function defaultRoute(router: string): Uint8Array {
	const bytes = new Uint8Array(120);
	bytes.set(socketAddress(new Uint8Array(4)), 8);
	bytes.set(socketAddress(bytesOf(router)), 24);
	bytes.set(socketAddress(new Uint8Array(4)), 40);
	bytes[56] = RTF_UP_GATEWAY;
	return bytes;
}

/** struct in6_rtmsg: everything goes there. */
function defaultRoute6(router: string, index: number): Uint8Array {
	const bytes = new Uint8Array(80);
	const view = new DataView(bytes.buffer);
	bytes.set(bytesOf(router), 32);
	view.setUint32(56, 1, true);
	view.setUint32(72, RTF_UP_GATEWAY, true);
	view.setInt32(76, index, true);
	return bytes;
}

/** struct in6_ifreq. */
function interfaceRequest6(address: string, prefix: number, index: number): Uint8Array {
	const bytes = new Uint8Array(24);
	const view = new DataView(bytes.buffer);
	bytes.set(bytesOf(address));
	view.setUint32(16, prefix, true);
	view.setInt32(20, index, true);
	return bytes;
}

/** Brings the loopback interface up. */
export async function bringLoopbackUp(kernel: GuestKernel): Promise<void> {
	const { result: socket } = await kernel.call("socket", [AF_INET, SOCK_DGRAM | OPEN.CLOEXEC, 0]);
	await kernel.call("ioctl", [socket, SIOCSIFFLAGS, interfaceRequest("lo", Uint8Array.of(IFF_UP_RUNNING))]);
	await kernel.close(socket);
}

/**
 * Gives the guest's network card its addresses, without a DHCP client and without waiting for one.
 *
 * @throws GuestSystemError
 */
export async function configureInterface(
	kernel: GuestKernel,
	v4: InterfaceAddress | undefined,
	v6: InterfaceAddress | undefined,
): Promise<void> {
	const [socket, socket6, index] = await Promise.all([
		kernel.attempt("socket", [AF_INET, SOCK_DGRAM | OPEN.CLOEXEC, 0]),
		// A kernel without IPv6 refuses it; the guest has IPv4 then.
		kernel.attempt("socket", [AF_INET6, SOCK_DGRAM | OPEN.CLOEXEC, 0]),
		v6 === undefined ? 0 : interfaceIndex(kernel),
		// Nobody else is on this link: waiting a second for a duplicate would be for nothing.
		v6 === undefined ? undefined : kernel.writeFile(`/proc/sys/net/ipv6/conf/${NAME}/accept_dad`, "0").catch(() => {}),
	]);
	const steps: (readonly [socket: number, request: number, argument: Uint8Array])[] = [];
	if (v4 !== undefined) {
		steps.push([socket, SIOCSIFADDR, interfaceRequest(NAME, socketAddress(bytesOf(v4.address)))]);
		steps.push([socket, SIOCSIFNETMASK, interfaceRequest(NAME, socketAddress(netmask(v4.prefix)))]);
	}
	steps.push([socket, SIOCSIFFLAGS, interfaceRequest(NAME, Uint8Array.of(IFF_UP_RUNNING, IFF_MULTICAST))]);
	if (v4?.router !== undefined) steps.push([socket, SIOCADDRT, defaultRoute(v4.router)]);
	if (v6 !== undefined && socket6 >= 0) {
		steps.push([socket6, SIOCSIFADDR, interfaceRequest6(v6.address, v6.prefix, index)]);
		if (v6.router !== undefined) steps.push([socket6, SIOCADDRT, defaultRoute6(v6.router, index)]);
	}
	// Sent at once and done in order.
	await Promise.all([
		...steps.map(([descriptor, request, argument]) => kernel.call("ioctl", [descriptor, request, argument])),
		kernel.close(socket),
		socket6 < 0 ? undefined : kernel.close(socket6),
	]);
}

async function interfaceIndex(kernel: GuestKernel): Promise<number> {
	return Number.parseInt(await kernel.readFile(`/sys/class/net/${NAME}/ifindex`), 10);
}

/** Tells programs where names are resolved. */
export async function writeResolver(kernel: GuestKernel): Promise<void> {
	await kernel.attempt("mkdirat", [AT_FDCWD, "/etc", 0o755]);
	await kernel.writeFile("/etc/resolv.conf", `nameserver ${GUEST.router}\n`);
	await kernel.writeFile("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n").catch(() => {});
}

/** Where the program is that udhcpc tells what it was given. */
const LEASE_SCRIPT = "/run/xkvm-lease";
const ON_LEASE = `#!/bin/sh
case $1 in
deconfig) ifconfig $interface 0.0.0.0 ;;
bound | renew)
	ifconfig $interface $ip netmask \${subnet:-255.255.255.0}
	while route del default dev $interface 2>/dev/null; do :; done
	for router in $router; do route add default gw $router dev $interface && break; done
	for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
	;;
esac
`;

/**
 * Lets the guest's udhcpc ask for an address and keep it. It goes on asking in the background when nobody has answered
 * after some seconds, and does nothing in a guest that has none: the guest starts all the same.
 */
export async function leaseAddress(
	kernel: GuestKernel,
	run: (argv: readonly string[]) => Promise<unknown>,
): Promise<void> {
	await kernel.attempt("mkdirat", [AT_FDCWD, "/etc", 0o755]);
	await kernel.writeFile(LEASE_SCRIPT, ON_LEASE);
	await kernel.attempt("fchmodat", [AT_FDCWD, LEASE_SCRIPT, 0o755]);
	await run(["udhcpc", "-i", NAME, "-b", "-t", "4", "-T", "1", "-s", LEASE_SCRIPT]).catch(() => {});
}
