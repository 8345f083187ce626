import { StackError } from "../errors.ts";
import type { IpAddress } from "./address.ts";

/** Text form of six bytes at an offset: `52:54:00:12:34:56`. */
export function formatMac(bytes: Uint8Array, at = 0): string {
	let text = "";
	for (let i = 0; i < 6; i++) text += `${i === 0 ? "" : ":"}${bytes[at + i]!.toString(16).padStart(2, "0")}`;
	return text;
}

/**
 * @throws StackError `ERR_BAD_ADDRESS` when the text is no MAC address
 */
export function parseMac(text: string): Uint8Array {
	if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) {
		throw new StackError("ERR_BAD_ADDRESS", `"${text}" is no MAC address; expected e.g. 52:54:00:12:34:56`);
	}
	return Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
}

export const BROADCAST_MAC: Uint8Array = /* @__PURE__ */ Uint8Array.of(255, 255, 255, 255, 255, 255);

/** The group MAC of a multicast address (RFC 1112 section 6.4, RFC 2464 section 7). */
export function multicastMac(group: IpAddress): Uint8Array {
	const { d } = group;
	return group.family === 4
		? Uint8Array.of(0x01, 0x00, 0x5e, (d >>> 16) & 0x7f, (d >>> 8) & 255, d & 255)
		: Uint8Array.of(0x33, 0x33, d >>> 24, (d >>> 16) & 255, (d >>> 8) & 255, d & 255);
}
