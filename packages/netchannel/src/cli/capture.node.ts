import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { formatAddress } from "../channel/address.ts";
import { PacketKey, parsePacket } from "../channel/packet.ts";
import { compileFilter } from "../filter/compile.ts";
import { wallClockNs } from "../link/clock.node.ts";
import { LinkError } from "../link/errors.ts";
import { fromSystemError } from "../link/system-error.ts";
import { createCapture } from "../middleware/capture.ts";
import { openPacket } from "../native/packet.node.ts";
import { CaptureError } from "../pcap/errors.ts";
import { CaptureReader } from "../pcap/reader.ts";
import type { CapturedPacket } from "../pcap/types.ts";
import { type CommandIo, EXIT } from "./io.ts";

/** Options of {@link capture}. */
export interface CaptureCommand {
	interface: string;
	file: string;
	netns?: string;
	filter?: string;
	count?: number;
	json: boolean;
}

/** Records an interface's packets until the count is reached or the command is interrupted. */
export async function capture(options: CaptureCommand, io: CommandIo): Promise<number> {
	const filter = options.filter === undefined ? undefined : compileFilter(options.filter);
	const link = await openPacket({
		interface: options.interface,
		ring: "v3",
		outgoing: true,
		blockTimeoutMs: 50,
		...(filter === undefined ? {} : { filter }),
		...(options.netns === undefined ? {} : { netns: options.netns }),
	});
	const file = createWriteStream(options.file);
	try {
		await once(file, "open");
	} catch (error) {
		link.close();
		throw fromSystemError(error, `cannot write ${options.file}`);
	}
	const recording = createCapture({
		write: (bytes) => !file.write(bytes) && file.writableLength > 2 ** 26,
		now: wallClockNs,
	});
	file.on("drain", () => recording.resume());
	const tee = recording.tee(link, { name: options.interface });
	io.err(
		`capturing on ${options.interface}${filter === undefined ? "" : ` (${filter.expression})`}, to ${options.file}`,
	);
	const wanted = options.count ?? Number.POSITIVE_INFINITY;
	let packets = 0;
	const failure = await new Promise<Error | undefined>((resolve) => {
		file.on("error", (error) => resolve(fromSystemError(error, `cannot write ${options.file}`)));
		link.onError = resolve;
		io.signal.addEventListener("abort", () => resolve(undefined), { once: true });
		if (io.signal.aborted || wanted <= 0) resolve(undefined);
		tee.onFrame = () => {
			if (++packets < wanted) return;
			// What else the ring holds is not ours any more, and is no drop.
			link.onFrame = () => {};
			resolve(undefined);
		};
	});
	const dropped = link.stats?.().rxDropped ?? 0;
	link.close();
	recording.close();
	file.end();
	if (failure === undefined) await once(file, "close");
	else throw failure;
	if (options.json)
		io.out(
			`${JSON.stringify({ schemaVersion: 1, interface: options.interface, file: options.file, packets, dropped })}\n`,
		);
	else io.err(`${packets} packets, ${dropped} dropped`);
	return EXIT.ok;
}

const PROTOCOL_NAMES: Record<number, string> = { 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP" };

const key: PacketKey = new PacketKey();

function describe(packet: CapturedPacket): {
	protocol: string;
	source?: string;
	destination?: string;
	sourcePort?: number;
	destinationPort?: number;
} {
	parsePacket(key, packet.bytes, packet.linkType === 1 ? "ethernet" : "ip");
	if (key.family === 0)
		return { protocol: key.etherType === 0x0806 ? "ARP" : `0x${key.etherType.toString(16).padStart(4, "0")}` };
	const words = key.family === 4 ? 1 : 4;
	return {
		protocol: PROTOCOL_NAMES[key.protocol] ?? String(key.protocol),
		source: formatAddress(key.address.subarray(words, 2 * words)),
		destination: formatAddress(key.address.subarray(0, words)),
		...(key.hasPorts ? { sourcePort: key.ports & 0xffff, destinationPort: key.ports >>> 16 } : {}),
	};
}

const seconds = (ns: bigint): string => `${ns / 1_000_000_000n}.${String(ns % 1_000_000_000n).padStart(9, "0")}`;

/** Prints a capture file, a line for each packet. */
export async function read(file: string, json: boolean, io: CommandIo): Promise<number> {
	const reader = new CaptureReader();
	let number = 0;
	const print = (packet: CapturedPacket): void => {
		number++;
		const about = describe(packet);
		if (json) {
			const { interfaceName, direction } = packet;
			const line = {
				schemaVersion: 1,
				number,
				time: seconds(packet.timestampNs),
				length: packet.originalLength,
				...(interfaceName === undefined ? {} : { interface: interfaceName }),
				...(direction === undefined ? {} : { direction }),
				...about,
				bytes: Buffer.from(packet.bytes).toString("hex"),
			};
			io.out(`${JSON.stringify(line)}\n`);
			return;
		}
		const end = (address: string | undefined, port: number | undefined): string =>
			port === undefined ? (address ?? "") : `${address} port ${port}`;
		const ends =
			about.source === undefined
				? ""
				: ` ${end(about.source, about.sourcePort)} > ${end(about.destination, about.destinationPort)}`;
		io.out(`${number} ${seconds(packet.timestampNs)} ${about.protocol}${ends} length ${packet.originalLength}\n`);
	};
	try {
		for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 18, signal: io.signal }))
			reader.push(chunk as Buffer, print);
		reader.end();
	} catch (error) {
		if (error instanceof CaptureError)
			throw new LinkError("ERR_LINK_IO", `${file}: ${error.message}`, { cause: error });
		if ((error as Error).name === "AbortError") return EXIT.interrupted;
		throw fromSystemError(error, `cannot read ${file}`);
	}
	return EXIT.ok;
}
