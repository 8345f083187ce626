import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { createSandbox } from "../packages/kvm-cli/src/index.ts";
import { bin, buildImage, GUEST_TEST_MS } from "./support/images.ts";

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";

/** Two writers that are bound to a processor each take turns at a lock. */
const CONTENDING = `
nproc
count() {
	i=0
	while [ $i -lt 15 ]; do
		until mkdir /tmp/lock 2>/dev/null; do :; done
		n=$(cat /tmp/n); echo $((n + 1)) >/tmp/n
		rmdir /tmp/lock
		i=$((i + 1))
	done
}
echo 0 >/tmp/n
for cpu in 0 1; do (taskset -p -c $cpu $(exec sh -c 'echo $PPID') >/dev/null; count) & done
wait
cat /tmp/n
awk '/^ *RES:/ { print ($2 > 0 && $3 > 0) } /^ *LOC:/ { print ($2 > 0 && $3 > 0) }' /proc/interrupts
`;

function run(...args: readonly string[]) {
	const { status, stdout, stderr } = spawnSync(process.execPath, [bin, "run", ...args], { encoding: "utf8" });
	return { status, stdout, stderr };
}

describe.skipIf(typeof image === "string")(`a guest with two processors${because}`, { timeout: GUEST_TEST_MS }, () => {
	it("has both at work, and goes on from a kept start", () => {
		for (const _ of ["the first keeps its start", "the second has it"]) {
			const { status, stdout, stderr } = run("--cpus", "2", "--", "sh", "-c", CONTENDING);
			expect({ status, stdout }, stderr).toEqual({ status: 0, stdout: "2\n30\n1\n1\n" });
		}
	});

	it("is not had from the hardware engine, nor with more than eight", async () => {
		expect(run("--cpus", "2", "--engine", "hardware", "--", "true")).toMatchObject({
			status: 3,
			stderr: expect.stringMatching(/^xkvm: --engine hardware: .*2 were asked for.*\n$/),
		});
		await expect(createSandbox({ cpus: 9 })).rejects.toMatchObject({ code: "ERR_SANDBOX_OPTION", value: 9 });
	});
});
