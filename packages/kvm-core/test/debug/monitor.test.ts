import { expect, test } from "vitest";
import { Debugger } from "../../src/debug/debugger.ts";
import { Monitor } from "../../src/debug/monitor.ts";
import { SymbolTable } from "../../src/debug/symbols.ts";
import { openKvm } from "../../src/kvm/open-kvm.ts";
import { createMachine } from "../../src/machine/machine.ts";
import { createEventLoopScheduler } from "../../src/machine/scheduler.ts";

/** Real mode at the reset vector: mov al, 5; out 0x80, al; ud2, whose handler powers off. */
const CODE = [0xb0, 0x05, 0xe6, 0x80, 0x0f, 0x0b];

function monitored(): { monitor: Monitor; debug: Debugger; lines: string[]; close(): void } {
	const rom = new Uint8Array(65_536).fill(0xf4);
	rom.set(CODE, 0xff00);
	rom.set([0xe9, 0x0d, 0xff], 0xfff0);
	const kvm = openKvm();
	const machine = createMachine({
		kvm,
		memoryBytes: 2 ** 21,
		now: () => performance.now() * 1e6,
		epochSeconds: 0,
		scheduler: createEventLoopScheduler(),
		debugExitPort: 0xf4,
		roms: [{ physAddr: 2 ** 32 - 65_536, bytes: rom }],
	});
	machine.write(6 * 4, Uint8Array.of(0x00, 0x06, 0, 0));
	// mov al, 1; out 0xf4, al
	machine.write(0x600, Uint8Array.of(0xb0, 0x01, 0xe6, 0xf4));
	const debug = new Debugger(machine);
	const lines: string[] = [];
	const symbols = new SymbolTable([{ name: "start", type: "T", address: 0xffff_ff00n }]);
	const monitor = new Monitor({ debugger: debug, machine, symbols, onTrace: (line) => lines.push(line) });
	return {
		monitor,
		debug,
		lines,
		close() {
			monitor.close();
			machine.close();
			kvm.close();
		},
	};
}

test("says what the reset vector looks like, and where addresses lead", async () => {
	const { monitor, debug, close } = monitored();
	expect(await monitor.run("regs")).toMatch(/^rip f000:fff0 \(linear 0xfffffff0, 16-bit code\)\n/);
	expect(await monitor.run("x")).toMatch(/^start\+0xf0: jmp 0xffffff00 <start>\n/);
	await debug.step();
	expect(await monitor.run("x start 3")).toBe("start: mov al,0x5\nstart+0x2: out 0x80,al\nstart+0x4: ud2\n");
	expect(await monitor.run("x start 1 att")).toBe("start: mov $0x5,%al\n");
	expect(await monitor.run("translate 0x1234")).toBe("0x1234 -> 0x1234 (4 KiB page, wxu)\n");
	expect(await monitor.run("translate nowhere")).toMatch(/neither a number nor a symbol\nusage: translate ADDRESS\n/);
	expect(await monitor.run("vcpu 3")).toMatch(/no vCPU 3/);
	expect(await monitor.run("nonsense")).toMatch(/monitor help/);
	expect((await monitor.run("help")).split("\n").length).toBeGreaterThan(9);
	expect(await monitor.run("devices")).toMatch(/^uart: \{/);
	expect(await monitor.run("irq 5 pulse")).toBe("line 5: pulse\n");
	expect(await monitor.run("irq 99")).toMatch(/no line 99/);
	close();
});

test("traces exits and exceptions, and counts them", async () => {
	const { monitor, debug, lines, close } = monitored();
	expect(await monitor.run("trace on")).toBe("tracing exits, irq\n");
	expect(await debug.resume()).toMatchObject({ reason: "ended", exit: { reason: "debug-exit", status: 3 } });
	expect(lines).toEqual([
		"vcpu0 exit io out 0x80 05[1]",
		"vcpu0 exception vector 0x6 at 0xff04",
		"vcpu0 exit io out 0xf4 01[1]",
	]);
	expect(await monitor.run("trace off irq")).toBe("tracing exits\n");
	expect(await monitor.run("stats")).toMatch(/io_exits +2\n.*mmio_exits +0\n/s);
	close();
});
