import { expect, test } from "vitest";
import { HostileGuest } from "./hostile-guest.ts";

/** Seconds a campaign is to last; without them, a fixed number of actions. */
const SECONDS = Number(process.env["HOSTILE_SECONDS"] ?? 0);
const SEED = Number(process.env["HOSTILE_SEED"] ?? 1);
const ACTIONS = 3000;
const GUESTS = 6;
const MEMORY_LIMIT = 512 * 2 ** 20;

test(
	"whatever a guest does to its devices, nothing is thrown out of them, and their memory stays bounded",
	async () => {
		const start = process.memoryUsage().rss;
		const end = performance.now() + SECONDS * 1000;
		let actions = 0;
		const reached = { files: 0, fids: 0, open: 0, sent: 0, received: 0 };
		for (let i = 0; SECONDS > 0 ? performance.now() < end : i < GUESTS; i++) {
			const seed = SEED * 1_000_003 + i * 7919;
			const guest = new HostileGuest({ seed });
			try {
				for (let k = 0; k < ACTIONS; k++) {
					guest.act();
					if (k % 500 === 499) await guest.board.idle();
				}
			} catch (error) {
				throw new Error(`seed ${seed}, action ${guest.actions}`, { cause: error });
			}
			actions += guest.actions;
			for (const [what, most] of Object.entries(guest.most)) reached[what as keyof typeof guest.most] += most;
			reached.sent += guest.net.stats.txFrames;
			reached.received += guest.net.stats.rxFrames;
			expect(process.memoryUsage().rss - start, `seed ${seed}`).toBeLessThan(MEMORY_LIMIT);
		}
		expect(actions).toBeGreaterThanOrEqual(SECONDS > 0 ? 1 : ACTIONS * GUESTS);
		// It has to have come further than the front door, or nothing was tried.
		for (const [what, count] of Object.entries(reached)) expect(count, what).toBeGreaterThan(0);
	},
	SECONDS * 1000 + 120_000,
);
