import { describe, expect, test } from "vitest";
import { Debugger, type StopEvent } from "../../src/debug/debugger.ts";
import { DebugError } from "../../src/debug/errors.ts";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import { engines } from "../kvm/engines.ts";
import { START } from "../kvm/real-mode.ts";
import { guestTarget } from "./guest-target.ts";

/** mov cx, 3; L: mov [0x2000], cl; inc al; out 0x80, al; mov dl, [0x2004]; loop L; int3's handler is not needed; hlt */
const LOOP = [
	...[0xb9, 0x03, 0x00], // +0 mov cx, 3
	...[0x88, 0x0e, 0x00, 0x20], // +3 mov [0x2000], cl
	...[0xfe, 0xc0], // +7 inc al
	...[0xe6, 0x80], // +9 out 0x80, al
	...[0x8a, 0x16, 0x04, 0x20], // +11 mov dl, [0x2004]
	...[0xe2, 0xf2], // +15 loop +3
	0xf4, // +17 hlt
];
const at = (offset: number): bigint => BigInt(START + offset);
const point = (kind: "software" | "hardware", offset: number) => ({ kind, address: at(offset), length: 1 }) as const;
const reasons = (stop: StopEvent): string => stop.reason;

const [software, hardware] = await engines();
const kinds = [
	{ name: "the software engine's own points", kvm: software!.kvm, options: {} },
	{ name: "the software engine through INT3 and debug registers", kvm: software!.kvm, options: { ownPoints: false } },
	{ name: `/dev/kvm${hardware!.reason ? ` [${hardware!.reason}]` : ""}`, kvm: hardware!.kvm, options: {} },
];

describe.each(kinds)("$name", ({ name, kvm, options }) => {
	const isHardware = name.startsWith("/dev/kvm");
	test.skipIf(kvm === undefined)("stops at a hardware breakpoint each time round, and steps on", async () => {
		const { target, ports, guest } = guestTarget(kvm!, LOOP, options);
		const debug = new Debugger(target);
		debug.addPoint(point("hardware", 7));
		for (let round = 0; round < 3; round++) {
			expect(await debug.resume()).toMatchObject({ reason: "breakpoint", point: { kind: "hardware" } });
			expect(debug.pc(0)).toBe(at(7));
			expect(ports).toHaveLength(round);
			expect(reasons(await debug.step())).toBe("step");
			expect(debug.pc(0)).toBe(at(9));
		}
		expect(reasons(await debug.resume())).toBe("ended");
		expect(ports).toEqual([1, 2, 3]);
		debug.detach();
		guest.vm.close();
	});

	test.skipIf(kvm === undefined)("steps through every instruction", async () => {
		const { target, guest } = guestTarget(kvm!, LOOP, options);
		const debug = new Debugger(target);
		const seen: number[] = [];
		for (let i = 0; i < 11; i++) {
			expect(reasons(await debug.step())).toBe("step");
			seen.push(Number(debug.pc(0)) - START);
		}
		expect(seen).toEqual([3, 7, 9, 11, 15, 3, 7, 9, 11, 15, 3]);
		guest.vm.close();
	});

	// A kvm-pvm host runs INT3 itself, and its watchpoints never fire.
	test.skipIf(kvm === undefined || isHardware)(
		"software breakpoints show in no memory, and are passed over",
		async () => {
			const { target, ports, guest } = guestTarget(kvm!, LOOP, options);
			const debug = new Debugger(target);
			debug.addPoint(point("software", 7));
			debug.addPoint(point("software", 9));
			expect([...debug.readMemory(0, at(0), LOOP.length)]).toEqual(LOOP);
			const stops: bigint[] = [];
			for (let i = 0; i < 6; i++) {
				expect(reasons(await debug.resume())).toBe("breakpoint");
				stops.push(debug.pc(0) - at(0));
			}
			expect(stops).toEqual([7n, 9n, 7n, 9n, 7n, 9n]);
			// Writing over one keeps it, and the new instruction is executed: dec al.
			debug.writeMemory(0, at(7), Uint8Array.of(0xfe, 0xc8));
			expect([...debug.readMemory(0, at(7), 2)]).toEqual([0xfe, 0xc8]);
			expect(reasons(await debug.resume())).toBe("ended");
			expect(ports).toEqual([1, 2, 3]);
			debug.detach();
			const bytes = new Uint8Array(2);
			target.read(START + 7, bytes);
			expect([...bytes]).toEqual([0xfe, 0xc8]);
			guest.vm.close();
		},
	);

	test.skipIf(kvm === undefined || isHardware)("watches writes and accesses, and says where", async () => {
		const { target, guest } = guestTarget(kvm!, LOOP, options);
		const debug = new Debugger(target);
		debug.addPoint({ kind: "write", address: 0x2000n, length: 1 });
		debug.addPoint({ kind: "access", address: 0x2004n, length: 4 });
		const stops: [string, bigint][] = [];
		for (let i = 0; i < 4; i++) {
			const stop = await debug.resume();
			if (stop.reason !== "watchpoint") throw new Error(stop.reason);
			stops.push([stop.point.kind, debug.pc(0) - at(0)]);
		}
		expect(stops).toEqual([
			["write", 7n],
			["access", 15n],
			["write", 7n],
			["access", 15n],
		]);
		debug.detach();
		expect(reasons(await debug.resume())).toBe("ended");
		guest.vm.close();
	});
});

test("a guest's own INT3 reaches the guest, though breakpoints are planted", async () => {
	// int3; hlt, with a handler that writes to a port and returns
	const { target, ports, guest } = guestTarget(openKvm(), [0xcc, 0x90, 0xf4], { ownPoints: false });
	guest.memory.view(3 * 4, 4).set([0x00, 0x30, 0, 0]);
	guest.memory.view(0x3000, 4).set([0xb0, 0x07, 0xe6, 0x80]);
	guest.memory.view(0x3004, 1).set([0xcf]);
	guest.memory.written(0, 0x4000);
	const debug = new Debugger(target);
	debug.addPoint(point("software", 1));
	expect(await debug.resume()).toMatchObject({ reason: "breakpoint", point: { address: at(1) } });
	expect(ports).toEqual([7]);
	expect(reasons(await debug.resume())).toBe("ended");
	guest.vm.close();
});

test("only reads stop a read watchpoint of the engine's own", async () => {
	const { target, guest } = guestTarget(openKvm(), LOOP);
	const debug = new Debugger(target);
	debug.addPoint({ kind: "read", address: 0x2000n, length: 8 });
	expect(await debug.resume()).toMatchObject({ reason: "watchpoint", point: { kind: "read" } });
	expect(debug.pc(0)).toBe(at(15));
	guest.vm.close();
});

test("points beyond the processor's registers, and memory that is not there, are refused", () => {
	const { target, guest } = guestTarget(openKvm(), LOOP, { ownPoints: false });
	const debug = new Debugger(target);
	for (let i = 0; i < 4; i++) debug.addPoint(point("hardware", i));
	expect(() => debug.addPoint(point("hardware", 9))).toThrow(DebugError);
	expect(debug.removePoint(point("hardware", 0))).toBe(true);
	expect(debug.removePoint(point("hardware", 0))).toBe(false);
	expect(() => debug.addPoint({ kind: "write", address: 0x2001n, length: 2 })).toThrow(/aligned/);
	expect(() => debug.addPoint({ kind: "read", address: 0x2000n, length: 1 })).toThrow(/accesses/);
	expect(() => debug.addPoint({ kind: "software", address: 0x900_0000n, length: 1 })).toThrow(/cannot be written/);
	expect(() => debug.writeMemory(0, 0x900_0000n, Uint8Array.of(1))).toThrow(/physical 0x9000000/);
	expect(debug.readMemory(0, 0x1_fffen, 16)).toHaveLength(2);
	guest.vm.close();
});
