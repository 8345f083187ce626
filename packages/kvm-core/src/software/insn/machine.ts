import { CR4_FSGSBASE, CR4_OSXSAVE, CR4_PKE, CR4_TSD } from "../cpu/control-bits.ts";
import { type Cpu, GP, UD } from "../cpu/cpu.ts";
import { FEATURES } from "../cpu/cpuid-features.ts";
import { isCanonical } from "../cpu/descriptor.ts";
import * as L from "../cpu/layout.ts";
import { MSR_KERNEL_GS_BASE, MSR_TSC_AUX, readMsr, setSegmentBase, writeMsr } from "../cpu/msr.ts";
import { requireSupervisor } from "../cpu/privilege.ts";
import { componentsInUse } from "../cpu/state-area.ts";
import type { SystemOperation } from "../cpu/system-operation.ts";
import { AT_PKRU, COMPONENT_PKRU, COMPONENTS } from "../cpu/xsave-layout.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** EDX:EAX. */
function setPair(cpu: Cpu, value: bigint): void {
	cpu.setGpr(L.RAX, 4, value & 0xffff_ffffn);
	cpu.setGpr(L.RDX, 4, (value >> 32n) & 0xffff_ffffn);
}

function pair(cpu: Cpu): bigint {
	return (BigInt(cpu.gpr32(L.RDX)) << 32n) | BigInt(cpu.gpr32(L.RAX));
}

function identify(cpu: Cpu): void {
	const leaf = cpu.gpr32(L.RAX);
	const answer = cpu.cpuid.query(leaf, cpu.gpr32(L.RCX));
	let { ebx, ecx, edx } = answer;
	if (leaf === 1) {
		// Two bits follow the machine's state rather than the table.
		if ((cpu.cr4 & CR4_OSXSAVE) !== 0) ecx |= 1 << FEATURES.osxsave[2];
		else ecx &= ~(1 << FEATURES.osxsave[2]);
		if (((readMsr(cpu, 0x1b) ?? 0n) & 0x800n) === 0n) edx &= ~(1 << FEATURES.apic[2]);
	}
	cpu.setGpr(L.RAX, 4, answer.eax);
	// So do the keys' bit, and the size of what XCR0 enables.
	if (leaf === 7 && cpu.gpr32(L.RCX) === 0 && (cpu.cr4 & CR4_PKE) !== 0) ecx |= 1 << FEATURES.ospke[2];
	if (leaf === 0xd && cpu.gpr32(L.RCX) < 2 && (cpu.get32(L.XCR0) & COMPONENT_PKRU) === 0) ebx = AT_PKRU;
	cpu.setGpr(L.RBX, 4, ebx);
	cpu.setGpr(L.RCX, 4, ecx >>> 0);
	cpu.setGpr(L.RDX, 4, edx >>> 0);
}

function checkTimeStamp(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_TSD) !== 0 && cpu.cpl !== 0) cpu.raise(GP, 0);
}

function checkXsaveEnabled(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_OSXSAVE) === 0) cpu.raise(UD);
}

function random(feature: "rdrand" | "rdseed"): SystemOperation {
	return (cpu, insn) => {
		if (!cpu.cpuid.has(feature)) cpu.raise(UD);
		const size = insn.operandSize === 1 ? 2 : insn.operandSize;
		cpu.setGpr(insn.rm, size, BigInt.asUintN(size * 8, cpu.core.random()));
		cpu.flags = (cpu.flags & ~L.ARITHMETIC) | L.CF;
	};
}

function segmentBaseAccess(segment: number, write: boolean): SystemOperation {
	return (cpu, insn) => {
		if ((cpu.cr4 & CR4_FSGSBASE) === 0) cpu.raise(UD);
		const size = insn.operandSize === 8 ? 8 : 4;
		if (!write) {
			cpu.setGpr(insn.rm, size, cpu.segmentBase(segment));
			return;
		}
		const value = size === 8 ? cpu.gpr(insn.rm) : BigInt(cpu.gpr32(insn.rm));
		if (!isCanonical(value)) cpu.raise(GP, 0);
		setSegmentBase(cpu, segment, value);
	};
}

const KVM_ENOSYS = -1000n;
const KVM_EPERM = -1n;
const KVM_EINVAL = -22n;

const HYPERCALL_POLL_IRQ = 1;
const HYPERCALL_SEND_IPI = 10;
/** Logical destinations and shorthands in the ICR. */
const COMMAND_DESTINATIONS = 0xc_0800;

function supervisorHypercall(cpu: Cpu, number: number): bigint {
	if (number === HYPERCALL_POLL_IRQ) return 0n;
	if (number !== HYPERCALL_SEND_IPI || cpu.apic === undefined || !cpu.cpuid.has("kvm-send-ipi")) return KVM_ENOSYS;
	const wide = cpu.code64;
	const command = cpu.gpr32(L.RSI);
	if ((command & COMMAND_DESTINATIONS) !== 0) return KVM_EINVAL;
	// Two words of a bitmap of APIC ids from RDX on.
	const bits = wide ? 64 : 32;
	let sent = 0n;
	for (const [word, register] of [L.RBX, L.RCX].entries()) {
		let bitmap = BigInt.asUintN(bits, cpu.gpr(register));
		for (let id = cpu.gpr32(L.RDX) + word * bits; bitmap !== 0n; bitmap >>= 1n, id++) {
			if ((bitmap & 1n) !== 0n && cpu.apic.sendIpi(id, command)) sent++;
		}
	}
	cpu.core.interruptsChanged();
	return sent;
}

/** VMCALL, VMMCALL: KVM's hypercalls (linux: Documentation/virt/kvm/x86/hypercalls.rst). */
function hypercall(cpu: Cpu): void {
	if (!cpu.protectedMode || cpu.virtual8086) cpu.raise(UD);
	const wide = cpu.code64;
	const number = wide ? cpu.gpr(L.RAX) : BigInt(cpu.gpr32(L.RAX));
	const result = cpu.cpl !== 0 ? KVM_EPERM : supervisorHypercall(cpu, Number(number));
	cpu.setGpr(L.RAX, wide ? 8 : 4, BigInt.asUintN(wide ? 64 : 32, result));
}

/** CPUID, MSRs, time stamps, random numbers, and the rest that belongs to the machine. */
export const machineRows: readonly Instruction[] = [
	defineSystem("cpuid", "0F A2", "", identify),
	defineSystem("rdmsr", "0F 32", "", (cpu) => {
		requireSupervisor(cpu);
		setPair(cpu, readMsr(cpu, cpu.gpr32(L.RCX)) ?? cpu.raise(GP, 0));
	}),
	defineSystem("wrmsr", "0F 30", "", (cpu) => {
		requireSupervisor(cpu);
		if (!writeMsr(cpu, cpu.gpr32(L.RCX), pair(cpu))) cpu.raise(GP, 0);
	}),
	defineSystem("rdtsc", "0F 31", "", (cpu) => {
		checkTimeStamp(cpu);
		setPair(cpu, cpu.core.readTsc());
	}),
	defineSystem("rdtscp", "0F 01 /7 mod=3 rm=1", "", (cpu) => {
		if (!cpu.cpuid.has("rdtscp")) cpu.raise(UD);
		checkTimeStamp(cpu);
		setPair(cpu, cpu.core.readTsc());
		cpu.setGpr(L.RCX, 4, cpu.get32(MSR_TSC_AUX));
	}),
	defineSystem("rdpmc", "0F 33", "", (cpu) => cpu.raise(GP, 0)),
	defineSystem("rdpid", "F3 0F C7 /7 mod=3", "Ry", (cpu, insn) => {
		if (!cpu.cpuid.has("rdpid")) cpu.raise(UD);
		cpu.setGpr(insn.rm, cpu.code64 ? 8 : 4, cpu.get32(MSR_TSC_AUX));
	}),
	defineSystem("rdrand", "NP 0F C7 /6 mod=3", "Rv", random("rdrand")),
	defineSystem("rdrand", "66 0F C7 /6 mod=3", "Rv", random("rdrand")),
	defineSystem("rdseed", "NP 0F C7 /7 mod=3", "Rv", random("rdseed")),
	defineSystem("rdseed", "66 0F C7 /7 mod=3", "Rv", random("rdseed")),
	defineSystem("pause", "F3 90", "", (cpu) => cpu.core.pause()),
	defineSystem("hlt", "F4", "", (cpu) => {
		requireSupervisor(cpu);
		cpu.core.halt();
	}),
	defineSystem(
		"swapgs",
		"0F 01 /7 mod=3 rm=0",
		"",
		(cpu) => {
			requireSupervisor(cpu);
			const base = cpu.segmentBase(L.GS);
			setSegmentBase(cpu, L.GS, cpu.get64(MSR_KERNEL_GS_BASE));
			cpu.set64(MSR_KERNEL_GS_BASE, base);
		},
		{ attributes: ["o64"] },
	),
	defineSystem("rdfsbase", "F3 0F AE /0 mod=3", "Ry", segmentBaseAccess(L.FS, false), { attributes: ["o64"] }),
	defineSystem("rdgsbase", "F3 0F AE /1 mod=3", "Ry", segmentBaseAccess(L.GS, false), { attributes: ["o64"] }),
	defineSystem("wrfsbase", "F3 0F AE /2 mod=3", "Ry", segmentBaseAccess(L.FS, true), { attributes: ["o64"] }),
	defineSystem("wrgsbase", "F3 0F AE /3 mod=3", "Ry", segmentBaseAccess(L.GS, true), { attributes: ["o64"] }),
	defineSystem("xgetbv", "NP 0F 01 /2 mod=3 rm=0", "", (cpu) => {
		checkXsaveEnabled(cpu);
		const index = cpu.gpr32(L.RCX);
		const xcr0 = cpu.get64(L.XCR0);
		if (index === 0) setPair(cpu, xcr0);
		else if (index === 1 && cpu.cpuid.has("xgetbv1")) setPair(cpu, xcr0 & BigInt(componentsInUse(cpu)));
		else cpu.raise(GP, 0);
	}),
	defineSystem("xsetbv", "NP 0F 01 /2 mod=3 rm=1", "", (cpu) => {
		checkXsaveEnabled(cpu);
		requireSupervisor(cpu);
		const value = pair(cpu);
		if (cpu.gpr32(L.RCX) !== 0 || (value & 1n) === 0n || (value & ~BigInt(COMPONENTS)) !== 0n) cpu.raise(GP, 0);
		cpu.set64(L.XCR0, value);
	}),
	defineSystem("vmcall", "NP 0F 01 /0 mod=3 rm=1", "", hypercall),
	defineSystem("vmmcall", "NP 0F 01 /3 mod=3 rm=1", "", hypercall),
];
