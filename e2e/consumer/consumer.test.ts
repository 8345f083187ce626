import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const binaries = join(root, "node_modules", ".bin");
const env = { ...process.env, PATH: `${binaries}:${process.env["PATH"]}`, npm_config_update_notifier: "false" };

interface PackageJson {
	name: string;
	version: string;
	dependencies?: Record<string, string>;
	optionalDependencies?: Record<string, string>;
	bin?: Record<string, string>;
	exports: Record<string, unknown>;
}

const folders = readdirSync(join(root, "packages"));
const manifests = folders.map(
	(folder): PackageJson => JSON.parse(readFileSync(join(root, "packages", folder, "package.json"), "utf8")),
);
/** Entry points by the names a consumer imports them by. */
const entries = manifests.flatMap(({ name, exports }) =>
	Object.keys(exports)
		.filter((path) => path !== "./package.json")
		.map((path) => name + path.slice(1)),
);

let home: string;
let consumer: string;

/** The folder a package's dependency is installed in here, so that nothing has to come over the network. */
function installedFolder(packageFolder: string, dependency: string): string {
	return realpathSync(join(root, "packages", packageFolder, "node_modules", dependency));
}

function run(script: string, ...flags: string[]): string {
	return execFileSync(process.execPath, [...flags, "-e", script], { cwd: consumer, env, encoding: "utf8" });
}

beforeAll(() => {
	home = mkdtempSync(join(tmpdir(), "ring0-consumer-"));
	consumer = join(home, "app");
	mkdirSync(consumer);
	const dependencies: Record<string, string> = {};
	const overrides: Record<string, string> = {};
	for (const [i, folder] of folders.entries()) {
		const { name, dependencies: own = {} } = manifests[i]!;
		const tarball = join(home, `${folder}.tgz`);
		execFileSync("pnpm", ["pack", "--out", tarball], { cwd: join(root, "packages", folder), env });
		dependencies[name] = `file:${tarball}`;
		for (const dependency of Object.keys(own)) {
			if (!dependency.startsWith("@x/")) overrides[dependency] = `file:${installedFolder(folder, dependency)}`;
		}
	}
	writeFileSync(
		join(consumer, "package.json"),
		JSON.stringify({ name: "app", private: true, type: "module", dependencies, overrides }),
	);
	execFileSync(
		"npm",
		["install", "--omit=optional", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"],
		{
			cwd: consumer,
			env,
			stdio: "pipe",
		},
	);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe("the packed packages, installed with npm", () => {
	it("hold no path of this repository and none of its own protocols", () => {
		for (const { name } of manifests) {
			const text = readFileSync(join(consumer, "node_modules", name, "package.json"), "utf8");
			expect(text).not.toMatch(/workspace:|catalog:|@x\/source/);
			const files = readdirSync(join(consumer, "node_modules", name));
			expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "dist", "package.json"]));
		}
	});

	it.each(entries)("%s is imported and required, with the same exports", (entry) => {
		const imported = run(
			`import * as m from ${JSON.stringify(entry)}; console.log(JSON.stringify(Object.keys(m)))`,
			"--input-type=module",
		);
		const required = run(
			`console.log(JSON.stringify(Object.keys(require(${JSON.stringify(entry)}))))`,
			"--input-type=commonjs",
			"--no-warnings",
		);
		const names = JSON.parse(imported) as string[];
		expect(names.length).toBeGreaterThan(0);
		expect((JSON.parse(required) as string[]).filter((name) => name !== "__esModule")).toEqual(names);
	});

	it.each(manifests.flatMap(({ bin = {} }) => Object.keys(bin)))("the command %s runs", (command) => {
		const version = spawnSync(join(consumer, "node_modules", ".bin", command), ["--version"], {
			cwd: consumer,
			encoding: "utf8",
		});
		expect(version).toMatchObject({ status: 0, stdout: expect.stringMatching(/\d+\.\d+\.\d+/) });
		const help = spawnSync(join(consumer, "node_modules", ".bin", command), ["--help"], {
			cwd: consumer,
			encoding: "utf8",
		});
		expect(help.status).toBe(0);
	});

	it.each([
		["NodeNext", "NodeNext"],
		["ESNext", "Bundler"],
	])("type-check under module %s", (module, moduleResolution) => {
		writeFileSync(
			join(consumer, "app.ts"),
			`${entries.map((entry, i) => `import * as m${i} from ${JSON.stringify(entry)};`).join("\n")}
export const all: object[] = [${entries.map((_, i) => `m${i}`).join(", ")}];
const kvm = m${entries.indexOf("@x/kvm-core")}.openKvm();
export const version: number = kvm.getApiVersion();
// @ts-expect-error: types are there, and say that this is no number
export const wrong: string = kvm.getApiVersion();
`,
		);
		const flags = [
			"--noEmit",
			"--strict",
			"--target",
			"es2022",
			"--lib",
			"es2023,esnext.disposable,dom",
			"--module",
			module,
			"--moduleResolution",
			moduleResolution,
			"--typeRoots",
			join(root, "node_modules", "@types"),
			"--types",
			"node",
		];
		const tsc = spawnSync(join(binaries, "tsc"), [...flags, "app.ts"], { cwd: consumer, encoding: "utf8" });
		expect(tsc.stdout).toBe("");
		expect(tsc.status).toBe(0);
	});

	it("run a guest", () => {
		const script = `import { openKvm } from "@x/kvm-core";
			const kvm = openKvm();
			const vm = kvm.createVm({ memoryBytes: 2 ** 21 });
			const memory = vm.createMemory(0x1000);
			// mov al, 42; out 80h, al
			memory.view(0, 4).set([0xb0, 42, 0xe6, 0x80]);
			vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0x1000, memorySize: 0x1000, memory });
			const vcpu = vm.createVcpu(0);
			const sregs = vcpu.getSregs();
			sregs.cs = { ...sregs.cs, base: 0n, selector: 0 };
			vcpu.setSregs(sregs);
			vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
			const exit = vcpu.run();
			console.log(exit.reason, exit.direction, exit.port, exit.data[0]);
			kvm.close();`;
		expect(run(script, "--input-type=module")).toBe("io out 128 42\n");
	});

	const libraries = manifests.map(({ name }) => name).filter((name) => name !== "@x/kvm-cli");
	it.each(libraries)("%s bundles for a browser without anything of Node's", (name) => {
		writeFileSync(join(consumer, "browser.js"), `export * from ${JSON.stringify(name)};`);
		const bundle = spawnSync(
			join(binaries, "esbuild"),
			["browser.js", "--bundle", "--format=esm", "--platform=browser", "--log-level=error"],
			{
				cwd: consumer,
				encoding: "utf8",
				maxBuffer: 2 ** 28,
			},
		);
		expect(bundle.stderr).toBe("");
		expect(bundle.status).toBe(0);
		expect(bundle.stdout).not.toMatch(/from "node:|require\("node:/);
	});
});
