import type { Interface } from "../link/interface.ts";
import type { IpAddress } from "../wire/address.ts";
import type { StackCore } from "./core.ts";

/** Joins a multicast group on an interface; pair with {@link leaveGroup}. */
export function joinGroup(stack: StackCore, iface: Interface, group: IpAddress): void {
	const key = group.toString();
	const known = iface.groups.get(key);
	if (known !== undefined) {
		known.users++;
		return;
	}
	iface.groups.set(key, { group, users: 1 });
	if (iface.ethernet) stack.groups?.changed(iface, group, true);
}

/** Takes one {@link joinGroup} back. */
export function leaveGroup(stack: StackCore, iface: Interface, group: IpAddress): void {
	const key = group.toString();
	const known = iface.groups.get(key);
	if (known === undefined || --known.users > 0) return;
	iface.groups.delete(key);
	if (iface.ethernet) stack.groups?.changed(iface, group, false);
}
