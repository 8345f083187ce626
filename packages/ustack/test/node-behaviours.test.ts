import dgram from "node:dgram";
import net from "node:net";
import { networkInterfaces } from "node:os";
import { createLinkPair } from "@x/netchannel";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDgram, createNet } from "../src/node/index.node.ts";
import { createHost, type Host } from "../src/socket/host.ts";
import { connecting } from "./node-behaviours/connect.ts";
import { type Behaviour, Context, type Modules } from "./node-behaviours/context.ts";
import { datagrams } from "./node-behaviours/dgram.ts";
import { serving } from "./node-behaviours/server.ts";
import { streaming } from "./node-behaviours/stream.ts";

/**
 * What node's own test-net-* and test-dgram-* tests look at, written anew, against node's modules over this kernel's
 * loopback and against the look-alikes over a stack's. The kernel is the oracle: a behaviour it does not show is wrong.
 */
const groups: Record<string, readonly Behaviour[]> = { connecting, streaming, serving, datagrams };

const hasLoopback6 = Object.values(networkInterfaces()).some((list) => list!.some(({ address }) => address === "::1"));
const reason = hasLoopback6 ? "" : " (skipped: the kernel has no ::1 to compare with)";

/** Where the look-alike differs, and why. */
const DIFFERS: Record<string, string> = {};

let host: Host;
const kernel: Modules = { net, dgram };
let ours: Modules;
const passed = { kernel: 0, ours: 0 };
const total = Object.values(groups).reduce((sum, group) => sum + group.length, 0);

beforeAll(() => {
	host = createHost();
	// An interface beside the loopback, with nobody on its wire.
	host.attach(createLinkPair()[0], { addresses: ["10.0.0.1/24", "fd00::1/64"] });
	ours = { net: createNet(host), dgram: createDgram(host) } as unknown as Modules;
});

afterAll(() => {
	host.close();
	const share = ((100 * passed.ours) / total).toFixed(1);
	const lines = [
		`node behaviours: kernel ${passed.kernel} of ${total}, look-alike ${passed.ours} of ${total} (${share} %)`,
		...Object.entries(DIFFERS).map(([name, reason]) => `  differs: ${name}: ${reason}`),
	];
	process.stdout.write(`${lines.join("\n")}\n`);
});

async function show(modules: Modules, [, run]: Behaviour): Promise<void> {
	const context = new Context(modules);
	try {
		await run(context);
	} finally {
		context.end();
	}
}

for (const [title, group] of Object.entries(groups)) {
	describe.skipIf(!hasLoopback6)(`${title}${reason}`, () => {
		for (const behaviour of group) {
			const [name] = behaviour;
			test(`kernel: ${name}`, async () => {
				await show(kernel, behaviour);
				passed.kernel++;
			}, 20_000);
			const check = DIFFERS[name] === undefined ? test : test.fails;
			check(
				`look-alike: ${name}`,
				async () => {
					await show(ours, behaviour);
					passed.ours++;
				},
				20_000,
			);
		}
	});
}

test("nine behaviours of ten and more are the kernel's", () => {
	expect(total).toBeGreaterThanOrEqual(120);
	expect(Object.keys(DIFFERS).length).toBeLessThanOrEqual(total / 10);
});
