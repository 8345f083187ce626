/** What a stop reply says. Threads are numbered from 1. */
export type GdbStop =
	| { readonly kind: "signal"; readonly thread: number; readonly signal: number; readonly because?: StopCause }
	/** The guest is gone. */
	| { readonly kind: "exited"; readonly status: number };

/** Why the guest stopped, beyond the signal. */
export type StopCause =
	| { readonly kind: "swbreak" | "hwbreak" }
	| { readonly kind: "watch" | "rwatch" | "awatch"; readonly address: bigint }
	/** Reverse execution came to the first instant that is recorded, or forward execution to the last. */
	| { readonly kind: "replaylog"; readonly end: "begin" | "end" };

/** `Z` packets' types. */
export type GdbPoint = "software" | "hardware" | "write" | "read" | "access";

/** What threads are to do; those not named stand still. */
export interface GdbResume {
	/** Threads to run. */
	readonly run: readonly number[];
	/** One that executes an instruction. */
	readonly step?: number;
	/** Steps on while the program counter is from `start` to below `end`. */
	readonly range?: { readonly start: bigint; readonly end: bigint };
}

/** What the protocol works on. Methods throw what `Error` they like: gdb is told its message. */
export interface GdbTarget {
	/** 32 or 64: the description gdb is given. */
	readonly bits: 32 | 64;
	readonly threads: readonly number[];
	describeThread(thread: number): string;
	/** All registers of the description, by number; undefined where one cannot be had. */
	readRegisters(thread: number): readonly (Uint8Array | undefined)[];
	/** @returns false where a register cannot be written */
	writeRegisters(thread: number, values: readonly (readonly [number: number, value: Uint8Array])[]): boolean;
	/** As many bytes as can be had. */
	readMemory(thread: number, address: bigint, length: number): Uint8Array;
	writeMemory(thread: number, address: bigint, bytes: Uint8Array): void;
	addPoint(kind: GdbPoint, address: bigint, length: number): void;
	removePoint(kind: GdbPoint, address: bigint, length: number): void;
	/** Moves a thread's program counter. */
	jump(thread: number, address: bigint): void;
	resume(resume: GdbResume): Promise<GdbStop>;
	/** Whether `reverse` works. */
	readonly reversible: boolean;
	reverse(thread: number, step: boolean): Promise<GdbStop>;
	/** Ends `resume` and `reverse` with SIGINT. */
	interrupt(): void;
	/** The memory map's XML. */
	memoryMap(): string;
	monitor(command: string): Promise<string>;
	/** The guest runs on, unwatched. */
	detach(): void;
	kill(): void;
}
