import { LinkError } from "../link/errors.ts";
import { type Libc, systemFailure } from "./libc.node.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCGIFINDEX = 0x8933;
const IFF_UP = 1;
/** Bytes of `struct ifreq`. */
const IFREQ_BYTES = 40;
/** Bytes of an interface's name with its end (IFNAMSIZ). */
const NAME_BYTES = 16;

/** A `struct ifreq` that names an interface. @throws LinkError `ERR_LINK_OPTION` */
export function interfaceRequest(name: string): { bytes: Uint8Array; view: DataView } {
	const encoded = new TextEncoder().encode(name);
	if (encoded.length === 0 || encoded.length >= NAME_BYTES || /[\s/]/.test(name)) {
		throw new LinkError(
			"ERR_LINK_OPTION",
			`${JSON.stringify(name)} is no interface name: 1 to ${NAME_BYTES - 1} bytes, no space, no slash`,
		);
	}
	const bytes = new Uint8Array(IFREQ_BYTES);
	bytes.set(encoded);
	return { bytes, view: new DataView(bytes.buffer) };
}

function withSocket<T>(libc: Libc, body: (fd: number) => T): T {
	const fd = libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) throw systemFailure(libc, "socket", "cannot ask about interfaces");
	try {
		return body(fd);
	} finally {
		libc.close(fd);
	}
}

/** An interface's index. @throws LinkError `ERR_LINK_NOT_FOUND` */
export function interfaceIndex(libc: Libc, name: string): number {
	const { bytes, view } = interfaceRequest(name);
	return withSocket(libc, (fd) => {
		if (libc.ioctl(fd, SIOCGIFINDEX, bytes) < 0)
			throw systemFailure(libc, "ioctl(SIOCGIFINDEX)", `there is no interface ${name}`);
		return view.getInt32(16, true);
	});
}

/** An interface's MTU. */
export function interfaceMtu(libc: Libc, name: string): number {
	const { bytes, view } = interfaceRequest(name);
	return withSocket(libc, (fd) => {
		if (libc.ioctl(fd, SIOCGIFMTU, bytes) < 0)
			throw systemFailure(libc, "ioctl(SIOCGIFMTU)", `cannot read the MTU of ${name}`);
		return view.getInt32(16, true);
	});
}

/** Sets an interface's MTU where it differs. */
export function setInterfaceMtu(libc: Libc, name: string, mtu: number): void {
	if (interfaceMtu(libc, name) === mtu) return;
	const { bytes, view } = interfaceRequest(name);
	view.setInt32(16, mtu, true);
	withSocket(libc, (fd) => {
		if (libc.ioctl(fd, SIOCSIFMTU, bytes) < 0)
			throw systemFailure(libc, "ioctl(SIOCSIFMTU)", `cannot set the MTU of ${name} to ${mtu}`, "CAP_NET_ADMIN");
	});
}

/** Brings an interface up where it is down. */
export function bringUp(libc: Libc, name: string): void {
	const { bytes, view } = interfaceRequest(name);
	withSocket(libc, (fd) => {
		if (libc.ioctl(fd, SIOCGIFFLAGS, bytes) < 0)
			throw systemFailure(libc, "ioctl(SIOCGIFFLAGS)", `cannot read the state of ${name}`);
		const flags = view.getInt16(16, true);
		if ((flags & IFF_UP) !== 0) return;
		view.setInt16(16, flags | IFF_UP, true);
		if (libc.ioctl(fd, SIOCSIFFLAGS, bytes) < 0)
			throw systemFailure(libc, "ioctl(SIOCSIFFLAGS)", `cannot bring ${name} up`, "CAP_NET_ADMIN");
	});
}
