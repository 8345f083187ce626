import { describe, expect, test } from "vitest";
import { describeModes, inspectHardware, openAutoKvm, suits } from "../../src/hardware/auto.node.ts";
import { HardwareUnavailableError } from "../../src/hardware/errors.ts";
import type { GuestModes } from "../../src/hardware/guest-modes.ts";
import { accessHint, type KvmHost } from "../../src/hardware/host.node.ts";
import { openHardwareKvm, openOn } from "../../src/hardware/kvm.node.ts";
import type { Libc } from "../../src/hardware/libc.node.ts";
import { type KvmErrno, KvmError } from "../../src/kvm/errors.ts";
import { realModeGuest } from "./real-mode.ts";

const GET_API_VERSION = 0xae00;
const CREATE_VM = 0xae01;
const CHECK_EXTENSION = 0xae03;
const GET_VCPU_MMAP_SIZE = 0xae04;

interface Fake {
	/** What open(2) fails with. */
	open?: string;
	/** What KVM_CREATE_VM fails with. */
	createVm?: KvmErrno;
	version?: number;
	/** Capabilities by number that are missing. */
	lacks?: readonly number[];
	platform?: string;
	koffi?: boolean;
	hint?: string;
}

/** A host whose /dev/kvm is as the case has it. */
function host(fake: Fake): { host: KvmHost; opened: () => number } {
	let opened = 0;
	const libc = {
		ioctl(_fd: number, request: number, argument: number): number {
			if (request === GET_API_VERSION) return fake.version ?? 12;
			if (request === GET_VCPU_MMAP_SIZE) return 12288;
			if (request === CHECK_EXTENSION) return fake.lacks?.includes(Number(argument)) ? 0 : 1;
			if (request === CREATE_VM && fake.createVm !== undefined) {
				throw new KvmError(fake.createVm, "KVM_CREATE_VM", "refused");
			}
			throw new KvmError("ENOTTY", String(request), "the fake has no such ioctl");
		},
	} as unknown as Libc;
	return {
		opened: () => opened,
		host: {
			platform: fake.platform ?? "linux",
			arch: "x64",
			open() {
				if (fake.open !== undefined)
					throw Object.assign(new Error(`${fake.open}: open '/dev/kvm'`), { code: fake.open });
				opened++;
				return 99;
			},
			close() {
				opened--;
			},
			accessHint: () => fake.hint ?? "join its group kvm",
			async loadLibc() {
				if (fake.koffi === false) throw new HardwareUnavailableError("koffi", "npm install koffi");
				return libc;
			},
		},
	};
}

const cases: readonly (readonly [string, Fake, string, RegExp])[] = [
	["no device", { open: "ENOENT" }, "device", /there is no \/dev\/kvm: load the module.*firmware/],
	["a device without a module", { open: "ENODEV" }, "device", /load the module/],
	["no access", { open: "EACCES" }, "permission", /no access to \/dev\/kvm: join its group kvm/],
	["held open by another", { open: "EBUSY" }, "busy", /cannot be opened.*close what holds it/],
	["another hypervisor", { createVm: "EBUSY" }, "busy", /busy: another hypervisor.*stop its machines/],
	["a module that makes no VMs", { createVm: "EIO" }, "busy", /no working KVM.*dmesg/],
	["another API", { version: 11 }, "api-version", /speaks API 11, and 12 is needed: run a kernel/],
	["no immediate exit", { lacks: [136] }, "capability", /lacks immediate-exit: run a kernel of 4\.11/],
	["no user memory", { lacks: [3] }, "capability", /lacks user-memory/],
	["not Linux", { platform: "darwin" }, "platform", /this is darwin on x64: use the software engine/],
	["no koffi", { koffi: false }, "koffi", /npm install koffi/],
];

/** A program that knows nothing of engines. */
async function program(on: KvmHost): Promise<string> {
	const kvm = await openAutoKvm({}, on);
	const guest = realModeGuest(kvm, [0xb0, 0x41, 0xe6, 0x10, 0xf4]);
	const exit = guest.run();
	const end = guest.run().reason;
	const text = exit.reason === "io" ? `${kvm.engine}: ${exit.port} ${exit.data[0]} ${end}` : exit.reason;
	guest.vm.close();
	kvm.close();
	return text;
}

describe.each(cases)("%s", (_, fake, reason, words) => {
	test("is one line that says so and what to do, and leaves nothing open", async () => {
		const { host: on, opened } = host(fake);
		const error = await openOn(on).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(HardwareUnavailableError);
		const { message, reason: got, code } = error as HardwareUnavailableError;
		expect([got, code]).toEqual([reason, "ERR_HARDWARE_UNAVAILABLE"]);
		expect(message).toMatch(words);
		expect(message).not.toContain("\n");
		expect(opened()).toBe(0);
		expect(await inspectHardware({}, on)).toEqual({ available: false, reason, sentence: message });
	});

	test("runs the same program on the software engine", async () => {
		expect(await program(host(fake).host)).toBe("software: 16 65 hlt");
	});
});

test("a file that is no device is told apart from one that is not there", async () => {
	await expect(openHardwareKvm({ path: "/no/such/kvm" })).rejects.toMatchObject({
		reason: process.platform === "linux" ? "device" : "platform",
	});
});

test("the group to join is the device's own", () => {
	expect(accessHint(0o20660, 108, "kvm")).toBe('join its group kvm (sudo usermod -aG kvm "$USER") and log in again');
	expect(accessHint(0o20660, 993, undefined)).toContain("usermod -aG 993");
	expect(accessHint(0o20600, 0, "root")).toContain("only root may use it");
	expect(accessHint(0o20660, 0, "root")).toContain("only root may use it");
});

const whole: GuestModes = {
	...{ real: true, protected: true, paging: true, long: true, sse: true, user: true, syscall: true },
	kernelInstructionsPerSecond: 2e9,
};
const crippled: GuestModes = {
	...whole,
	paging: false,
	sse: false,
	syscall: false,
	kernelInstructionsPerSecond: 1.5e6,
};

test("a crippled KVM is described in a sentence", () => {
	expect(describeModes(whole)).toBe("runs every kind of guest at full speed");
	expect(describeModes(crippled)).toBe(
		"is crippled: it emulates kernel code (1.5 million instructions a second), and it cannot run 32-bit paging, SSE in kernels, SYSCALL; 64-bit user code runs at full speed; kernels are better off on the software engine",
	);
	expect(describeModes({ ...whole, paging: false })).toContain("is crippled: it cannot run 32-bit paging");
});

test("the engine is chosen by what the guest needs", () => {
	expect(suits(whole)).toBe(true);
	expect(suits(crippled)).toBe(false);
	expect(suits(crippled, { modes: ["long", "user"] })).toBe(true);
	expect(suits(crippled, { modes: ["long", "user", "syscall"] })).toBe(false);
	expect(suits(crippled, { modes: ["real"] })).toBe(false);
	expect(suits(crippled, { modes: ["real"], kernelSpeed: false })).toBe(true);
	expect(suits({ ...whole, user: false }, { modes: ["real", "protected"] })).toBe(true);
});
