import { afterAll, describe, expect, test } from "vitest";
import * as C from "../../src/classic/index.ts";
import {
	CLASSIC,
	CLASSIC_BYTES,
	CLASSIC_EXIT,
	CLASSIC_RUN,
	type ClassicKvm,
	openClassic,
} from "../../src/classic/index.ts";
import { longMode } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { KvmError } from "../../src/kvm/errors.ts";
import { readSregs, writeSregs } from "../../src/kvm/structs.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { engines } from "./engines.ts";
import { errno } from "./promise.ts";

/** Rows F1 to F16 of 2006's interface, over both engines. */

const CODE = 0x1000;
const RAM = 0x20000;
const REG_NAMES = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ");

function bytes(size: number, fill?: (view: DataView) => void): Uint8Array {
	const struct = new Uint8Array(size);
	fill?.(new DataView(struct.buffer));
	return struct;
}

const region = (slot: number, start: number, size: number, flags = 0): Uint8Array =>
	bytes(CLASSIC_BYTES.kvm_memory_region, (view) => {
		view.setUint32(0, slot, true);
		view.setUint32(4, flags, true);
		view.setBigUint64(8, BigInt(start), true);
		view.setBigUint64(16, BigInt(size), true);
	});

/** A machine in real mode at CODE, and short ways to its ioctls. */
class Machine {
	readonly handle: ClassicKvm;
	readonly run = bytes(CLASSIC_BYTES.kvm_run);
	readonly view = new DataView(this.run.buffer);

	constructor(kvm: Kvm, code: readonly number[], flags = 0) {
		this.handle = openClassic(kvm, { memoryBytes: 2 ** 21 });
		this.handle.ioctl(CLASSIC.KVM_SET_MEMORY_REGION, region(0, 0, RAM, flags));
		this.put(CODE, code);
		this.handle.ioctl(CLASSIC.KVM_CREATE_VCPU, 0);
		const sregs = this.sregs();
		for (const name of ["cs", "ds", "es", "ss"] as const) Object.assign(sregs[name], { base: 0n, selector: 0 });
		this.setSregs(sregs);
		this.set({ rip: BigInt(CODE), rsp: 0x8000n, rflags: 2n });
	}

	put(at: number, code: readonly number[]): void {
		const page = at & ~0xfff;
		this.handle.mmap(page, 0x1000).set(code, at - page);
		this.handle.written(at, code.length);
	}

	/** KVM_RUN until it is not EINTR. */
	go(): number {
		for (let i = 0; i < 2000; i++) {
			try {
				this.handle.ioctl(CLASSIC.KVM_RUN, this.run);
				return this.view.getUint32(CLASSIC_RUN.exitReason, true);
			} catch (error) {
				if (!(error instanceof KvmError) || error.code !== "EINTR") throw error;
			}
		}
		throw new Error("EINTR for ever");
	}

	get(name: string): bigint {
		const regs = bytes(CLASSIC_BYTES.kvm_regs);
		this.handle.ioctl(CLASSIC.KVM_GET_REGS, regs);
		return new DataView(regs.buffer).getBigUint64(8 + REG_NAMES.indexOf(name) * 8, true);
	}

	set(values: Record<string, bigint>): void {
		const regs = bytes(CLASSIC_BYTES.kvm_regs);
		this.handle.ioctl(CLASSIC.KVM_GET_REGS, regs);
		const view = new DataView(regs.buffer);
		for (const [name, value] of Object.entries(values)) view.setBigUint64(8 + REG_NAMES.indexOf(name) * 8, value, true);
		this.handle.ioctl(CLASSIC.KVM_SET_REGS, regs);
	}

	sregs(): ReturnType<typeof readSregs> {
		const struct = bytes(CLASSIC_BYTES.kvm_sregs);
		this.handle.ioctl(CLASSIC.KVM_GET_SREGS, struct);
		return readSregs(new DataView(struct.buffer, 8));
	}

	setSregs(sregs: ReturnType<typeof readSregs>): void {
		const struct = bytes(CLASSIC_BYTES.kvm_sregs);
		writeSregs(new DataView(struct.buffer, 8), sregs);
		this.handle.ioctl(CLASSIC.KVM_SET_SREGS, struct);
	}

	interrupt(irq: number): void {
		this.handle.ioctl(
			CLASSIC.KVM_INTERRUPT,
			bytes(8, (view) => view.setUint32(4, irq, true)),
		);
	}

	debug(enabled: boolean, singleStep: boolean, addresses: readonly number[] = []): void {
		const struct = bytes(CLASSIC_BYTES.kvm_debug_guest, (view) => {
			view.setUint32(4, enabled ? 1 : 0, true);
			addresses.forEach((address, i) => {
				view.setUint32(8 + i * 16, 1, true);
				view.setBigUint64(16 + i * 16, BigInt(address), true);
			});
			view.setUint32(72, singleStep ? 1 : 0, true);
		});
		this.handle.ioctl(CLASSIC.KVM_DEBUG_GUEST, struct);
	}

	/** kvm_run's io. */
	io(): Record<string, number> {
		const { io } = CLASSIC_RUN;
		return {
			direction: this.run[io.direction]!,
			size: this.run[io.size]!,
			string: this.run[io.string]!,
			down: this.run[io.stringDown]!,
			rep: this.run[io.rep]!,
			port: this.view.getUint16(io.port, true),
			count: Number(this.view.getBigUint64(io.count, true)),
			value: Number(this.view.getBigUint64(io.value, true)),
			length: this.view.getUint32(CLASSIC_RUN.instructionLength, true),
		};
	}

	/** What 2006's user did: the instruction is done, go on behind it. */
	emulated(): void {
		this.view.setUint32(CLASSIC_RUN.emulated, 1, true);
	}
}

const rows: readonly { name: string; needsLong?: boolean; check: (kvm: Kvm) => void }[] = [
	{
		name: "F1: the API is version 2; requests nobody knows are EINVAL, structs too short EFAULT",
		check(kvm) {
			const handle = openClassic(kvm);
			expect(handle.ioctl(CLASSIC.KVM_GET_API_VERSION)).toBe(2);
			expect(errno(() => handle.ioctl(0xae00))).toBe("EINVAL");
			expect(errno(() => handle.ioctl(CLASSIC.KVM_GET_REGS, new Uint8Array(8)))).toBe("EFAULT");
			handle.close();
		},
	},
	{
		name: "F2: one vCPU: others EINVAL, twice EEXIST, none ENOENT",
		check(kvm) {
			const handle = openClassic(kvm);
			expect(errno(() => handle.ioctl(CLASSIC.KVM_GET_REGS, bytes(CLASSIC_BYTES.kvm_regs)))).toBe("ENOENT");
			expect(errno(() => handle.ioctl(CLASSIC.KVM_RUN, bytes(CLASSIC_BYTES.kvm_run)))).toBe("ENOENT");
			expect(errno(() => handle.ioctl(CLASSIC.KVM_CREATE_VCPU, 1))).toBe("EINVAL");
			expect(handle.ioctl(CLASSIC.KVM_CREATE_VCPU, 0)).toBe(0);
			expect(errno(() => handle.ioctl(CLASSIC.KVM_CREATE_VCPU, 0))).toBe("EEXIST");
			const other = bytes(CLASSIC_BYTES.kvm_regs, (view) => view.setUint32(0, 1, true));
			expect(errno(() => handle.ioctl(CLASSIC.KVM_GET_REGS, other))).toBe("EINVAL");
			handle.close();
		},
	},
	{
		name: "F3: four slots: unaligned, beyond, resized EINVAL; overlapping EEXIST; moved, deleted, made anew as zeroes",
		check(kvm) {
			const handle = openClassic(kvm, { memoryBytes: 2 ** 21 });
			const set = (...args: Parameters<typeof region>): string =>
				errno(() => handle.ioctl(CLASSIC.KVM_SET_MEMORY_REGION, region(...args)));
			expect(set(3, 0, 0xa0000)).toBe("no error");
			expect(set(0, 0xc0000, 0x40000)).toBe("no error");
			expect(set(1, 0x9f000, 0x1000)).toBe("EEXIST");
			expect(set(1, 0xb0800, 0x1000)).toBe("EINVAL");
			expect(set(1, 0xb0000, 0x800)).toBe("EINVAL");
			expect(set(4, 0xb0000, 0x1000)).toBe("EINVAL");
			expect(set(0, 0xc0000, 0x41000)).toBe("EINVAL");
			handle.mmap(0xc0000, 0x1000)[5] = 77;
			expect(set(0, 0x10_0000, 0x40000)).toBe("no error");
			expect(handle.mmap(0x10_0000, 0x1000)[5]).toBe(77);
			expect(set(0, 0x10_0000, 0)).toBe("no error");
			expect(set(0, 0, 0)).toBe("no error");
			expect(set(0, 0x10_0000, 0x40000)).toBe("no error");
			expect(handle.mmap(0x10_0000, 0x1000)[5]).toBe(0);
			handle.close();
		},
	},
	{
		name: "F4: port output and input: shown before the instruction, done by the embedder, skipped by emulated",
		check(kvm) {
			// mov al,0x41; mov dx,0x3f8; out dx,al; in ax,0x70; out 0x80,ax; hlt
			const code = [0xb0, 0x41, 0xba, 0xf8, 0x03, 0xee, 0xe5, 0x70, 0xe7, 0x80, 0xf4];
			const machine = new Machine(kvm, code);
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.view.getUint32(CLASSIC_RUN.exitType, true)).toBe(2);
			expect(machine.io()).toMatchObject({
				direction: 1,
				size: 1,
				string: 0,
				rep: 0,
				port: 0x3f8,
				value: 0x41,
				length: 1,
			});
			expect(machine.get("rip")).toBe(BigInt(CODE + 5));
			// Not emulated, the instruction is executed again.
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ port: 0x3f8, value: 0x41 });
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.view.getUint32(CLASSIC_RUN.emulated, true)).toBe(0);
			expect(machine.io()).toMatchObject({ direction: 0, size: 2, port: 0x70, count: 1, length: 2 });
			expect([machine.get("rip"), machine.get("rax") & 0xffn]).toEqual([BigInt(CODE + 6), 0x41n]);
			machine.set({ rax: 0xbeefn });
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ direction: 1, size: 2, port: 0x80, value: 0xbeef, length: 2 });
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			expect(machine.get("rip")).toBe(BigInt(CODE + code.length));
			machine.handle.close();
		},
	},
	{
		name: "F4: string I/O: one exit with count, rep, direction and linear address, memory and registers untouched",
		check(kvm) {
			// mov si,0x5000; mov cx,3; mov dx,0x3f8; rep outsb; std; mov di,0x6003; mov cx,2; rep insw; hlt
			const code = [
				0xbe, 0, 0x50, 0xb9, 3, 0, 0xba, 0xf8, 0x03, 0xf3, 0x6e, 0xfd, 0xbf, 3, 0x60, 0xb9, 2, 0, 0xf3, 0x6d, 0xf4,
			];
			const machine = new Machine(kvm, code);
			machine.put(0x5000, [1, 2, 3]);
			machine.put(0x6000, [9, 9, 9, 9, 9, 9]);
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({
				direction: 1,
				size: 1,
				string: 1,
				down: 0,
				rep: 1,
				port: 0x3f8,
				count: 3,
				value: 0x5000,
				length: 2,
			});
			expect([machine.get("rip"), machine.get("rsi"), machine.get("rcx")]).toEqual([BigInt(CODE + 9), 0x5000n, 3n]);
			machine.set({ rsi: 0x5003n, rcx: 0n });
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({
				direction: 0,
				size: 2,
				string: 1,
				down: 1,
				rep: 1,
				count: 2,
				value: 0x6003,
				length: 2,
			});
			expect([machine.get("rdi"), machine.get("rcx")]).toEqual([0x6003n, 2n]);
			expect([...machine.handle.mmap(0x6000, 0x1000).subarray(0, 6)]).toEqual([9, 9, 9, 9, 9, 9]);
			machine.set({ rdi: 0x5fffn, rcx: 0n });
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			machine.handle.close();
		},
	},
	{
		name: "F4: memory-mapped I/O: writes are done, reads wait for mmio_completed; EINTR on a signal",
		check(kvm) {
			// mov ax,0x8000; mov ds,ax; mov word [0x10],0xbeef; mov bx,[0x20]; hlt
			const code = [0xb8, 0, 0x80, 0x8e, 0xd8, 0xc7, 0x06, 0x10, 0, 0xef, 0xbe, 0x8b, 0x1e, 0x20, 0, 0xf4];
			const machine = new Machine(kvm, code);
			const { mmio } = CLASSIC_RUN;
			const seen = (): unknown[] => [
				Number(machine.view.getBigUint64(mmio.physAddr, true)),
				machine.view.getUint32(mmio.length, true),
				machine.run[mmio.isWrite],
			];
			expect(machine.go()).toBe(CLASSIC_EXIT.MMIO);
			expect(seen()).toEqual([0x80010, 2, 1]);
			expect([...machine.run.subarray(mmio.data, mmio.data + 2)]).toEqual([0xef, 0xbe]);
			for (let i = 0; i < 2; i++) {
				expect(machine.go()).toBe(CLASSIC_EXIT.MMIO);
				expect(seen()).toEqual([0x80020, 2, 0]);
			}
			machine.run.set([0x5a, 0xa5], mmio.data);
			machine.view.setUint32(CLASSIC_RUN.mmioCompleted, 1, true);
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			expect(machine.get("rbx")).toBe(0xa55an);
			machine.put(CODE, [0xeb, 0xfe]);
			machine.set({ rip: BigInt(CODE) });
			machine.handle.signal(true);
			expect(errno(() => machine.handle.ioctl(CLASSIC.KVM_RUN, machine.run))).toBe("EINTR");
			machine.handle.signal(false);
			machine.handle.setSlice({ milliseconds: 2, instructions: 10_000 });
			expect(errno(() => machine.handle.ioctl(CLASSIC.KVM_RUN, machine.run))).toBe("EINTR");
			machine.handle.close();
		},
	},
	{
		name: "F5: exit reasons: HLT 5, SHUTDOWN 8; CPUID is answered without an exit, as today's KVM does",
		check(kvm) {
			// xor eax,eax; cpuid; hlt
			const machine = new Machine(kvm, [0x66, 0x31, 0xc0, 0x0f, 0xa2, 0xf4]);
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			expect(machine.get("rbx")).not.toBe(0n);
			machine.put(CODE, [0x0f, 0x0b]);
			const sregs = machine.sregs();
			sregs.cr0 |= 1n;
			sregs.idt = { base: 0n, limit: 0 };
			for (const name of ["cs", "ds", "es", "ss", "fs", "gs"] as const) {
				Object.assign(sregs[name], { base: 0n, limit: 0xffffffff, g: 1, db: 1, selector: name === "cs" ? 8 : 16 });
			}
			machine.setSregs(sregs);
			machine.set({ rip: BigInt(CODE) });
			expect(machine.go()).toBe(CLASSIC_EXIT.SHUTDOWN);
			machine.handle.close();
		},
	},
	{
		name: "F6 and F7: registers and system registers come back as they were set",
		check(kvm) {
			const machine = new Machine(kvm, [0xf4]);
			const values = Object.fromEntries(
				REG_NAMES.slice(0, 16).map((name, i) => [name, 0x1122_3344_5566_7700n + BigInt(i)]),
			);
			machine.set(values);
			for (const [name, value] of Object.entries(values)) expect(machine.get(name)).toBe(value);
			const sregs = machine.sregs();
			sregs.cr2 = 0x1234n;
			sregs.gdt = { base: 0x3000n, limit: 0x27 };
			sregs.interruptBitmap = [1n << 40n, 0n, 0n, 1n << 63n];
			machine.setSregs(sregs);
			expect(machine.sregs()).toMatchObject({ cr2: 0x1234n, gdt: { base: 0x3000n, limit: 0x27 } });
			expect(machine.sregs().interruptBitmap).toEqual([1n << 40n, 0n, 0n, 1n << 63n]);
			machine.handle.close();
		},
	},
	{
		name: "F8: translation: physical, valid; writeable 1 and usermode 0 whatever the tables say",
		needsLong: true,
		check(kvm) {
			const machine = new Machine(kvm, [0xf4]);
			const ram = machine.handle.mmap(0, RAM);
			const tables = new PageTables("4-level", ram, 0, { start: 0x10000, bytes: 0x8000 });
			tables.map(0x5000n, 0x1000, 0x1000, 0x1000, { user: true, write: false });
			machine.handle.written(0, RAM);
			machine.setSregs(longMode(machine.sregs(), tables.root));
			const translate = (linear: bigint): unknown[] => {
				const struct = bytes(32, (view) => view.setBigUint64(0, linear, true));
				machine.handle.ioctl(CLASSIC.KVM_TRANSLATE, struct);
				return [new DataView(struct.buffer).getBigUint64(16, true), ...struct.subarray(24, 27)];
			};
			expect(translate(0x5123n)).toEqual([0x1123n, 1, 1, 0]);
			expect(translate(0x9000n)).toEqual([0xffff_ffff_ffff_ffffn, 0, 1, 0]);
			machine.handle.close();
		},
	},
	{
		name: "F9: interrupts: queued as a bitmap, lowest first, when the guest can take them; windows; 256 EINVAL",
		check(kvm) {
			// cli; nop; sti; nop; L: jmp L
			const machine = new Machine(kvm, [0xfa, 0x90, 0xfb, 0x90, 0xeb, 0xfe]);
			for (const [vector, at] of [
				[0x21, 0x3000],
				[0x30, 0x3010],
			] as const) {
				machine.put(vector * 4, [at & 255, at >> 8, 0, 0]);
				// out vector, al; iret
				machine.put(at, [0xe6, vector, 0xcf]);
			}
			expect(errno(() => machine.interrupt(256))).toBe("EINVAL");
			machine.interrupt(0x30);
			machine.interrupt(0x21);
			expect(machine.sregs().interruptBitmap[0]).toBe((1n << 0x30n) | (1n << 0x21n));
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ port: 0x21 });
			expect(machine.sregs().interruptBitmap[0]).toBe(1n << 0x30n);
			expect([machine.run[CLASSIC_RUN.ifFlag], machine.run[CLASSIC_RUN.readyForInterruptInjection]]).toEqual([0, 0]);
			machine.emulated();
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ port: 0x30 });
			machine.emulated();
			machine.view.setUint8(CLASSIC_RUN.requestInterruptWindow, 1);
			expect(machine.go()).toBe(CLASSIC_EXIT.IRQ_WINDOW_OPEN);
			expect([machine.run[CLASSIC_RUN.ifFlag], machine.run[CLASSIC_RUN.readyForInterruptInjection]]).toEqual([1, 1]);
			machine.view.setUint8(CLASSIC_RUN.requestInterruptWindow, 0);
			machine.handle.close();
		},
	},
	{
		name: "F10: debugging: single step with TF hidden, four execution breakpoints",
		check(kvm) {
			// mov ax,1; mov bx,2; nop; nop; hlt
			const machine = new Machine(kvm, [0xb8, 1, 0, 0xbb, 2, 0, 0x90, 0x90, 0xf4]);
			machine.debug(true, true);
			for (const at of [3, 6]) {
				expect(machine.go()).toBe(CLASSIC_EXIT.DEBUG);
				expect([machine.get("rip"), machine.get("rflags") & 0x1_0100n]).toEqual([BigInt(CODE + at), 0n]);
			}
			machine.debug(true, false, [0x7777, 0x8888, 0x9999, CODE + 7]);
			expect(machine.go()).toBe(CLASSIC_EXIT.DEBUG);
			expect(machine.get("rip")).toBe(BigInt(CODE + 7));
			machine.debug(false, false);
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			machine.handle.close();
		},
	},
	{
		name: "F11: dirty log: a bit a page, cleared by reading; ENOENT without the flag, EINVAL for slot 4",
		check(kvm) {
			const machine = new Machine(kvm, [0xc6, 0x06, 0x00, 0x50, 1, 0xf4], 1);
			const log = (slot: number): Uint8Array => {
				const bitmap = new Uint8Array(4);
				machine.handle.ioctl(
					CLASSIC.KVM_GET_DIRTY_LOG,
					bytes(16, (view) => view.setUint32(0, slot, true)),
					bitmap,
				);
				return bitmap;
			};
			log(0);
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			expect([...log(0)]).toEqual([1 << 5, 0, 0, 0]);
			expect([...log(0)]).toEqual([0, 0, 0, 0]);
			expect(errno(() => log(1))).toBe("ENOENT");
			expect(errno(() => log(4))).toBe("EINVAL");
			machine.handle.close();
		},
	},
	{
		name: "F12 and F13: MSRs: processed up to the first unknown, 256 at once E2BIG; the index list and what it needs",
		check(kvm) {
			const machine = new Machine(kvm, [0xf4]);
			const msrs = (request: number, entries: readonly (readonly [number, bigint])[]): [number, bigint[]] => {
				const struct = bytes(8 + entries.length * 16, (view) => {
					view.setUint32(4, entries.length, true);
					entries.forEach(([index, data], i) => {
						view.setUint32(8 + i * 16, index, true);
						view.setBigUint64(16 + i * 16, data, true);
					});
				});
				const done = machine.handle.ioctl(request, struct);
				return [done, entries.map((_, i) => new DataView(struct.buffer).getBigUint64(16 + i * 16, true))];
			};
			const star = [0xc0000081, 0x23001000000000n] as const;
			expect(msrs(CLASSIC.KVM_SET_MSRS, [star, [0x4a5a5a5a, 1n], [0x174, 9n]])[0]).toBe(1);
			expect(msrs(CLASSIC.KVM_GET_MSRS, [[star[0], 0n]])).toEqual([1, [star[1]]]);
			const many = bytes(8 + 256 * 16, (view) => view.setUint32(4, 256, true));
			expect(errno(() => machine.handle.ioctl(CLASSIC.KVM_GET_MSRS, many))).toBe("E2BIG");
			const list = (room: number): Uint32Array => {
				const struct = new Uint32Array(1 + 16);
				struct[0] = room;
				const code = errno(() => machine.handle.ioctl(CLASSIC.KVM_GET_MSR_INDEX_LIST, new Uint8Array(struct.buffer)));
				expect(code).toBe(room < 10 ? "E2BIG" : "no error");
				return struct;
			};
			expect(list(3)[0]).toBe(10);
			expect([...list(16).subarray(0, 11)]).toEqual([10, ...C.CLASSIC_MSRS]);
			const known = [...C.CLASSIC_MSRS].map((index) => [index, 0n] as const);
			expect(msrs(CLASSIC.KVM_GET_MSRS, known)[0]).toBe(10);
			machine.handle.close();
		},
	},
	{
		name: "F14: control registers, LMSW, INVLPG-free real code, RDMSR and HLT are dealt with inside; unknown MSRs are #GP",
		check(kvm) {
			// mov eax,cr0; or al,2; mov cr0,eax; smsw bx; mov ecx,0x174; rdmsr; mov ecx,0x4a5a5a5a; rdmsr; hlt
			const code = [0x0f, 0x20, 0xc0, 0x0c, 2, 0x0f, 0x22, 0xc0, 0x0f, 0x01, 0xe3];
			code.push(0x66, 0xb9, 0x74, 1, 0, 0, 0x0f, 0x32, 0x66, 0xb9, 0x5a, 0x5a, 0x5a, 0x4a, 0x0f, 0x32, 0xf4);
			const machine = new Machine(kvm, code);
			// Vector 13: out 0x13, al; hlt
			machine.put(13 * 4, [0x00, 0x30, 0, 0]);
			machine.put(0x3000, [0xe6, 0x13, 0xf4]);
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ port: 0x13 });
			expect([machine.sregs().cr0 & 2n, machine.get("rbx") & 2n]).toEqual([2n, 2n]);
			// A HLT with an interrupt that waits is none.
			machine.emulated();
			machine.interrupt(0x40);
			machine.put(0x3003, [0xe6, 0x14]);
			expect(machine.go()).toBe(CLASSIC_EXIT.IO);
			expect(machine.io()).toMatchObject({ port: 0x14 });
			machine.handle.close();
		},
	},
	{
		name: "F15: guest memory at the offset of its physical address, live, slot by slot; EINVAL in holes, and closed",
		check(kvm) {
			const machine = new Machine(kvm, [0xc6, 0x06, 0x00, 0x50, 0x77, 0xf4]);
			const page = machine.handle.mmap(0x5000, 0x1000);
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			expect(page[0]).toBe(0x77);
			expect(errno(() => machine.handle.mmap(RAM, 0x1000))).toBe("EINVAL");
			expect(errno(() => machine.handle.mmap(RAM - 0x1000, 0x2000))).toBe("EINVAL");
			expect(errno(() => machine.handle.mmap(0x5001, 0x100))).toBe("EINVAL");
			machine.handle.close();
			expect(errno(() => machine.handle.mmap(0x5000, 0x1000))).toBe("ENODEV");
		},
	},
	{
		name: "F16: debugfs's counters",
		check(kvm) {
			const machine = new Machine(kvm, [0xe6, 0x10, 0xb8, 0, 0x80, 0x8e, 0xd8, 0xa2, 0, 0, 0xf4]);
			machine.go();
			machine.emulated();
			machine.go();
			expect(machine.go()).toBe(CLASSIC_EXIT.HLT);
			const stats = machine.handle.stats();
			expect(stats).toMatchObject({ io_exits: 1n, mmio_exits: 1n });
			expect(stats.exits).toBeGreaterThanOrEqual(3n);
			expect(Object.keys(stats).sort()).toEqual(
				"exits invlpg io_exits irq_exits irq_window mmio_exits pf_fixed pf_guest signal_exits tlb_flush".split(" "),
			);
			machine.handle.close();
		},
	},
];

test("struct sizes are those of the request numbers", () => {
	const sizes: Readonly<Record<string, number>> = {
		KVM_RUN: CLASSIC_BYTES.kvm_run,
		KVM_GET_REGS: CLASSIC_BYTES.kvm_regs,
		KVM_SET_REGS: CLASSIC_BYTES.kvm_regs,
		KVM_GET_SREGS: CLASSIC_BYTES.kvm_sregs,
		KVM_SET_SREGS: CLASSIC_BYTES.kvm_sregs,
		KVM_TRANSLATE: CLASSIC_BYTES.kvm_translation,
		KVM_INTERRUPT: CLASSIC_BYTES.kvm_interrupt,
		KVM_DEBUG_GUEST: CLASSIC_BYTES.kvm_debug_guest,
		KVM_SET_MEMORY_REGION: CLASSIC_BYTES.kvm_memory_region,
		KVM_CREATE_VCPU: 4,
		KVM_GET_DIRTY_LOG: CLASSIC_BYTES.kvm_dirty_log,
		KVM_GET_MSRS: CLASSIC_BYTES.kvm_msrs,
		KVM_SET_MSRS: CLASSIC_BYTES.kvm_msrs,
		KVM_GET_MSR_INDEX_LIST: CLASSIC_BYTES.kvm_msr_list,
		KVM_GET_API_VERSION: 0,
	};
	const numbers = Object.entries(CLASSIC).map(([name, request]) => [
		name,
		(request >>> 16) & 0x3fff,
		(request >>> 8) & 255,
	]);
	expect(numbers).toEqual(Object.keys(CLASSIC).map((name) => [name, sizes[name], 0xae]));
	expect(Object.values(CLASSIC).map((request) => request & 255)).toEqual(Array.from({ length: 15 }, (_, i) => i + 1));
});

const opened = await engines();
for (const { name: engine, kvm, reason, modes } of opened) {
	describe.skipIf(kvm === undefined)(
		`the interface of 2006 on the ${engine} engine${reason ? ` (${reason})` : ""}`,
		() => {
			for (const { name, needsLong, check } of rows) {
				test.skipIf(needsLong === true && modes?.long === false)(name, () => check(kvm!));
			}
		},
	);
}

afterAll(() => {
	for (const { kvm } of opened) kvm?.close();
});
