/** Link types (the LINKTYPE_ registry) this package writes. */
export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW_IP = 101;

/** A packet out of a capture file of either format. */
export interface CapturedPacket {
	/** Nanoseconds since 1970. */
	readonly timestampNs: bigint;
	/** What was kept of it; valid during the call that delivers it. */
	readonly bytes: Uint8Array;
	/** Its length on the wire. */
	readonly originalLength: number;
	/** LINKTYPE_ number. */
	readonly linkType: number;
	/** Which interface of the file saw it, from 0. */
	readonly interfaceId: number;
	/** That interface's name, where the file gives one. */
	readonly interfaceName: string | undefined;
	/** Whether the capturing host received or sent it, where the file says. */
	readonly direction: "in" | "out" | undefined;
	/** Comments on it. */
	readonly comments: readonly string[];
}

/** Most bytes a record or block may claim: what Wireshark accepts. */
export const LONGEST_RECORD: number = 16 * 1024 * 1024;
