/**
 * The register loop, in 32-bit code, on v86, in a process of its own: prints million guest instructions per second, or
 * ends with 3 where v86 is not installed (`npm install --no-save v86` in the folder the bench runs from).
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

let entry;
try {
	entry = createRequire(join(process.cwd(), "package.json")).resolve("v86");
} catch {
	process.exit(3);
}
const { V86 } = await import(pathToFileURL(entry).href);

const LOAD = 0x10_0000;
const ENTRY = 32;
const body = [
	[0x01, 0xd8], // add eax, ebx
	[0x31, 0xc2], // xor edx, eax
	[0x43], // inc ebx
	[0x29, 0xd6], // sub esi, edx
	[0x21, 0xf7], // and edi, esi
	[0x01, 0xfd], // add ebp, edi
	[0x09, 0xfd], // or ebp, edi
	[0xc1, 0xc5, 0x05], // rol ebp, 5
	[0x49], // dec ecx
].flat();
const image = new Uint8Array(4096);
const header = new DataView(image.buffer);
const FLAGS = 0x1_0000;
const MAGIC = 0x1bad_b002;
[MAGIC, FLAGS, -(MAGIC + FLAGS), LOAD, LOAD, LOAD + 4096, LOAD + 4096, LOAD + ENTRY].forEach((word, i) => {
	header.setUint32(i * 4, word >>> 0, true);
});
// jnz to the start; when ECX has run out, jmp there too.
image.set([...body, 0x75, 256 - body.length - 2, 0xeb, 256 - body.length - 4], ENTRY);

const emulator = new V86({
	wasm_path: join(dirname(entry), "v86.wasm"),
	memory_size: 2 ** 24,
	multiboot: { buffer: image.buffer },
	autostart: true,
	disable_speaker: true,
	log_level: 0,
});
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
await new Promise((resolve) => emulator.add_listener("emulator-started", resolve));
await wait(1000);
const before = emulator.get_instruction_counter();
const from = performance.now();
await wait(1000);
const executed = (emulator.get_instruction_counter() - before) >>> 0;
console.log(executed / (performance.now() - from) / 1000);
process.exit(0);
