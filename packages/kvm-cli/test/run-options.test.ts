import { describe, expect, it } from "vitest";
import { parseRunOptions, type RunFlags } from "../src/commands/run-options.ts";

function parse(flags: Partial<RunFlags>, command: string[] = [], image?: string) {
	return parseRunOptions(image, command, {
		publish: [],
		allow: [],
		deny: [],
		disk: [],
		packages: [],
		share: [],
		env: [],
		device: [],
		...flags,
	});
}

describe("parseRunOptions", () => {
	it("takes what the contract lists", () => {
		expect(
			parse({
				kernel: "F",
				memory: "512",
				disk: ["a.img", "b,c.img,ro", "d.img,overlay", "e.img,overlay=f,g"],
				timeout: "1.5",
				device: ["isa-debug-exit,iobase=0xf4,iosize=0x04", "pc-testdev"],
			}),
		).toMatchObject({
			kernel: "F",
			memoryMib: 512,
			disks: [
				{ path: "a.img", readonly: false },
				{ path: "b,c.img", readonly: true },
				{ path: "d.img", readonly: false, overlay: "memory" },
				{ path: "e.img", readonly: false, overlay: { path: "f,g" } },
			],
			timeoutMs: 1500,
			debugExitPort: 0xf4,
			testDevice: true,
			command: undefined,
		});
		expect(parse({ env: ["A=b=c", "EMPTY="] }, ["sh", "-c", "x"])).toMatchObject({
			environment: [
				["A", "b=c"],
				["EMPTY", ""],
			],
			command: ["sh", "-c", "x"],
		});
	});

	it.each<[string, Partial<RunFlags>]>([
		["--memory 99999999", { memory: "99999999" }],
		["--memory -1", { memory: "-1" }],
		["--memory 12x", { memory: "12x" }],
		["--memory 1", { memory: "1" }],
		["--cpus zero", { cpus: "zero" }],
		["--engine fast", { engine: "fast" }],
		["--timeout 0", { timeout: "0" }],
		["--timeout soon", { timeout: "soon" }],
		["--disk ", { disk: [",ro"] }],
		["--env 1=2", { env: ["1=2"] }],
		["--env", { env: ["NOVALUE"] }],
		["--device isa-debug-exit,iobase=0x10000", { device: ["isa-debug-exit,iobase=0x10000"] }],
		["--kernel and --firmware", { kernel: "a", firmware: "b" }],
		["--initrd", { firmware: "a", initrd: "b" }],
	])("refuses %s as wrong usage", (_, flags) => {
		expect(() => parse(flags)).toThrow(expect.objectContaining({ name: "CliError", exitCode: 2 }));
	});

	it.each<[string, Partial<RunFlags>]>([
		["--net user", { net: "user" }],
		["--publish", { publish: ["8080:80"] }],
		["--allow", { allow: ["x"] }],
		["--deny", { deny: ["x"] }],
		["--share", { share: ["/x:t"] }],
		["--cpus 2", { cpus: "2" }],
		["--device e1000", { device: ["e1000"] }],
	])("says that %s is not supported", (_, flags) => {
		expect(() => parse(flags)).toThrow(expect.objectContaining({ name: "CliError", exitCode: 3, code: "UNSUPPORTED" }));
	});

	it("refuses a command or an environment for a kernel of the user's own", () => {
		expect(() => parse({ kernel: "k" }, ["ls"])).toThrow(expect.objectContaining({ exitCode: 2 }));
		expect(() => parse({ kernel: "k", env: ["A=b"] })).toThrow(expect.objectContaining({ exitCode: 2 }));
	});
});
