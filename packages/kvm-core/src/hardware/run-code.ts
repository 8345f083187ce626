/** CALLs that are left behind; some processors keep 16 return addresses, others 32. */
const CALLS = 16;

/** The four bytes of a little-endian number. */
const dword = (value: number): number[] => [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 0xff);

/**
 * KVM_RUN of one vCPU as machine code, `void (void)`, that puts 0 or the negative errno where it is told: to hand numbers
 * to and fro costs more than to keep them. It is what ioctl() of the C library does, but for what comes behind the system
 * call: CALLs that nothing returns from. Kernels that guard their own returns
 * leave the processor's stack of return addresses full of theirs behind a long system call, and the first RET then
 * fetches from an address that cannot be reached: on AMD processors that costs a tenth of an exit. With addresses of this
 * page on the stack it is an ordinary misprediction.
 *
 * @param fd - the vCPU's file descriptor
 * @param answer - where 32 bits of memory take the answer
 */
export function runCode(fd: number, answer: bigint): Uint8Array {
	const calls = Array.from({ length: CALLS }, () => [
		...[0xe8, 1, 0, 0, 0], // call past the trap
		0xcc, // int3: what a processor speculates into
	]).flat();
	return Uint8Array.of(
		...[0xf3, 0x0f, 0x1e, 0xfa], // endbr64
		...[0xb8, 16, 0, 0, 0], // mov eax, SYS_ioctl
		...[0xbf, ...dword(fd)], // mov edi, fd
		...[0xbe, 0x80, 0xae, 0, 0], // mov esi, KVM_RUN
		...[0x31, 0xd2], // xor edx, edx
		...[0x0f, 0x05], // syscall
		...[0x48, 0xb9, ...dword(Number(answer & 0xffff_ffffn)), ...dword(Number(answer >> 32n))], // mov rcx, answer
		...[0x89, 0x01], // mov [rcx], eax
		...calls,
		...[0x48, 0x81, 0xc4, CALLS * 8, 0, 0, 0], // add rsp, their return addresses
		// A shadow stack, where the process has one, gives them up too.
		...[0x31, 0xc9], // xor ecx, ecx
		...[0xf3, 0x48, 0x0f, 0x1e, 0xc9], // rdsspq rcx
		...[0x48, 0x85, 0xc9], // test rcx, rcx
		...[0x74, 10], // jz to the end
		...[0xb9, CALLS, 0, 0, 0], // mov ecx, CALLS
		...[0xf3, 0x48, 0x0f, 0xae, 0xe9], // incsspq rcx
		0xc3, // ret
	);
}
