import { createLinkPair, type Link, LinkBase, type LinkFeatures, type Offload, segmentFrame } from "@x/netchannel";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VirtioNet } from "../../src/machine/virtio/net/net.ts";
import { Driver, type Piece } from "./virtio-driver.ts";

const MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0x09);
const OTHER = Uint8Array.of(0x02, 0, 0, 0, 0, 0x0a);
const [RX, TX, CTRL] = [0, 1, 2];
const [CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG, CTRL_VQ] = [0, 1, 7, 11, 15, 17];
const only = (...bits: number[]) => bits.reduce((all, bit) => all | (1 << bit), 0);
const ALL: LinkFeatures = { checksum: true, tso4: true, tso6: true, uso: false };
const NO_OFFLOAD = { flags: 0, gso: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };

function header(fields: Partial<typeof NO_OFFLOAD> = {}): Uint8Array {
	const { flags, gso, hdrLen, gsoSize, csumStart, csumOffset } = { ...NO_OFFLOAD, ...fields };
	const bytes = new Uint8Array(12);
	const view = new DataView(bytes.buffer);
	bytes[0] = flags;
	bytes[1] = gso;
	for (const [i, value] of [hdrLen, gsoSize, csumStart, csumOffset].entries()) view.setUint16(2 + 2 * i, value, true);
	return bytes;
}

/** An Ethernet frame with a payload that says which one it is. */
function frame(length: number, to = MAC, mark = 1): Uint8Array {
	const bytes = Uint8Array.from({ length }, (_, i) => (i * mark) & 0xff);
	bytes.set(to);
	bytes.set(OTHER, 6);
	bytes.set([0x88, 0xb5], 12);
	return bytes;
}

/** A TCP segment from guest to host, `needsCsum` done as Linux does it: the pseudo-header's sum in the field. */
function tcpFrame(payload: number): Uint8Array {
	const bytes = new Uint8Array(54 + payload);
	const view = new DataView(bytes.buffer);
	bytes.set(OTHER);
	bytes.set(MAC, 6);
	view.setUint16(12, 0x0800);
	bytes[14] = 0x45;
	view.setUint16(16, 40 + payload);
	bytes.set([64, 6], 22);
	bytes.set([10, 0, 2, 15, 10, 0, 2, 2], 26);
	view.setUint16(34, 1234);
	view.setUint16(36, 80);
	bytes.set([0x50, 0x18, 0xff, 0xff], 46);
	for (let i = 0; i < payload; i++) bytes[54 + i] = i * 31;
	const sum = 0x0a00 + 0x020f + 0x0a00 + 0x0202 + 6 + 20 + payload;
	view.setUint16(50, (sum & 0xffff) + (sum >> 16));
	return bytes;
}

const TSO = { flags: 1, gso: 1, hdrLen: 54, gsoSize: 1000, csumStart: 34, csumOffset: 16 };

/** A link that is full when told so, and remembers what came. */
class ValveLink extends LinkBase {
	open = true;
	taken: { frame: Uint8Array; offload: Offload | undefined }[] = [];
	receiving: boolean[] = [];

	constructor(features?: LinkFeatures) {
		super({}, features);
	}

	protected override transmit(bytes: Uint8Array, offload: Offload | undefined): boolean {
		if (this.open) this.taken.push({ frame: bytes.slice(), offload });
		return this.open;
	}

	protected override shutdown(): void {}

	protected override receiverChanged(): void {
		this.receiving.push(this.onFrame !== undefined);
	}

	arrive(bytes: Uint8Array, offload?: Offload): void {
		this.deliver(bytes, offload);
	}

	reopen(): void {
		this.open = true;
		this.writable();
	}
}

function makeCard(options: { features?: number; link?: LinkFeatures } = {}) {
	const link = new ValveLink(options.link);
	const device = new VirtioNet({ link, mac: MAC });
	const driver = new Driver(device).start(options.features === undefined ? {} : { features: options.features });
	const transmit = (bytes: Uint8Array, head = header()) => {
		driver.add(TX, [{ send: head }, { send: bytes }]);
		driver.kick(TX);
	};
	const command = (group: number, number: number, data: Uint8Array) => {
		const { rooms } = driver.add(CTRL, [{ send: Uint8Array.of(group, number) }, { send: data }, { room: 1 }]);
		driver.kick(CTRL);
		return rooms[0][0];
	};
	return { link, device, driver, transmit, command };
}

/** Frames the driver finds in its used ring, put together from their buffers. */
function received(driver: Driver, buffers: Map<number, Uint8Array>): { head: Uint8Array; bytes: Uint8Array }[] {
	const frames: { head: Uint8Array; bytes: Uint8Array }[] = [];
	const used = driver.used(RX);
	for (let i = 0; i < used.length; ) {
		const first = buffers.get(used[i].head)!;
		const count = first[10] | (first[11] << 8);
		const parts = used.slice(i, i + count).map(({ head, length }) => buffers.get(head)!.slice(0, length));
		const all = parts.flatMap((part) => [...part]);
		frames.push({ head: Uint8Array.from(all.slice(0, 12)), bytes: Uint8Array.from(all.slice(12)) });
		i += count;
	}
	return frames;
}

function offer(
	driver: Driver,
	sizes: readonly number[],
	buffers: Map<number, Uint8Array> = new Map(),
): Map<number, Uint8Array> {
	for (const size of sizes) {
		const { head, rooms } = driver.add(RX, [{ room: size }]);
		buffers.set(head, rooms[0]);
	}
	driver.kick(RX);
	return buffers;
}

describe("configuration", () => {
	test("address, state of the link, MTU, and who is no card", () => {
		const [end, peer] = createLinkPair({ mtu: 1400 });
		const driver = new Driver(new VirtioNet({ link: end, mac: MAC })).start();
		expect(Array.from({ length: 6 }, (_, i) => driver.read(driver.config + i, 1))).toEqual([...MAC]);
		expect(driver.read(driver.config + 6, 2)).toBe(1);
		expect(driver.read(driver.config + 8, 2)).toBe(1);
		expect(driver.read(driver.config + 10, 2)).toBe(1400);
		peer.close();
		expect(driver.read(driver.config + 6, 2)).toBe(0);
		const [ip] = createLinkPair({ medium: "ip" });
		for (const options of [
			{ link: ip, mac: MAC },
			{ link: end, mac: Uint8Array.of(1, 0, 0, 0, 0, 0) },
			{ link: end, mac: new Uint8Array(5) },
		]) {
			expect(() => new VirtioNet(options)).toThrowError(expect.objectContaining({ code: "ERR_MACHINE_OPTION" }));
		}
	});

	test("a change of carrier interrupts the driver", () => {
		const link = new ValveLink() as ValveLink & Link & { carrier: boolean };
		link.carrier = true;
		const driver = new Driver(new VirtioNet({ link, mac: MAC })).start();
		link.carrier = false;
		(link as Link).onCarrier?.(false);
		expect(driver.read(driver.config + 6, 2)).toBe(0);
		expect(driver.read(driver.isr, 1) & 2).toBe(2);
	});
});

describe("transmitting", () => {
	test("frames leave as they are, and one with an open checksum unfinished only where the link takes it", () => {
		for (const checksum of [true, false]) {
			const { link, transmit, driver } = makeCard({ link: { ...ALL, checksum } });
			const plain = frame(300);
			transmit(plain);
			const open = tcpFrame(11);
			transmit(open, header({ flags: 1, csumStart: 34, csumOffset: 16 }));
			expect(link.taken[0]).toEqual({ frame: plain, offload: undefined });
			expect(link.taken[1].offload?.needsCsum ?? false).toBe(checksum);
			if (checksum) expect(link.taken[1].frame).toEqual(open);
			else expect(sumOfTcp(link.taken[1].frame)).toBe(0xffff);
			expect(driver.used(TX).length).toBe(2);
		}
	});

	test("what the link cannot segment is segmented here, and waits here when it fills", () => {
		const { link, transmit, driver, device } = makeCard();
		link.open = false;
		const whole = tcpFrame(4500);
		transmit(whole, header(TSO));
		transmit(frame(60));
		expect(driver.used(TX).length).toBe(1);
		link.reopen();
		expect(driver.used(TX).length).toBe(1);
		expect(link.taken.map(({ frame: bytes }) => bytes.length)).toEqual([1054, 1054, 1054, 1054, 554, 60]);
		for (const { frame: bytes } of link.taken.slice(0, 5)) expect(sumOfTcp(bytes)).toBe(0xffff);
		const joined = link.taken.slice(0, 5).flatMap(({ frame: bytes }) => [...bytes.subarray(54)]);
		expect(joined).toEqual([...whole.subarray(54)]);
		expect(device.stats).toMatchObject({ txFrames: 6, txDropped: 0 });
	});

	test("a full link leaves frames in the ring, in order", () => {
		const { link, transmit, driver } = makeCard();
		transmit(frame(60, OTHER, 1));
		link.open = false;
		for (let i = 2; i < 6; i++) transmit(frame(60, OTHER, i));
		expect(driver.used(TX).length).toBe(1);
		link.reopen();
		expect(driver.used(TX).length).toBe(4);
		expect(link.taken.map(({ frame: bytes }) => bytes[20])).toEqual([20, 40, 60, 80, 100]);
	});

	test.each<[string, number | undefined, Uint8Array, Uint8Array]>([
		["no Ethernet header", undefined, header(), new Uint8Array(13)],
		["more than any packet", undefined, header(), new Uint8Array(65_600)],
		["over the link's MTU", undefined, header(), new Uint8Array(1600)],
		["a checksum outside", undefined, header({ flags: 1, csumStart: 34, csumOffset: 400 }), tcpFrame(10)],
		["a checksum in the Ethernet header", undefined, header({ flags: 1, csumStart: 2, csumOffset: 2 }), tcpFrame(10)],
		["segments of nothing", undefined, header({ ...TSO, gsoSize: 0 }), tcpFrame(4000)],
		["too many segments", undefined, header({ ...TSO, gsoSize: 1 }), tcpFrame(4000)],
		["segments of another protocol", undefined, header({ ...TSO, gso: 4 }), tcpFrame(4000)],
		["segments with closed checksums", undefined, header({ ...TSO, flags: 0 }), tcpFrame(4000)],
		["UDP fragmentation", undefined, header({ ...TSO, gso: 3 }), tcpFrame(4000)],
		["segmentation not negotiated", only(CSUM), header(TSO), tcpFrame(4000)],
		[
			"an open checksum not negotiated",
			only(HOST_TSO4),
			header({ flags: 1, csumStart: 34, csumOffset: 16 }),
			tcpFrame(9),
		],
	])("%s: lost, and the driver gets its buffer back", (_name, features, head, bytes) => {
		for (const link of [ALL, undefined]) {
			const card = makeCard({ ...(features !== undefined && { features }), ...(link && { link }) });
			card.transmit(bytes, head);
			expect(card.driver.used(TX).length).toBe(1);
			expect(card.link.taken).toEqual([]);
			expect(card.device.stats.txDropped).toBe(1);
		}
	});
});

describe("receiving", () => {
	test("a long frame takes as many buffers as it needs, and its driver is told once", () => {
		const { driver, link } = makeCard({ link: ALL });
		const buffers = offer(driver, [100, 50, 1, 2000, 300]);
		const bytes = tcpFrame(1400);
		link.arrive(bytes, {
			...{ needsCsum: true, dataValid: false, csumStart: 34, csumOffset: 16 },
			...{ gsoType: "tcpv4", gsoSize: 700, hdrLen: 54, ecn: false },
		});
		const [got] = received(driver, buffers);
		expect(got.bytes).toEqual(bytes);
		expect([...got.head]).toEqual([1, 1, 54, 0, 700 & 255, 700 >> 8, 34, 0, 16, 0, 4, 0]);
		expect(driver.messages.length).toBe(1);
	});

	test("a driver without the features gets finished frames", () => {
		const { driver, link } = makeCard({ features: only(CTRL_VQ), link: ALL });
		const buffers = offer(driver, new Array(8).fill(1600));
		const whole = tcpFrame(3000);
		const offload: Offload = {
			...{ needsCsum: true, dataValid: false, csumStart: 34, csumOffset: 16 },
			...{ gsoType: "tcpv4", gsoSize: 1400, hdrLen: 54, ecn: false },
		};
		link.arrive(whole, offload);
		link.arrive(tcpFrame(5), { ...offload, gsoType: "none", gsoSize: 0 });
		const frames = received(driver, buffers);
		const expected: Uint8Array[] = [];
		segmentFrame(whole, "ethernet", offload, (segment) => expected.push(segment));
		expect(frames.slice(0, 3).map(({ bytes }) => bytes)).toEqual(expected);
		expect(sumOfTcp(frames[3].bytes)).toBe(0xffff);
		for (const { head } of frames) expect([...head]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
	});

	test("frames wait for buffers; the link is told to wait when too many do", () => {
		const { driver, link, device } = makeCard();
		const count = 1500;
		for (let i = 0; i < count; i++) link.arrive(frame(64, MAC, (i % 7) + 1));
		expect(link.receiving.at(-1)).toBe(false);
		let got = 0;
		for (let rounds = 0; rounds < 40; rounds++) {
			const buffers = offer(driver, new Array(64).fill(200));
			for (const { bytes } of received(driver, buffers)) expect(bytes).toEqual(frame(64, MAC, (got++ % 7) + 1));
		}
		expect(got).toBe(1024);
		expect(link.receiving.at(-1)).toBe(true);
		expect(device.stats.rxDropped + link.stats().rxDropped).toBe(count - 1024);
	});

	test("a frame that fits no buffer is lost, the buffer stays, and the next one is delivered", () => {
		for (const features of [only(GUEST_CSUM, GUEST_TSO4), only(MRG)]) {
			const { driver, link, device } = makeCard({ features });
			const buffers = offer(driver, features === only(MRG) ? [11] : [100]);
			link.arrive(frame(200));
			expect(device.stats.rxDropped).toBe(1);
			expect(received(driver, buffers)).toEqual([]);
			if (features !== only(MRG)) {
				link.arrive(frame(60));
				expect(received(driver, buffers).map(({ bytes }) => bytes)).toEqual([frame(60)]);
			}
		}
	});

	test("what the driver wants to see", () => {
		const { driver, link, command } = makeCard();
		const BROADCAST = new Uint8Array(6).fill(0xff);
		const GROUP = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
		const buffers = new Map<number, Uint8Array>();
		const seen = () => {
			offer(driver, new Array(4).fill(200), buffers);
			return [MAC, OTHER, GROUP, BROADCAST].map((to) => {
				link.arrive(frame(60, to));
				return received(driver, buffers).length;
			});
		};
		const table = (...kinds: Uint8Array[][]) =>
			Uint8Array.from(kinds.flatMap((macs) => [macs.length, 0, 0, 0, ...macs.flatMap((mac) => [...mac])]));
		expect(seen()).toEqual([1, 1, 1, 1]);
		expect(command(0, 0, Uint8Array.of(0))).toBe(0);
		expect(seen()).toEqual([1, 0, 0, 1]);
		expect(command(1, 0, table([OTHER], [GROUP]))).toBe(0);
		expect(seen()).toEqual([1, 1, 1, 1]);
		expect(command(1, 0, table([], []))).toBe(0);
		expect(command(0, 1, Uint8Array.of(1))).toBe(0);
		expect(seen()).toEqual([1, 0, 1, 1]);
		expect(command(0, 5, Uint8Array.of(1))).toBe(0);
		expect(command(0, 3, Uint8Array.of(1))).toBe(0);
		expect(seen()).toEqual([1, 0, 0, 0]);
		expect(command(1, 1, OTHER)).toBe(0);
		expect(seen()).toEqual([0, 1, 0, 0]);
		expect(driver.read(driver.config + 5, 1)).toBe(0x0a);
		const many = Array.from({ length: 100 }, (_, i) => Uint8Array.of(2, 1, 1, 1, 1, i));
		expect(command(1, 0, table(many, []))).toBe(0);
		expect(seen()).toEqual([1, 1, 0, 0]);
		// Counts beyond the body, unknown commands, group addresses, offloads never negotiated.
		for (const [group, number, data] of [
			[1, 0, Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0)],
			[1, 0, Uint8Array.of(0, 0, 0, 0)],
			[1, 1, GROUP],
			[0, 9, Uint8Array.of(1)],
			[4, 0, Uint8Array.of(2, 0)],
			[5, 0, Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)],
			[5, 0, Uint8Array.of(2)],
		] as const) {
			expect(command(group, number, data)).toBe(1);
		}
	});

	test("offloads can be switched off while running", () => {
		const { driver, link, command } = makeCard({ link: ALL });
		expect(command(5, 0, Uint8Array.of(1 << GUEST_CSUM, 0, 0, 0, 0, 0, 0, 0))).toBe(0);
		const buffers = offer(driver, new Array(4).fill(1600));
		link.arrive(tcpFrame(2000), {
			...{ needsCsum: true, dataValid: false, csumStart: 34, csumOffset: 16 },
			...{ gsoType: "tcpv4", gsoSize: 1000, hdrLen: 54, ecn: false },
		});
		expect(received(driver, buffers).map(({ bytes }) => bytes.length)).toEqual([1054, 1054]);
	});
});

test("an announcement is asked for, and acknowledged", () => {
	const { device, driver, command } = makeCard();
	device.announce();
	expect(driver.read(driver.config + 6, 2)).toBe(3);
	expect(command(3, 0, new Uint8Array(0))).toBe(0);
	expect(driver.read(driver.config + 6, 2)).toBe(1);
});

test("state survives JSON, and a restored card goes on", () => {
	const { driver, command, device } = makeCard();
	command(0, 0, Uint8Array.of(0));
	command(1, 1, OTHER);
	const state = JSON.parse(JSON.stringify(driver.transport.save()));
	const link = new ValveLink();
	const again = new Driver(new VirtioNet({ link, mac: MAC })).start();
	again.transport.restore(state);
	expect(again.transport.save()).toEqual(state);
	link.arrive(frame(60, MAC));
	link.arrive(frame(60, OTHER));
	expect(again.transport.device.save()).toEqual(device.save());
});

test("a card without a driver keeps its own address when another's state is restored into it", () => {
	const state = new Driver(new VirtioNet({ link: new ValveLink(), mac: OTHER })).transport.save();
	const driver = new Driver(new VirtioNet({ link: new ValveLink(), mac: MAC }));
	driver.transport.restore(state);
	const { device } = driver.transport;
	expect([0, 1, 2, 3, 4, 5].map((at) => device.readConfig(at, 1))).toEqual([...MAC]);
});

test("random frames, headers and buffers: nothing throws, nothing is written outside what the driver gave", () => {
	const piece = fc.oneof(
		fc.record({ room: fc.integer({ min: 0, max: 3000 }) }),
		fc.uint8Array({ maxLength: 200 }).map((send) => ({ send })),
	);
	fc.assert(
		fc.property(
			fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.array(piece, { maxLength: 5 })), { maxLength: 12 }),
			fc.array(fc.tuple(fc.uint8Array({ minLength: 12, maxLength: 12 }), fc.integer({ min: 0, max: 5000 })), {
				maxLength: 6,
			}),
			fc.integer(),
			(requests, frames, features) => {
				const { driver, link, transmit } = makeCard({ features, link: ALL });
				for (const [queue, pieces] of requests) {
					const ordered = [...pieces].sort((a, b) => Number("room" in a) - Number("room" in b)) as Piece[];
					if (ordered.length > 0) driver.add(queue, ordered);
					driver.kick(queue);
					link.arrive(tcpFrame(1000), {
						...{ needsCsum: true, dataValid: false, csumStart: 34, csumOffset: 16 },
						...{ gsoType: "tcpv4", gsoSize: 500, hdrLen: 54, ecn: false },
					});
				}
				for (const [head, length] of frames) transmit(tcpFrame(length), head);
			},
		),
		{ seed: 31, numRuns: 300 },
	);
});

/** Sum over TCP header, data and pseudo-header: all ones when the checksum is right. */
function sumOfTcp(bytes: Uint8Array): number {
	let sum = 6 + bytes.length - 34;
	for (let i = 26; i < bytes.length; i += 2) sum += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return sum;
}
