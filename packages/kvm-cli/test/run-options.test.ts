import { describe, expect, it } from "vitest";
import { parseRunOptions, type RunFlags } from "../src/commands/run-options.ts";

function parse(flags: Partial<RunFlags>, command: string[] = [], image?: string) {
	return parseRunOptions(image, command, {
		publish: [],
		expose: [],
		allow: [],
		deny: [],
		secret: [],
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
				cpus: "2",
				disk: ["a.img", "b,c.img,ro", "d.img,overlay", "e.img,overlay=f,g"],
				timeout: "1.5",
				device: ["isa-debug-exit,iobase=0xf4,iosize=0x04", "pc-testdev"],
			}),
		).toMatchObject({
			kernel: "F",
			memoryMib: 512,
			cpus: 2,
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
		["--cpus 9", { cpus: "9" }],
		["--engine fast", { engine: "fast" }],
		["--fallback guess", { fallback: "guess" }],
		["--timeout 0", { timeout: "0" }],
		["--timeout soon", { timeout: "soon" }],
		["--disk ", { disk: [",ro"] }],
		["--env 1=2", { env: ["1=2"] }],
		["--env", { env: ["NOVALUE"] }],
		["--device isa-debug-exit,iobase=0x10000", { device: ["isa-debug-exit,iobase=0x10000"] }],
		["--net nonsense", { net: "nonsense" }],
		["--publish 80", { publish: ["80"] }],
		["--publish 80:0", { publish: ["80:0"] }],
		["--publish without a network", { net: "none", publish: ["8080:80"] }],
		["--expose x", { expose: ["x"] }],
		["--allow with a bad port", { allow: ["example.org:99999"] }],
		["--secret without a host", { secret: ["TOKEN=value"] }],
		["--secret without a value", { secret: ["TOKEN@example.org"] }],
		["--net-rate 0", { netRate: "0" }],
		["--address without a link", { address: "10.0.0.2/24" }],
		["--address for another kernel", { kernel: "k", net: "tap:x", address: "10.0.0.2/24" }],
		["--secret for another kernel", { kernel: "k", secret: ["TOKEN=value@example.org"] }],
		["--kernel and --firmware", { kernel: "a", firmware: "b" }],
		["--initrd", { firmware: "a", initrd: "b" }],
	])("refuses %s as wrong usage", (_, flags) => {
		expect(() => parse(flags)).toThrow(expect.objectContaining({ name: "CliError", exitCode: 2 }));
	});

	it.each<[string, Partial<RunFlags>]>([["--device e1000", { device: ["e1000"] }]])(
		"says that %s is not supported",
		(_, flags) => {
			expect(() => parse(flags)).toThrow(
				expect.objectContaining({ name: "CliError", exitCode: 3, code: "UNSUPPORTED" }),
			);
		},
	);

	it("reads shared folders", () => {
		expect(parse({ share: ["/a:b", "c:d:/e:ro"] }).mounts).toEqual([
			{ host: "/a", tag: "b", guest: "/mnt/b", readonly: false },
			{ host: "c:d", tag: "/e", guest: "/e", readonly: true },
		]);
		expect(() => parse({ share: ["/a"] })).toThrow(/expected DIR:TAG/);
		expect(() => parse({ share: ["/a:../b"] })).toThrow(/expected DIR:TAG/);
	});

	it("reads a network", () => {
		expect(parse({}).network).toEqual({ kind: "user", audit: undefined, network: expect.anything() });
		expect(parse({ net: "none" }).network).toEqual({ kind: "none" });
		expect(parse({ kernel: "k" }).network).toEqual({ kind: "none" });
		expect(parse({ device: ["pc-testdev"] }).network).toEqual({ kind: "none" });
		expect(parse({ kernel: "k", publish: ["8080:80"] }).network).toMatchObject({ kind: "user" });
		expect(parse({ net: "tap:x", address: "192.168.7.2/24" }).network).toEqual({
			kind: "link",
			network: { link: "tap:x", address: "192.168.7.2/24" },
		});
		expect(
			parse({
				publish: ["8080:80", "[::1]:0:53/udp"],
				expose: ["8000", "9000:[::1]:9001"],
				allow: ["example.org:443"],
				deny: ["10.0.0.0/8"],
				secret: ["TOKEN=a=b@c@api.example.org,*.example.net"],
				audit: "log",
				netRate: "100",
			}).network,
		).toEqual({
			kind: "user",
			audit: "log",
			network: {
				publish: [
					{ hostPort: 8080, guestPort: 80, protocol: "tcp" },
					{ hostAddress: "::1", hostPort: 0, guestPort: 53, protocol: "udp" },
				],
				expose: [
					{ port: 8000, hostPort: 8000 },
					{ port: 9000, address: "::1", hostPort: 9001 },
				],
				allow: ["example.org:443"],
				deny: ["10.0.0.0/8"],
				secrets: [{ name: "TOKEN", value: "a=b@c", hosts: ["api.example.org", "*.example.net"] }],
				limits: { bytesPerSecondIn: 102_400, bytesPerSecondOut: 102_400 },
			},
		});
	});

	it("refuses a command or an environment for a kernel of the user's own", () => {
		expect(() => parse({ kernel: "k" }, ["ls"])).toThrow(expect.objectContaining({ exitCode: 2 }));
		expect(() => parse({ kernel: "k", env: ["A=b"] })).toThrow(expect.objectContaining({ exitCode: 2 }));
	});
});
