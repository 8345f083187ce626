/** Where the program is loaded and entered. */
const BASE = 0x10_0000;
const COM1 = 0x3f8;
/** ACPI's PM1a control block, and SLP_TYP 5 with SLP_EN: power off. */
const PM1A_CONTROL = 0x604;
const POWER_OFF = 0x3400;
const PRIME_LIMIT = 100_000;

/** Bytes with labels: as much assembler as one program of a hundred instructions needs. */
class Assembler {
	readonly #bytes: number[] = [];
	readonly #labels = new Map<string, number>();
	readonly #fixups: { readonly at: number; readonly label: string; readonly kind: "rel8" | "rel32" | "abs32" }[] = [];

	code(...bytes: number[]): this {
		this.#bytes.push(...bytes);
		return this;
	}

	imm32(value: number): this {
		return this.code(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
	}

	label(name: string): this {
		this.#labels.set(name, this.#bytes.length);
		return this;
	}

	text(text: string): this {
		return this.code(...new TextEncoder().encode(text), 0);
	}

	/** A short jump by its opcode. */
	jump(opcode: number, label: string): this {
		this.code(opcode);
		return this.#reference(label, "rel8", 1);
	}

	call(label: string): this {
		this.code(0xe8);
		return this.#reference(label, "rel32", 4);
	}

	/** The address of a label, as an operand of four bytes. */
	address(label: string): this {
		return this.#reference(label, "abs32", 4);
	}

	#reference(label: string, kind: "rel8" | "rel32" | "abs32", size: number): this {
		this.#fixups.push({ at: this.#bytes.length, label, kind });
		return this.code(...new Array<number>(size).fill(0));
	}

	link(base: number): Uint8Array {
		const bytes = Uint8Array.from(this.#bytes);
		const view = new DataView(bytes.buffer);
		for (const { at, label, kind } of this.#fixups) {
			const target = this.#labels.get(label);
			if (target === undefined) throw new Error(`no label ${label}`);
			if (kind === "abs32") view.setUint32(at, base + target, true);
			else if (kind === "rel32") view.setInt32(at, target - (at + 4), true);
			else if (Math.abs(target - (at + 1)) > 127) throw new Error(`label ${label} is out of reach`);
			else view.setInt8(at, target - (at + 1));
		}
		return bytes;
	}
}

// biome-ignore format: one instruction a line
function program(): Uint8Array {
	return new Assembler()
		.code(0xbe).address("hello") // mov esi, hello
		.call("print")
		.code(0xbd).imm32(0x8000_0002) // mov ebp, 80000002h: the first leaf of the processor's name
		.label("brand")
		.code(0x89, 0xe8) // mov eax, ebp
		.code(0x0f, 0xa2) // cpuid
		.code(0xbf).address("buffer") // mov edi, buffer
		.code(0x89, 0x07) // mov [rdi], eax
		.code(0x89, 0x5f, 0x04) // mov [rdi + 4], ebx
		.code(0x89, 0x4f, 0x08) // mov [rdi + 8], ecx
		.code(0x89, 0x57, 0x0c) // mov [rdi + 12], edx
		.code(0x89, 0xfe) // mov esi, edi
		.call("print")
		.code(0xff, 0xc5) // inc ebp
		.code(0x81, 0xfd).imm32(0x8000_0005) // cmp ebp, 80000005h
		.jump(0x75, "brand") // jne brand
		.code(0xbe).address("counting") // mov esi, counting
		.call("print")
		.code(0x31, 0xed) // xor ebp, ebp
		.code(0xb9).imm32(2) // mov ecx, 2
		.label("next")
		.code(0xbb).imm32(2) // mov ebx, 2
		.label("trial")
		.code(0x89, 0xd8) // mov eax, ebx
		.code(0xf7, 0xe3) // mul ebx
		.code(0x39, 0xc8) // cmp eax, ecx
		.jump(0x77, "prime") // ja prime
		.code(0x89, 0xc8) // mov eax, ecx
		.code(0x31, 0xd2) // xor edx, edx
		.code(0xf7, 0xf3) // div ebx
		.code(0x85, 0xd2) // test edx, edx
		.jump(0x74, "composite") // jz composite
		.code(0xff, 0xc3) // inc ebx
		.jump(0xeb, "trial") // jmp trial
		.label("prime")
		.code(0xff, 0xc5) // inc ebp
		.label("composite")
		.code(0xff, 0xc1) // inc ecx
		.code(0x81, 0xf9).imm32(PRIME_LIMIT) // cmp ecx, limit
		.jump(0x72, "next") // jb next
		.code(0xbf).address("buffer") // mov edi, buffer
		.code(0x89, 0xe8) // mov eax, ebp
		.code(0xbb).imm32(10) // mov ebx, 10
		.label("digit")
		.code(0x31, 0xd2) // xor edx, edx
		.code(0xf7, 0xf3) // div ebx
		.code(0x80, 0xc2, 0x30) // add dl, "0"
		.code(0xff, 0xcf) // dec edi
		.code(0x88, 0x17) // mov [rdi], dl
		.code(0x85, 0xc0) // test eax, eax
		.jump(0x75, "digit") // jnz digit
		.code(0xc6, 0x04, 0x25).address("buffer").code(0) // mov byte [buffer], 0
		.code(0x89, 0xfe) // mov esi, edi
		.call("print")
		.code(0xbe).address("newline") // mov esi, newline
		.call("print")
		.code(0x66, 0xba, PM1A_CONTROL & 0xff, PM1A_CONTROL >> 8) // mov dx, PM1a control
		.code(0x66, 0xb8, POWER_OFF & 0xff, POWER_OFF >> 8) // mov ax, power off
		.code(0x66, 0xef) // out dx, ax
		.label("halt")
		.code(0xf4) // hlt
		.jump(0xeb, "halt") // jmp halt
		.label("print")
		.code(0x66, 0xba, COM1 & 0xff, COM1 >> 8) // mov dx, COM1
		.label("character")
		.code(0xac) // lodsb
		.code(0x84, 0xc0) // test al, al
		.jump(0x74, "printed") // jz printed
		.code(0xee) // out dx, al
		.jump(0xeb, "character") // jmp character
		.label("printed")
		.code(0xc3) // ret
		.label("hello").text("Hello from 64-bit mode.\nProcessor: ")
		.label("counting").text(`\nPrimes below ${PRIME_LIMIT}: `)
		.label("newline").text("\n")
		.code(...new Array<number>(16).fill(0))
		.label("buffer")
		.code(...new Array<number>(17).fill(0))
		.link(BASE);
}

/**
 * A guest for machines that have no kernel at hand: a 64-bit ELF that names the processor it runs on, counts primes, and
 * powers off. Nothing in it is known beforehand: the guest computes what it prints.
 */
export function builtinGuest(): Uint8Array {
	const text = program();
	const headers = 64 + 56;
	const file = new Uint8Array(headers + text.length);
	const view = new DataView(file.buffer);
	file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	view.setUint16(16, 2, true);
	view.setUint16(18, 62, true);
	view.setUint32(20, 1, true);
	view.setBigUint64(24, BigInt(BASE), true);
	view.setBigUint64(32, 64n, true);
	view.setUint16(52, 64, true);
	view.setUint16(54, 56, true);
	view.setUint16(56, 1, true);
	view.setUint32(64, 1, true);
	view.setUint32(68, 7, true);
	view.setBigUint64(72, BigInt(headers), true);
	view.setBigUint64(80, BigInt(BASE), true);
	view.setBigUint64(88, BigInt(BASE), true);
	view.setBigUint64(96, BigInt(text.length), true);
	view.setBigUint64(104, BigInt(text.length), true);
	file.set(text, headers);
	return file;
}
