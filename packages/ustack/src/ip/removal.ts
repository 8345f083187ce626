import type { Interface } from "../link/interface.ts";
import { type AddressLike, Cidr, toAddress } from "../wire/address.ts";
import type { StackCore } from "./core.ts";

/** Takes an interface and everything it brought away; the link is the caller's to close. */
export function detach(stack: StackCore, iface: Interface): void {
	const at = stack.interfaces.indexOf(iface);
	if (at <= 0) return;
	stack.interfaces.splice(at, 1);
	stack.ethernet?.detach(iface);
	stack.ipv6?.nd.stop(iface);
	stack.routes.remove((route) => route.iface === iface);
	stack.routesChanged();
}

/** Takes an address away, and its network's route unless another address is on it. */
export function removeAddress(stack: StackCore, iface: Interface, address: AddressLike): void {
	const parsed = toAddress(address);
	const at = iface.addresses.findIndex((entry) => entry.address.equals(parsed));
	if (at < 0) return;
	const [entry] = iface.addresses.splice(at, 1);
	const network = new Cidr(entry!.cidr.network, entry!.cidr.prefix).toString();
	if (!iface.addresses.some((other) => new Cidr(other.cidr.network, other.cidr.prefix).toString() === network)) {
		stack.routes.remove(
			(route) => route.iface === iface && route.gateway === undefined && route.destination.toString() === network,
		);
	}
	if (parsed.family === 6) stack.ipv6?.nd.addressRemoved(iface, parsed);
	stack.routesChanged();
	stack.trace("address", `-${parsed}`, iface);
}
