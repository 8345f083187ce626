import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodePacket, fromLatin1, latin1, PACKET_BYTES, PacketReader, toHex } from "../../src/gdb/packet.ts";
import { REGISTERS_32, REGISTERS_64, targetDescription } from "../../src/gdb/registers.ts";
import { GdbServer } from "../../src/gdb/server.ts";
import type { GdbResume, GdbStop, GdbTarget } from "../../src/gdb/target.ts";
import { parseVCont } from "../../src/gdb/vcont.ts";

/** A target that remembers what it was asked. */
class FakeTarget implements GdbTarget {
	readonly bits = 64;
	readonly threads = [1, 2];
	reversible = true;
	readonly calls: unknown[] = [];
	readonly memory = new Uint8Array(256);
	stop: ((stop: GdbStop) => void) | undefined;
	describeThread(thread: number): string {
		return `vCPU <${thread}>`;
	}
	readRegisters(): (Uint8Array | undefined)[] {
		return REGISTERS_64.map(({ bytes }, i) => (i === 5 ? undefined : new Uint8Array(bytes).fill(i)));
	}
	writeRegisters(thread: number, values: readonly (readonly [number, Uint8Array])[]): boolean {
		this.calls.push(["write", thread, values.map(([number]) => number)]);
		return true;
	}
	readMemory(_thread: number, address: bigint, length: number): Uint8Array {
		if (address >= 256n) return new Uint8Array(0);
		return this.memory.slice(Number(address), Number(address) + length);
	}
	writeMemory(_thread: number, address: bigint, bytes: Uint8Array): void {
		if (address + BigInt(bytes.length) > 256n) throw new Error("no memory");
		this.memory.set(bytes, Number(address));
	}
	addPoint(...point: unknown[]): void {
		this.calls.push(["add", ...point]);
	}
	removePoint(...point: unknown[]): void {
		this.calls.push(["remove", ...point]);
	}
	jump(...where: unknown[]): void {
		this.calls.push(["jump", ...where]);
	}
	resume(resume: GdbResume): Promise<GdbStop> {
		this.calls.push(["resume", resume]);
		return new Promise((resolve) => {
			this.stop = resolve;
		});
	}
	reverse(thread: number, step: boolean): Promise<GdbStop> {
		this.calls.push(["reverse", thread, step]);
		return Promise.resolve({ kind: "signal", thread, signal: 5, because: { kind: "replaylog", end: "begin" } });
	}
	interrupt(): void {
		this.calls.push(["interrupt"]);
		this.stop?.({ kind: "signal", thread: 1, signal: 2 });
	}
	memoryMap(): string {
		return "<memory-map/>";
	}
	async monitor(command: string): Promise<string> {
		if (command === "fail") throw new Error("that failed");
		return `you said ${command}\n`;
	}
	detach(): void {
		this.calls.push(["detach"]);
	}
	kill(): void {
		this.calls.push(["kill"]);
	}
}

function connect(): {
	target: FakeTarget;
	ask(text: string): Promise<string>;
	raw(bytes: Uint8Array): Promise<string>;
	ended: string[];
} {
	const target = new FakeTarget();
	let sent = "";
	const ended: string[] = [];
	const server = new GdbServer({
		target,
		send: (bytes) => (sent += fromLatin1(bytes)),
		onEnd: (how) => ended.push(how),
	});
	const raw = async (bytes: Uint8Array): Promise<string> => {
		sent = "";
		server.receive(bytes);
		await new Promise((resolve) => setImmediate(resolve));
		return sent;
	};
	return { target, raw, ended, ask: async (text) => contents(await raw(encodePacket(text))) };
}

/** Contents of every packet sent, acknowledgements left away. */
function contents(sent: string): string {
	return new PacketReader()
		.push(latin1(sent))
		.flatMap((one) => (one.kind === "packet" ? [fromLatin1(one.data)] : []))
		.join("|");
}

describe("packets", () => {
	test("come out as they went in, however the stream is cut", () => {
		fc.assert(
			fc.property(
				fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }),
				fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
				(packets, cuts) => {
					const stream = packets.flatMap((packet) => [0x2b, ...encodePacket(packet)]);
					const reader = new PacketReader();
					const out: Uint8Array[] = [];
					for (let at = 0, i = 0; at < stream.length; i++) {
						const size = cuts[i % cuts.length]!;
						for (const one of reader.push(Uint8Array.from(stream.slice(at, at + size)))) {
							if (one.kind === "packet") out.push(one.data);
							else expect(one.kind).toBe("ack");
						}
						at += size;
					}
					expect(out).toEqual(packets);
				},
			),
			{ seed: 3, numRuns: 300 },
		);
	});

	test("with a wrong sum, or too long, are refused", () => {
		const reader = new PacketReader();
		expect(reader.push(latin1("$g#00"))).toEqual([{ kind: "broken" }]);
		expect(reader.push(latin1("$g#zz"))).toEqual([{ kind: "broken" }]);
		expect(reader.push(encodePacket("x".repeat(PACKET_BYTES + 1)))).toEqual([{ kind: "broken" }]);
		expect(reader.push(latin1("$lost$g#67\u0003"))).toEqual([
			{ kind: "packet", data: latin1("g") },
			{ kind: "interrupt" },
		]);
	});
});

describe("the server", () => {
	test("acknowledges until it is told not to, and sends again what was lost", async () => {
		const { raw } = connect();
		expect(await raw(latin1("$?#00"))).toBe("-");
		const reply = await raw(encodePacket("qC"));
		expect(reply).toBe("+$QC1#c5");
		expect(await raw(latin1("-"))).toBe("$QC1#c5");
		expect(await raw(encodePacket("QStartNoAckMode"))).toBe("+$OK#9a");
		expect(await raw(encodePacket("qC"))).toBe("$QC1#c5");
		expect(await raw(latin1("-"))).toBe("");
	});

	test("tells of its features, its description in pieces, and its threads", async () => {
		const { ask } = connect();
		expect(await ask("qSupported:swbreak+;hwbreak+")).toContain("qXfer:features:read+");
		const whole = targetDescription(64);
		let read = "";
		for (;;) {
			const part = await ask(`qXfer:features:read:target.xml:${read.length.toString(16)},1ff`);
			read += part.slice(1);
			if (part[0] === "l") break;
		}
		expect(read).toBe(whole);
		expect(await ask("qXfer:threads:read::0,1000")).toContain(
			'<thread id="2" core="1" name="vCPU 1">vCPU  2 </thread>',
		);
		expect(await ask("qXfer:features:read:other.xml:0,10")).toBe("E00");
		expect(await ask("qXfer:memory-map:read::0,100")).toBe("l<memory-map/>");
		expect(await ask("qfThreadInfo")).toBe("m1,2");
		expect(await ask("qThreadExtraInfo,2")).toBe(toHex(latin1("vCPU <2>")));
		expect([
			await ask("T2"),
			await ask("T9"),
			await ask("Hg2"),
			await ask("Hg7"),
			await ask("vMustReplyEmpty"),
		]).toEqual(["OK", "E16", "OK", "E16", ""]);
	});

	test("reads and writes registers and memory", async () => {
		const { ask, target } = connect();
		const all = await ask("g");
		expect(all).toHaveLength(2 * REGISTERS_64.reduce((sum, { bytes }) => sum + bytes, 0));
		expect(all.slice(80, 96)).toBe("x".repeat(16));
		expect(await ask("p10")).toBe("10".repeat(8));
		expect(await ask("pfff")).toBe("E16");
		expect(await ask("P1=1122334455667788")).toBe("OK");
		expect(await ask("P1=11")).toBe("E16");
		expect(await ask(`G${"11".repeat(16)}`)).toBe("OK");
		expect(target.calls).toEqual([
			["write", 1, [1]],
			["write", 1, [0, 1]],
		]);
		expect(await ask("M10,2:abcd")).toBe("OK");
		expect(await ask("mf,4")).toBe("00abcd00");
		expect(await ask("mfe,8")).toBe("0000");
		expect(await ask("m1000,8")).toBe("E0e");
		expect(await ask("Mff,2:abcd")).toBe("E0e");
		expect(await ask("M10,3:abcd")).toBe("E16");
		expect(await ask("X20,3:\u007d#$")).toBe("OK");
		expect([...target.memory.subarray(0x20, 0x23)]).toEqual([0x7d, 0x23, 0x24]);
		expect(await ask("X20,0:")).toBe("OK");
	});

	test("sets points, runs, stops and is interrupted", async () => {
		const { ask, raw, target } = connect();
		await ask("qSupported:swbreak+;hwbreak+");
		expect([await ask("Z0,1000,1"), await ask("z2,10,8"), await ask("Z9,1,1"), await ask("Z1,zz,1")]).toEqual([
			"OK",
			"OK",
			"",
			"E16",
		]);
		expect(await ask("vCont?")).toBe("vCont;c;C;s;S;r");
		expect(await ask("vCont;s:1;c")).toBe("");
		// What comes while the guest runs waits.
		expect(await ask("qC")).toBe("");
		target.stop!({ kind: "signal", thread: 2, signal: 5, because: { kind: "watch", address: 0xabcn } });
		expect(await raw(new Uint8Array(0))).toMatch(/^\$T05.*watch:abc;thread:2;core:1;#..\$QC2#/);
		expect(await ask("vCont;r1000,1010:1")).toBe("");
		expect(contents(await raw(Uint8Array.of(3)))).toMatch(/^T02/);
		expect(await ask("bs")).toMatch(/^T05.*replaylog:begin;/);
		expect(await ask("c4000")).toBe("");
		target.stop!({ kind: "exited", status: 7 });
		expect(contents(await raw(new Uint8Array(0)))).toBe("W07");
		expect(target.calls).toEqual([
			["add", "software", 0x1000n, 1],
			["remove", "write", 0x10n, 8],
			["resume", { run: [2], step: 1 }],
			["resume", { run: [], step: 1, range: { start: 0x1000n, end: 0x1010n } }],
			["interrupt"],
			["reverse", 1, true],
			["jump", 1, 0x4000n],
			["resume", { run: [1, 2] }],
		]);
	});

	test("passes monitor commands on, and says what failed", async () => {
		const { ask } = connect();
		const said = (text: string): string => `O${toHex(latin1(text))}|OK`;
		expect(await ask(`qRcmd,${toHex(latin1("hello"))}`)).toBe(said("you said hello\n"));
		expect(await ask(`qRcmd,${toHex(latin1("fail"))}`)).toBe(said("that failed\n"));
		expect(await ask("qRcmd,xyz")).toBe("E16");
	});

	test("lets go and ends", async () => {
		const first = connect();
		expect(await first.ask("D")).toBe("OK");
		expect([first.ended, first.target.calls]).toEqual([["detached"], [["detach"]]]);
		expect(await first.ask("?")).toBe("");
		const second = connect();
		await second.ask("k");
		expect([second.ended, second.target.calls]).toEqual([["killed"], [["kill"]]]);
	});

	test("answers whatever is sent with whole packets", async () => {
		const word = fc.constantFrom(
			..."g G p P m M X H T c s Z0 z1 vCont; vCont;r bs bc q Q qXfer: qRcmd, qSupported ? , : ; = - 0 1 ff zz 7fffffffffffffff } # $ \u0003".split(
				" ",
			),
		);
		await fc.assert(
			fc.asyncProperty(
				fc.array(
					fc.oneof(
						fc.array(word, { maxLength: 6 }).map((words) => encodePacket(words.join(""))),
						fc.uint8Array({ maxLength: 40 }),
					),
					{ maxLength: 12 },
				),
				async (pieces) => {
					const { raw, target } = connect();
					for (const piece of pieces) {
						const sent = await raw(piece);
						const rest = sent.replace(/[+-]|\$(?:[^$#])*#[0-9a-f]{2}/g, "");
						expect(rest).toBe("");
						target.stop?.({ kind: "signal", thread: 1, signal: 5 });
					}
				},
			),
			{ seed: 11, numRuns: 300 },
		);
	});
});

test("vCont takes the leftmost action for each thread", () => {
	expect(parseVCont("c", [1, 2])).toEqual({ run: [1, 2] });
	expect(parseVCont("s:2;c:1", [1, 2])).toEqual({ run: [1], step: 2 });
	expect(parseVCont("C05:1", [1, 2])).toEqual({ run: [1] });
	expect(parseVCont("c:-1", [1])).toEqual({ run: [1] });
	for (const wrong of ["", "s", "x:1", "c:9", "r1:1", "t:1"]) expect(parseVCont(wrong, [1, 2])).toBeUndefined();
});

test("descriptions number their registers as gdb will", () => {
	expect(REGISTERS_64.map(({ name }) => name).indexOf("rip")).toBe(16);
	expect(REGISTERS_32.map(({ name }) => name).indexOf("eip")).toBe(8);
	expect(targetDescription(32)).toContain("<architecture>i386</architecture>");
});
