import { type Link, parseAddress } from "../../src/index.ts";
import { foldSum, sumWords } from "../../src/link/offload.ts";

/** Answers ARP and ICMP echo for one IPv4 address on a link of either medium. */
export function answerEcho(link: Link, address: string): void {
	const word = parseAddress(address).words[0]!;
	const mine = Uint8Array.of(word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255);
	const mac = Uint8Array.of(2, 0, 0, 0, 0, 99);
	const ip = link.medium === "ethernet" ? 14 : 0;
	const isMine = (bytes: Uint8Array, at: number): boolean => mine.every((byte, index) => bytes[at + index] === byte);
	link.onFrame = (frame) => {
		if (ip === 14 && frame[12] === 8 && frame[13] === 6) {
			if (frame[21] !== 1 || !isMine(frame, 38)) return;
			const reply = frame.slice(0, 42);
			reply.set(frame.subarray(6, 12), 0);
			reply.set(mac, 6);
			reply[21] = 2;
			reply.set(frame.subarray(22, 32), 32);
			reply.set(mac, 22);
			reply.set(mine, 28);
			link.send(reply);
			return;
		}
		if (frame[ip]! >> 4 !== 4 || frame[ip + 9] !== 1 || frame[ip + 20] !== 8 || !isMine(frame, ip + 16)) return;
		const reply = frame.slice();
		if (ip === 14) {
			reply.set(frame.subarray(6, 12), 0);
			reply.set(mac, 6);
		}
		reply.set(frame.subarray(ip + 12, ip + 16), ip + 16);
		reply.set(mine, ip + 12);
		reply[ip + 20] = 0;
		reply[ip + 22] = reply[ip + 23] = 0;
		const sum = ~foldSum(sumWords(reply, ip + 20, reply.length)) & 0xffff;
		reply[ip + 22] = sum >> 8;
		reply[ip + 23] = sum & 255;
		link.send(reply);
	};
}
