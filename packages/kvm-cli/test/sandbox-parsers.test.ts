import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writeCpio } from "../src/image/cpio.ts";
import { file, symlink } from "../src/image/tree.ts";
import { CONTROL, encodeControl, parseJson, readControl } from "../src/run/control-frames.ts";
import { addAgent, modulePaths, readInitrd } from "../src/sandbox/boot-archive.ts";
import { parseListing } from "../src/sandbox/files.ts";
import { signalName, signalNumber } from "../src/sandbox/signals.ts";

const MODULES = `kernel/a.ko:
kernel/b-c.ko: kernel/a.ko
kernel/d.ko: kernel/b-c.ko kernel/a.ko
`;
const BUSYBOX = Buffer.from("code\0more\0[\0[[\0cat\0ls\0sh\0\0data\0", "latin1");

describe("an initrd", () => {
	const archive = writeCpio([
		file("lib/modules/6.1/modules.dep", MODULES),
		file("bin/busybox", BUSYBOX),
		file("usr/bin/ls", "a better one"),
		symlink("bin/sh", "busybox"),
	]);

	it.each([
		["as it is", archive],
		["compressed", gzipSync(archive)],
	])("%s gives its modules with what they need, and busybox's names", (_, bytes) => {
		const { modules, applets } = readInitrd(bytes);
		expect(modulePaths(modules, ["d", "builtin"])).toEqual([
			"/lib/modules/6.1/kernel/a.ko",
			"/lib/modules/6.1/kernel/b-c.ko",
			"/lib/modules/6.1/kernel/d.ko",
		]);
		expect(modulePaths(modules, ["b_c", "a"])).toHaveLength(2);
		expect(applets).toEqual(["[", "[[", "cat"]);
	});

	it("gets the agent, which is found again behind it", () => {
		const contents = readInitrd(archive);
		const all = addAgent(archive, contents);
		expect(Buffer.from(all).includes("xkvm/agent")).toBe(true);
		expect(readInitrd(all).applets).toEqual([]);
	});

	it("has no names of busybox's where its folder is another's", () => {
		const merged = writeCpio([symlink("bin", "usr/bin"), file("usr/bin/busybox", BUSYBOX)]);
		expect(readInitrd(merged).applets).toEqual([]);
	});

	it("may be anything", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(archive.length), (noise, at) => {
				const damaged = archive.slice();
				damaged.set(noise.subarray(0, damaged.length - at), at);
				readInitrd(damaged);
				readInitrd(noise[0] === 0x1f ? noise.subarray(1) : noise);
			}),
			{ seed: 1, numRuns: 500 },
		);
	});
});

describe("a folder's listing", () => {
	function record(name: string, type: number): Buffer {
		const size = Math.ceil((20 + Buffer.byteLength(name)) / 8) * 8;
		const bytes = Buffer.alloc(size);
		bytes.writeUInt16LE(size, 16);
		bytes[18] = type;
		bytes.write(name, 19);
		return bytes;
	}

	it("leaves out what is no name in it", () => {
		const bytes = Buffer.concat([record(".", 4), record("..", 4), record("a/b", 8), record("ä", 8), record("l", 10)]);
		expect(parseListing(bytes)).toEqual([
			{ name: "ä", type: "file" },
			{ name: "l", type: "symlink" },
		]);
	});

	it("may be anything", () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
				for (const { name } of parseListing(bytes)) expect(/^(|\.|\.\.)$|\//.test(name)).toBe(false);
			}),
			{ seed: 2, numRuns: 1000 },
		);
	});
});

describe("control messages", () => {
	async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
		for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
	}

	it("come through however they are cut", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 10 }),
				fc.integer({ min: 1, max: 30 }),
				async (payloads, size) => {
					const all = Buffer.concat(payloads.map((payload) => encodeControl(CONTROL.INPUT, payload)));
					const got: Buffer[] = [];
					for await (const { type, payload } of readControl(pieces(all, size))) {
						expect(type).toBe(CONTROL.INPUT);
						got.push(Buffer.from(payload));
					}
					expect(got).toEqual(payloads.map((payload) => Buffer.from(payload)));
				},
			),
			{ seed: 4, numRuns: 200 },
		);
		for await (const { payload } of readControl(pieces(Buffer.from(encodeControl(1, { op: "info" })), 3))) {
			expect(parseJson(payload)).toEqual({ op: "info" });
		}
	});

	it("have a longest", async () => {
		const reading = async (): Promise<void> => {
			for await (const _ of readControl(pieces(Buffer.from([255, 255, 255, 255, 1]), 5)));
		};
		await expect(reading()).rejects.toThrow(/a control message of/);
	});
});

it("signals have Linux's numbers", () => {
	expect([signalNumber("SIGHUP"), signalNumber("SIGKILL"), signalNumber("SIGCHLD"), signalNumber("SIGSYS")]).toEqual([
		1, 9, 17, 31,
	]);
	expect([signalNumber("SIGNOT"), signalNumber(0), signalNumber(65), signalNumber(34)]).toEqual([
		undefined,
		undefined,
		undefined,
		34,
	]);
	expect([signalName(15), signalName(40)]).toEqual(["SIGTERM", "SIG40"]);
});
