import type { LinkError } from "../link/errors.ts";
import type { Link } from "../link/link.ts";

/** A pair of links under test: what `near` sends arrives at `far`. */
export interface ComplianceContext {
	readonly near: Link;
	readonly far: Link;
	/** Runs after each check; closing the links is done by the suite. */
	teardown?(): void | Promise<void>;
}

/** How the suite runs: the three functions every test runner has, so that none is imported here. */
export interface ComplianceHarness {
	describe(name: string, body: () => void): void;
	test(name: string, body: () => Promise<void>): void;
	/** Opens a fresh pair. */
	setup(): ComplianceContext | Promise<ComplianceContext>;
	/** Whether every frame arrives, in order; false for UDP-like links. @default true */
	reliable?: boolean;
	/** Whether both ends send and receive; false for a capture file. @default true */
	duplex?: boolean;
}

function check(condition: boolean, what: string): asserts condition {
	if (!condition) throw new Error(`not compliant: ${what}`);
}

async function eventually(condition: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
	for (let waited = 0; !condition(); waited += 2) {
		check(waited < timeoutMs, what);
		await new Promise((resolve) => setTimeout(resolve, 2));
	}
}

/** A valid frame for the medium: an Ethernet frame of a private EtherType, or an IPv4 packet of an unused protocol. */
function makeFrame(link: Link, length: number, seed: number): Uint8Array {
	const frame = Uint8Array.from({ length }, (_, index) => (seed * 131 + index * 17) & 0xff);
	if (link.medium === "ethernet") {
		frame.set([0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
	} else {
		frame.set([0x45, 0, length >> 8, length & 0xff, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
	}
	return frame;
}

const same = (a: Uint8Array, b: Uint8Array): boolean =>
	a.length === b.length && a.every((byte, index) => byte === b[index]);

function codeOf(run: () => unknown): string {
	try {
		run();
	} catch (error) {
		// By name: the suite's copy of the class need not be the link's.
		const { name, code } = error as LinkError;
		return name === "LinkError" ? code : name;
	}
	return "no error";
}

/**
 * Declares the checks a link must pass. Call it in a test file with your runner's functions:
 *
 * @example
 * linkCompliance("my link", { describe, test, setup: () => openMyPair() });
 */
export function linkCompliance(name: string, harness: ComplianceHarness): void {
	const { reliable = true, duplex = true } = harness;
	const run = (title: string, body: (context: ComplianceContext) => Promise<void>): void =>
		harness.test(title, async () => {
			const context = await harness.setup();
			try {
				await body(context);
			} finally {
				context.near.close();
				context.far.close();
				await context.teardown?.();
			}
		});
	const headers = (link: Link): number => (link.medium === "ethernet" ? 14 : 0);

	harness.describe(`${name} is a link`, () => {
		run("carries frames of every size unchanged", async ({ near, far }) => {
			const got: Uint8Array[] = [];
			far.onFrame = (frame) => got.push(frame.slice());
			const sizes = [60, 61, 64, 127, 128, 1000, near.mtu + headers(near)].filter(
				(size) => size <= near.mtu + headers(near),
			);
			const sent = sizes.map((size, index) => makeFrame(near, size, index));
			for (const frame of sent) {
				check(near.send(frame), "an idle link takes a frame");
				await new Promise((resolve) => setTimeout(resolve, 1));
			}
			await eventually(() => got.length >= sent.length, `all ${sent.length} frames arrive`);
			check(got.length === sent.length, `${sent.length} frames arrive, not ${got.length}`);
			for (const frame of sent)
				check(
					got.some((candidate) => same(candidate, frame)),
					`a frame of ${frame.length} bytes is unchanged`,
				);
		});

		run("copies what it is given before send returns", async ({ near, far }) => {
			const got: Uint8Array[] = [];
			far.onFrame = (frame) => got.push(frame.slice());
			const frame = makeFrame(near, 100, 1);
			const original = frame.slice();
			near.send(frame);
			frame.fill(0xee);
			await eventually(() => got.length > 0, "the frame arrives");
			check(same(got[0]!, original), "the caller may reuse its buffer after send");
		});

		if (reliable) {
			run("loses nothing and keeps the order when send says false and the sender waits", async ({ near, far }) => {
				const total = 3000;
				let received = 0;
				let ordered = true;
				far.onFrame = (frame) => {
					const number = new DataView(frame.buffer, frame.byteOffset).getUint32(headers(far) + 20);
					if (number !== received) ordered = false;
					received++;
				};
				const frame = makeFrame(near, Math.min(1000, near.mtu), 3);
				const view = new DataView(frame.buffer);
				for (let number = 0; number < total; ) {
					view.setUint32(headers(near) + 20, number);
					if (near.send(frame)) number++;
					else {
						await new Promise<void>((resolve, reject) => {
							const late = setTimeout(
								() => reject(new Error("not compliant: onWritable follows a refused send")),
								5000,
							);
							near.onWritable = () => {
								clearTimeout(late);
								resolve();
							};
						});
					}
				}
				await eventually(() => received >= total, `all of ${total} frames arrive (${received} did)`, 20000);
				check(received === total && ordered, "every frame arrives once, in order");
			});
		}

		if (duplex) {
			run("carries frames both ways", async ({ near, far }) => {
				let there = 0;
				let back = 0;
				far.onFrame = (frame) => {
					there++;
					far.send(frame.slice());
				};
				near.onFrame = () => back++;
				near.send(makeFrame(near, 80, 1));
				await eventually(() => there === 1 && back === 1, "a frame and its echo arrive");
			});
		}

		run("refuses a frame over the MTU and stays open", async ({ near, far }) => {
			let received = 0;
			far.onFrame = () => received++;
			const code = codeOf(() => near.send(makeFrame(near, near.mtu + headers(near) + 5, 1)));
			check(code === "ERR_FRAME_TOO_LONG", `a frame over the MTU is ERR_FRAME_TOO_LONG, not ${code}`);
			near.send(makeFrame(near, 100, 2));
			await eventually(() => received === 1, "the link still works");
		});

		run("drops what is too short for a header instead of failing", async ({ near, far }) => {
			let received = 0;
			far.onFrame = () => received++;
			check(near.send(new Uint8Array(0)), "an empty frame is taken and dropped");
			near.send(makeFrame(near, 100, 2));
			await eventually(() => received === 1, "the link still works");
		});

		run("turns an exception in a callback into an error event and goes on", async ({ near, far }) => {
			const errors: Error[] = [];
			let received = 0;
			far.onError = (error) => errors.push(error);
			far.onFrame = () => {
				received++;
				throw new Error("mine");
			};
			near.send(makeFrame(near, 100, 1));
			await eventually(() => errors.length === 1, "the error event comes");
			const [error] = errors;
			check((error as LinkError).code === "ERR_LINK_CALLBACK", "its code is ERR_LINK_CALLBACK");
			check((error.cause as Error).message === "mine", "its cause is what was thrown");
			near.send(makeFrame(near, 100, 2));
			await eventually(() => received === 2, "the next frame still arrives");
		});

		run("close is idempotent, final and quiet", async ({ near, far }) => {
			let calls = 0;
			far.onFrame = () => calls++;
			far.onError = () => calls++;
			near.send(makeFrame(near, 100, 1));
			far.close();
			far.close();
			const before = calls;
			const code = codeOf(() => far.send(makeFrame(far, 100, 1)));
			check(code === "ERR_LINK_CLOSED", `send after close is ERR_LINK_CLOSED, not ${code}`);
			await new Promise((resolve) => setTimeout(resolve, 20));
			check(calls === before, "nothing is called after close");
		});

		run("may be closed inside its own callback", async ({ near, far }) => {
			let received = 0;
			far.onFrame = () => {
				received++;
				far.close();
			};
			for (let count = 0; count < 5; count++) near.send(makeFrame(near, 100, count));
			await eventually(() => received > 0, "a frame arrives");
			await new Promise((resolve) => setTimeout(resolve, 20));
			check(received === 1, `nothing is delivered after close (${received} were)`);
		});

		run("counts what it carried", async ({ near, far }) => {
			if (near.stats === undefined || far.stats === undefined) return;
			let received = 0;
			far.onFrame = () => received++;
			for (let count = 0; count < 3; count++) near.send(makeFrame(near, 100, count));
			await eventually(() => received === 3, "three frames arrive");
			check(near.stats().txFrames === 3 && near.stats().txBytes === 300, "the sender counted 3 frames of 300 bytes");
			check(far.stats().rxFrames === 3 && far.stats().rxBytes === 300, "the receiver counted 3 frames of 300 bytes");
		});
	});
}
