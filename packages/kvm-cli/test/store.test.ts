import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cacheFolder, checkImageName, type ImageManifest, ImageStore } from "../src/image/store.ts";

let root: string;
let store: ImageStore;
const never = new AbortController().signal;
const files = { kernel: Uint8Array.of(1, 2, 3), initrd: Uint8Array.of(4) };

beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), "xkvm-store-"));
	store = new ImageStore(root);
});
afterEach(() => rmSync(root, { recursive: true }));

function manifest(id: string, name = "default"): ImageManifest {
	return {
		schemaVersion: 1,
		id,
		name,
		architecture: "amd64",
		kernelRelease: "6.1",
		recipe: "r",
		packages: [],
		size: 4,
	};
}

describe("ImageStore", () => {
	it("finds an image by id and its newest by name", async () => {
		await store.commit(manifest("default-amd64-1"), files);
		await store.commit(manifest("default-amd64-2"), files);
		expect((await store.find("default"))?.id).toBe("default-amd64-2");
		expect((await store.find("default-amd64-1"))?.id).toBe("default-amd64-1");
		expect((await store.list()).map(({ id }) => id)).toEqual(["default-amd64-1", "default-amd64-2"]);
		expect(await store.find("../../etc")).toBeUndefined();
		expect(readdirSync(store.temporary)).toEqual([]);
	});

	it("does not take a folder without a whole manifest for an image", async () => {
		mkdirSync(join(store.images, "half"), { recursive: true });
		writeFileSync(join(store.images, "half", "vmlinuz"), "x");
		expect(await store.list()).toEqual([]);
		writeFileSync(join(store.images, "half", "image.json"), '{"schemaVersion":1,"id":"ha');
		expect(await store.find("half")).toBeUndefined();
	});

	it("removes an image and the name that pointed at it", async () => {
		const image = await store.commit(manifest("default-amd64-1"), files);
		await store.remove(image);
		expect(await store.find("default")).toBeUndefined();
		expect(existsSync(image.folder)).toBe(false);
		expect(readdirSync(store.names)).toEqual([]);
	});

	it("sweeps what dead processes left, and only that", async () => {
		const mine = await store.workFolder();
		mkdirSync(join(store.temporary, "999999999-x"));
		await store.sweep();
		expect(readdirSync(store.temporary).map((name) => join(store.temporary, name))).toEqual([mine]);
	});

	it("lets one builder in at a time, and is not stopped by a dead one's lock", async () => {
		writeFileSync(join(root, "lock"), "999999999\n");
		const order: string[] = [];
		const build = (name: string) =>
			store.exclusively(
				never,
				() => {},
				async () => {
					order.push(`${name} in`);
					await new Promise((resolve) => setTimeout(resolve, 20));
					order.push(`${name} out`);
				},
			);
		await Promise.all([build("a"), build("b")]);
		expect(order.map((line) => line.split(" ")[1])).toEqual(["in", "out", "in", "out"]);
		expect(existsSync(join(root, "lock"))).toBe(false);
	});

	it("gives up waiting when interrupted", async () => {
		writeFileSync(join(root, "lock"), `${process.pid}\n`);
		const controller = new AbortController();
		const pids: number[] = [];
		const waiting = store.exclusively(
			controller.signal,
			(pid) => {
				pids.push(pid);
				controller.abort(new Error("stop"));
			},
			async () => {},
		);
		await expect(waiting).rejects.toThrow("stop");
		expect(pids).toEqual([process.pid]);
		expect(existsSync(join(root, "lock"))).toBe(true);
	});
});

describe("cacheFolder", () => {
	it("follows XDG_CACHE_HOME when it is absolute, else HOME", () => {
		expect(cacheFolder({ XDG_CACHE_HOME: "/c", HOME: "/h" })).toBe("/c/xkvm");
		expect(cacheFolder({ XDG_CACHE_HOME: "relative", HOME: "/h" })).toBe("/h/.cache/xkvm");
	});
});

describe("checkImageName", () => {
	it.each(["", "..", "/x", "Upper", "a b", "x".repeat(65)])("refuses %j", (name) => {
		expect(() => checkImageName(name)).toThrow(expect.objectContaining({ exitCode: 2 }));
	});
});
