import type { Cpu } from "./cpu/cpu.ts";
import type { DecodedInsn } from "./cpu/system-operation.ts";
import type { SystemHandler } from "./emit/plan.ts";
import { UOP_BASE, UOP_DISP, UOP_FLAGS, UOP_IMM, UOP_INDEX, UOP_REG } from "./emit/uop.ts";

/** A micro-op as a system operation sees it. One object, pointed at one micro-op after the other. */
export class SystemInsn implements DecodedInsn {
	operandSize: 1 | 2 | 4 | 8 = 4;
	addressSize: 2 | 4 | 8 = 8;
	isMemory = false;
	segment = 0;
	reg = 0;
	rm = 0;
	regOffset = 0;
	rmOffset = 0;
	immediate = 0;
	displacement = 0;
	repeat: 0 | 0xf2 | 0xf3 = 0;
	private readonly cpu: Cpu;
	private readonly u8: Uint8Array;
	private readonly i32: Int32Array;
	private base = 0;
	private index = 0;
	private scale = 0;

	constructor(cpu: Cpu, buffer: ArrayBufferLike) {
		this.cpu = cpu;
		this.u8 = new Uint8Array(buffer);
		this.i32 = new Int32Array(buffer);
	}

	/** Points this at the micro-op at `pc`. */
	load(pc: number, handler: SystemHandler): void {
		const flags = this.u8[pc + UOP_FLAGS]!;
		const size = flags >> 5;
		this.operandSize = handler.operandSize;
		this.isMemory = handler.isMemory;
		this.repeat = handler.repeat;
		this.addressSize = size === 2 ? 8 : size === 1 ? 4 : 2;
		this.segment = (flags >> 2) & 7;
		this.scale = flags & 3;
		this.base = this.u8[pc + UOP_BASE]!;
		this.index = this.u8[pc + UOP_INDEX]!;
		this.regOffset = this.u8[pc + UOP_REG]!;
		this.rmOffset = this.base;
		this.reg = handler.generalReg ? this.regOffset >> 3 : this.regOffset;
		this.rm = handler.generalRm ? this.base >> 3 : this.base;
		this.displacement = this.i32[(pc + UOP_DISP) >>> 2]!;
		this.immediate = this.i32[(pc + UOP_IMM) >>> 2]!;
	}

	offset(): bigint {
		const { cpu } = this;
		const sum = cpu.get64(this.base) + (cpu.get64(this.index) << BigInt(this.scale)) + BigInt(this.displacement);
		return BigInt.asUintN(this.addressSize * 8, sum);
	}
}
