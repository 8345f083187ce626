const BASE = 0x100000;

/** A multiboot kernel of a few instructions, which runs in flat 32-bit protected mode. */
export function flatGuest(...code: number[]): Uint8Array {
	const entry = BASE + 32;
	const file = new Uint8Array(32 + code.length);
	const view = new DataView(file.buffer);
	const flags = 1 << 16;
	[0x1badb002, flags, -(0x1badb002 + flags) >>> 0, BASE, BASE, 0, 0, entry].forEach((word, i) => {
		view.setUint32(i * 4, word, true);
	});
	file.set(code, 32);
	return file;
}

/** Prints text on COM1. */
export function printing(text: string): number[] {
	return [0x66, 0xba, 0xf8, 0x03, ...[...text].flatMap((c) => [0xb0, c.charCodeAt(0), 0xee])];
}

export const FLAT = {
	/** mov al, code; out 0f4h, al */
	debugExit: (code: number): number[] => [0xb0, code, 0xe6, 0xf4],
	/** int3 with an empty IDT */
	tripleFault: [0xcc],
	/** jmp to itself */
	spin: [0xeb, 0xfe],
	/** cli; hlt */
	halt: [0xfa, 0xf4],
	/** mov dx, 604h; mov ax, 3400h; out dx, ax */
	powerOff: [0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef],
	/**
	 * Echoes what it reads from COM1 by polling, until "q", then powers off:
	 * next: mov dx, 3fdh; in al, dx; test al, 1; jz next; mov dl, 0f8h; in al, dx; cmp al, "q"; je done; out dx, al; jmp next
	 */
	echo: [
		0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0xb2, 0xf8, 0xec, 0x3c, 0x71, 0x74, 0x03, 0xee, 0xeb, 0xed,
	],
} as const;
