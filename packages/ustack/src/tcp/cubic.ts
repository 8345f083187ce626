import type { Congestion, CongestionView } from "./congestion.ts";
import { slowStart } from "./congestion.ts";
import type { SlowStartExit } from "./hystart.ts";

/** RFC 9438's constants. */
const BETA = 0.7;
const C = 0.4;
/** Segments per window acknowledged that make Reno with CUBIC's beta as fast as Reno (RFC 9438 4.3). */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);
/** Growth while the bandwidth is unknown, and on the plateau: segments acknowledged per segment of growth. */
const FIRST_COUNT = 20;
const PLATEAU_WINDOWS = 100;
/** How often the curve is looked at while the window stays. */
const UPDATE_MS = 31;
/** RTT samples just after a reduction are of a queue that drains. */
const SETTLE_MS = 1_000;

/** CUBIC (RFC 9438), counting acknowledged segments per segment of growth as Linux does. */
export class Cubic implements Congestion {
	readonly name: string = "cubic";
	private readonly exit: SlowStartExit | undefined;
	private lastMax = 0;
	private k = 0;
	private origin = 0;
	private epochStart = -1;
	private lastWindow = 0;
	private lastTime = -1;
	private count = 1;
	/** The window Reno would have, and acknowledgements towards its next segment. */
	private friendly = 0;
	/** The window at the last reduction. */
	private prior = 0;
	private counted = 0;
	private delayMin = 0;

	private readonly gentle: boolean;

	/** @param gentle - catch up with Reno segment by segment, as Linux does, not at once (RFC 9438 4.3) */
	constructor(exit: SlowStartExit | undefined, gentle = false) {
		this.exit = exit;
		this.gentle = gentle;
	}

	onAck(connection: CongestionView, acked: number, now: number): void {
		let left = acked;
		if (connection.cwnd < connection.ssthresh) {
			left = slowStart(connection, this.exit?.growth(left) ?? left);
			if (left === 0) return;
		}
		this.update(connection.cwnd, left, now);
		this.grow(connection, left);
		// As fast as Reno would be, at the least.
		if (!this.gentle && this.friendly >= connection.cwnd + 1) connection.cwnd = Math.floor(this.friendly);
	}

	private update(cwnd: number, acked: number, now: number): void {
		this.friendly += ((this.friendly >= this.prior ? 1 : ALPHA) * acked) / cwnd;
		if (this.lastWindow === cwnd && this.lastTime >= 0 && now - this.lastTime <= UPDATE_MS) return;
		if (this.epochStart < 0 || now > this.lastTime) this.follow(cwnd, now);
		if (this.gentle && this.friendly >= cwnd + 1) this.count = Math.min(this.count, cwnd / (this.friendly - cwnd));
		this.count = Math.max(this.count, 2);
	}

	/** Where the cubic curve is one round trip from now, and how fast to go there. */
	private follow(cwnd: number, now: number): void {
		this.lastWindow = cwnd;
		this.lastTime = now;
		if (this.epochStart < 0) {
			this.epochStart = now;
			this.friendly = cwnd;
			if (this.lastMax <= cwnd) {
				this.k = 0;
				this.origin = cwnd;
			} else {
				this.k = Math.cbrt((this.lastMax - cwnd) / C);
				this.origin = this.lastMax;
			}
		}
		const t = (now - this.epochStart + this.delayMin) / 1000 - this.k;
		// Rounded towards the origin: the first segment back is due at once.
		const offset = C * t * t * t;
		const target = this.origin + Math.trunc(offset);
		this.count = target > cwnd ? Math.floor(cwnd / (target - cwnd)) : PLATEAU_WINDOWS * cwnd;
		if (this.lastMax === 0 && this.count > FIRST_COUNT) this.count = FIRST_COUNT;
	}

	private grow(connection: CongestionView, acked: number): void {
		if (this.counted >= this.count) {
			// Earned at a larger window: not all at once.
			this.counted = 0;
			connection.cwnd++;
		}
		this.counted += acked;
		if (this.counted < this.count) return;
		const steps = Math.floor(this.counted / this.count);
		this.counted -= steps * this.count;
		connection.cwnd += steps;
	}

	onRtt(connection: CongestionView, rtt: number, now: number): void {
		if (this.epochStart >= 0 && now - this.epochStart < SETTLE_MS) return;
		if (this.delayMin === 0 || rtt < this.delayMin) this.delayMin = rtt;
		if (connection.cwnd < connection.ssthresh) this.exit?.onRtt(connection, rtt, this.delayMin, now);
	}

	ssthresh(connection: CongestionView): number {
		this.epochStart = -1;
		const { cwnd } = connection;
		this.prior = cwnd;
		// Fast convergence (RFC 9438 4.7).
		this.lastMax = cwnd < this.lastMax ? Math.floor((cwnd * (1 + BETA)) / 2) : cwnd;
		return Math.max(this.gentle ? Math.floor(cwnd * BETA) : Math.ceil(cwnd * BETA), 2);
	}

	onTimeout(): void {
		this.epochStart = -1;
		this.lastMax = 0;
		this.lastWindow = 0;
		this.lastTime = -1;
		this.count = 1;
		this.counted = 0;
		this.delayMin = 0;
		this.exit?.reset();
	}

	onIdle(pause: number): void {
		if (this.epochStart >= 0) this.epochStart += pause;
	}

	onUndo(connection: CongestionView): void {
		this.lastMax = Math.max(this.lastMax, connection.cwnd);
		this.epochStart = -1;
	}
}
