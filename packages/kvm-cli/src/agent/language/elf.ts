import { compile } from "./compiler.ts";

const CODE_ADDRESS = 0x40_0000;
const MEMORY_ADDRESS = 0x80_0000;
const FILE_HEADER = 64;
const PROGRAM_HEADER = 56;
const SEGMENTS = 3;
const PAGE = 4096n;

const PT_LOAD = 1;
const PT_GNU_STACK = 0x6474e551;
const EXECUTE = 1;
const WRITE = 2;
const READ = 4;

/** Where the code of {@link linkExecutable}'s files begins. */
export const ELF_CODE_OFFSET: number = FILE_HEADER + SEGMENTS * PROGRAM_HEADER;

/**
 * Compiles a program into a static ELF executable (System V ABI, x86-64): one segment to read and execute, one of zeroed
 * memory to write, none for both.
 *
 * @throws CompileError
 */
export function linkExecutable(source: string): Uint8Array {
	const { code, memoryBytes } = compile(source, {
		codeAddress: CODE_ADDRESS + ELF_CODE_OFFSET,
		memoryAddress: MEMORY_ADDRESS,
	});
	const file = new Uint8Array(ELF_CODE_OFFSET + code.length);
	const view = new DataView(file.buffer);
	file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	view.setUint16(16, 2, true); // ET_EXEC
	view.setUint16(18, 62, true); // EM_X86_64
	view.setUint32(20, 1, true);
	view.setBigUint64(24, BigInt(CODE_ADDRESS + ELF_CODE_OFFSET), true);
	view.setBigUint64(32, BigInt(FILE_HEADER), true);
	view.setUint16(52, FILE_HEADER, true);
	view.setUint16(54, PROGRAM_HEADER, true);
	view.setUint16(56, SEGMENTS, true);
	view.setUint16(58, 64, true);
	const segment = (
		index: number,
		type: number,
		flags: number,
		address: number,
		fileBytes: number,
		memory: number,
	): void => {
		const at = FILE_HEADER + index * PROGRAM_HEADER;
		view.setUint32(at, type, true);
		view.setUint32(at + 4, flags, true);
		view.setBigUint64(at + 16, BigInt(address), true);
		view.setBigUint64(at + 24, BigInt(address), true);
		view.setBigUint64(at + 32, BigInt(fileBytes), true);
		view.setBigUint64(at + 40, BigInt(memory), true);
		view.setBigUint64(at + 48, PAGE, true);
	};
	segment(0, PT_LOAD, READ | EXECUTE, CODE_ADDRESS, file.length, file.length);
	segment(1, PT_LOAD, READ | WRITE, MEMORY_ADDRESS, 0, memoryBytes);
	segment(2, PT_GNU_STACK, READ | WRITE, 0, 0, 0);
	file.set(code, ELF_CODE_OFFSET);
	return file;
}
