import type { DebugPoint, GuestDebug } from "../kvm/types.ts";

const PAGE = 4096n;

/** A place where a debugger outside the guest stops it. */
export interface ArmedPoint {
	readonly point: DebugPoint;
	/** Its bit of DR6, for those that `hardwareBreakpoints` asked for; else 0. */
	readonly status: number;
}

/** What `setGuestDebug` asked of a vCPU, in the form in which the execution core asks back. */
export class DebugPoints {
	readonly singleStep: boolean;
	/** INT3 stops the guest. */
	readonly software: boolean;
	readonly blockInterrupts: boolean;
	/** The data point that the last access touched. */
	touched: ArmedPoint | undefined;
	readonly data: readonly ArmedPoint[];
	private readonly code = new Map<bigint, ArmedPoint>();
	private readonly codePages = new Set<bigint>();

	constructor(debug: GuestDebug) {
		this.singleStep = debug.singleStep === true;
		this.software = debug.softwareBreakpoints === true;
		this.blockInterrupts = debug.blockInterrupts === true;
		const armed: ArmedPoint[] = [
			...(debug.hardwareBreakpoints ?? []).map(({ address, kind, length }, i) => ({
				point: { address: kind === "execute" ? address : address & ~BigInt(length - 1), kind, length },
				status: 1 << i,
			})),
			...(debug.points ?? []).map((point) => ({ point, status: 0 })),
		];
		this.data = armed.filter(({ point }) => point.kind !== "execute");
		for (const one of armed) {
			if (one.point.kind !== "execute") continue;
			const address = BigInt.asUintN(64, one.point.address);
			if (!this.code.has(address)) this.code.set(address, one);
			this.codePages.add(address & -PAGE);
		}
	}

	/** Whether any execution point lies in the page of a linear address: its code is executed step by step. */
	stepsThrough(linear: bigint): boolean {
		return this.codePages.size > 0 && this.codePages.has(linear & -PAGE);
	}

	executionAt(linear: bigint): ArmedPoint | undefined {
		return this.code.get(linear);
	}

	/** Notes the data point that an access touches, if any. */
	touch(linear: bigint, size: number, write: boolean): boolean {
		for (const one of this.data) {
			const { address, kind, length } = one.point;
			if (kind === (write ? "read" : "write")) continue;
			if (linear < address + BigInt(length) && address < linear + BigInt(size)) {
				this.touched ??= one;
				return true;
			}
		}
		return false;
	}
}
