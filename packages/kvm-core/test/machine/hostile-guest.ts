import { createLinkPair, type Link, type Offload } from "@x/netchannel";
import { IrqChip } from "../../src/chips/irqchip.ts";
import { OP } from "../../src/fuse/protocol.ts";
import { Board } from "../../src/machine/board.ts";
import { type BlockBackend, MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { VirtioConsole } from "../../src/machine/virtio/console.ts";
import type { VirtioDevice } from "../../src/machine/virtio/device.ts";
import { VirtioNet } from "../../src/machine/virtio/net/net.ts";
import { OverlayBlockBackend } from "../../src/machine/virtio/overlay.ts";
import { VirtioRng } from "../../src/machine/virtio/rng.ts";
import { VirtioFs } from "../../src/machine/virtio/share/fs.ts";
import { Virtio9p } from "../../src/machine/virtio/share/p9.ts";
import { T } from "../../src/p9/protocol.ts";
import type { SharedFolder } from "../../src/share/directory.ts";
import { MemoryFolder } from "../../src/share/memory-folder.ts";
import { type Field, fuseRequest } from "./fuse-client.ts";
import { type ArrayMemory, makeRam } from "./memory.ts";
import { p9Message, string16 } from "./p9-client.ts";

const RAM_BYTES = 2 ** 21;
/** Where a good driver would have its rings and buffers; the rest of RAM is fair game too. */
const RINGS = 0x10_0000;
const BUFFERS = 0x18_0000;
const NAMES = ["a", "b", "c", "..", "a/b", ""];

/** What a hostile guest plays with. */
export interface HostileOptions {
	seed: number;
	/** The other end of its cable. @default a peer that answers with frames of its own making */
	attach?: (link: Link) => void;
	/** @default in memory */
	folder?: SharedFolder;
	/** Another disk. */
	disk?: BlockBackend;
}

/**
 * A guest that does what no driver would, over a board with every device: it drives ports, configuration space, windows,
 * rings and messages at random, often enough like a driver that the inner parts are reached. The same seed does the same.
 */
export class HostileGuest {
	readonly board: Board;
	readonly memory: ArrayMemory;
	readonly devices: readonly VirtioDevice[];
	readonly fs: VirtioFs;
	readonly p9: Virtio9p;
	readonly net: VirtioNet;
	readonly console: VirtioConsole;
	/** Actions done. */
	actions = 0;
	/** Most there was at once, which says how far the guest came. */
	readonly most = { files: 0, fids: 0, open: 0 };
	#state: number;
	#now = 0;
	readonly #peer: Link;

	constructor(options: HostileOptions) {
		this.#state = options.seed;
		const { ram, memory } = makeRam(RAM_BYTES);
		this.memory = memory;
		const chip = new IrqChip({
			...{ interrupt: () => undefined, nmi: () => undefined, init: () => undefined },
			...{ startUp: () => undefined, smi: () => undefined },
		});
		const [card, peer] = createLinkPair({ features: { checksum: true, tso4: true, tso6: true } });
		this.#peer = peer;
		if (options.attach !== undefined) options.attach(peer);
		else peer.onFrame = (frame) => peer.send(frame.subarray(0, Math.min(frame.length, 1514)));
		const folder =
			options.folder ?? new MemoryFolder({ now: () => BigInt(this.#now), limitBytes: 2 ** 24, limitNodes: 5000 });
		const base = new MemoryBlockBackend(new Uint8Array(2 ** 20), { readonly: true });
		const slow: BlockBackend = {
			...{ bytes: 2 ** 20, readonly: false },
			read: async (_offset, target) => void target.fill(1),
			write: (offset) => (offset % 4096 === 0 ? Promise.reject(new Error("broken")) : Promise.resolve()),
			flush: () => Promise.resolve(),
			zero: (offset) => {
				if (offset % 1024 === 0) throw new Error("broken at once");
				return offset % 1536 === 0 ? Promise.reject(new Error("broken")) : Promise.resolve();
			},
		};
		this.fs = new VirtioFs({ folder, tag: "shared" });
		this.p9 = new Virtio9p({ folder, tag: "shared" });
		this.net = new VirtioNet({ link: card, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) });
		this.console = new VirtioConsole([
			{ console: true, output: () => undefined },
			{ name: "agent", output: (bytes) => void this.console.input(1, bytes) },
		]);
		this.devices = [
			new VirtioBlock({ backend: new OverlayBlockBackend({ base, limitBytes: 2 ** 19 }) }),
			new VirtioBlock({ backend: slow }),
			...(options.disk === undefined ? [] : [new VirtioBlock({ backend: options.disk })]),
			this.console,
			new VirtioRng((bytes) => bytes.fill(7)),
			this.net,
			this.fs,
			this.p9,
		];
		this.board = new Board({
			memoryBytes: RAM_BYTES,
			cpus: 1,
			ram,
			now: () => this.#now,
			epochSeconds: 1_795_000_000,
			setIrqLine: (gsi, level) => chip.setIrqLine(gsi, level),
			signalMsi: (msi) => void chip.signalMsi(msi),
			onEvent: () => undefined,
			onSerial: () => undefined,
			onDebug: () => undefined,
			virtio: this.devices,
			debugExitPort: 0xf4,
			testDevice: true,
		});
		this.board.prepareWithoutFirmware(ram);
	}

	/** Does the next thing. */
	act(): void {
		this.actions++;
		this.#now += this.#below(100_000);
		const choice = this.#below(100);
		if (choice < 8) this.#port();
		else if (choice < 18) this.#configuration();
		else if (choice < 30) this.#window();
		else if (choice < 33) this.#bringUp(this.#below(this.devices.length));
		else if (choice < 84) this.#request(this.#below(this.devices.length));
		else if (choice < 94) this.#frame();
		else if (choice < 97) this.#scribble();
		else this.#machine();
		const { most, fs, p9 } = this;
		most.files = Math.max(most.files, fs.server.knownNodes - 1);
		most.fids = Math.max(most.fids, p9.server.knownFids);
		most.open = Math.max(most.open, fs.server.openHandles + p9.server.openHandles);
	}

	/** mulberry32. */
	#next(): number {
		this.#state = (this.#state + 0x6d2b_79f5) | 0;
		let t = this.#state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return (t ^ (t >>> 14)) >>> 0;
	}

	#below(limit: number): number {
		return Math.floor((this.#next() / 2 ** 32) * limit);
	}

	/** Numbers that matter: small ones, powers of two and their neighbours, all ones, anything. */
	#number(): number {
		switch (this.#below(6)) {
			case 0:
				return this.#below(16);
			case 1:
				return (2 ** this.#below(32) - this.#below(2)) >>> 0;
			case 2:
				return 0xffff_ffff;
			case 3:
				return BUFFERS + this.#below(0x8_0000);
			case 4:
				return this.#below(RAM_BYTES + 4096);
			default:
				return this.#next();
		}
	}

	#bytes(length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		for (let i = 0; i < length; i++) bytes[i] = this.#next();
		return bytes;
	}

	#size(): 1 | 2 | 4 {
		return ([1, 2, 4] as const)[this.#below(3)];
	}

	#port(): void {
		const known = [0x60, 0x64, 0x70, 0x71, 0x92, 0x3f8, 0x3fb, 0x402, 0x510, 0x511, 0x514, 0x518, 0x604, 0xcf9, 0xf4];
		const port = this.#below(2) === 0 ? known[this.#below(known.length)] : this.#below(0x1_0000);
		const size = this.#size();
		const count = 1 + this.#below(200);
		const data = this.#bytes(size * count);
		const direction = this.#below(2) === 0 ? "in" : "out";
		this.board.bus.handleIo({ reason: "io", direction, port, size, count, data });
	}

	#configuration(): void {
		const { bus } = this.board;
		const slot = this.#below(12);
		const offset = [4, 0x10, 0x40 + this.#below(0xc0), this.#below(256)][this.#below(4)];
		bus.writePort(
			0xcf8,
			4,
			(0x8000_0000 | (slot << 11) | (this.#below(8) === 0 ? this.#next() & 0xff_0700 : 0) | (offset & 0xfc)) >>> 0,
		);
		const size = this.#size();
		if (this.#below(3) === 0) bus.readPort(0xcfc + (offset & 3), size);
		else bus.writePort(0xcfc + (offset & 3), size, this.#masked(size));
	}

	#masked(size: 1 | 2 | 4): number {
		return size === 4 ? this.#number() : this.#number() & (size === 2 ? 0xffff : 0xff);
	}

	/** Accesses of any size and alignment to the devices' windows, and around them. */
	#window(): void {
		const physAddr = 0xe000_0000 + this.#below(this.devices.length + 1) * 0x8000 + this.#offset();
		const data = this.#bytes(1 + this.#below(8));
		if (this.#below(2) === 0) new DataView(data.buffer).setUint8(0, this.#number());
		this.board.bus.handleMmio({ reason: "mmio", physAddr, isWrite: this.#below(2) === 0, data });
	}

	#offset(): number {
		const parts = [0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000];
		return parts[this.#below(parts.length)] + this.#below(this.#below(4) === 0 ? 0x1000 : 0x40);
	}

	#write(device: number, offset: number, size: 1 | 2 | 4, value: number): void {
		const data = Uint8Array.from({ length: size }, (_, i) => value / 2 ** (8 * i));
		const bar = this.board.virtio[device].pci.get32(0x10);
		this.board.bus.handleMmio({ reason: "mmio", physAddr: bar + offset, isWrite: true, data });
	}

	/** As a driver does it, with something wrong now and then. */
	#bringUp(device: number): void {
		const transport = this.board.virtio[device];
		const odd = (value: number): number => (this.#below(150) === 0 ? this.#number() : value);
		transport.pci.writeConfig(4, 2, 6);
		if ((transport.pci.get32(0x10) ^ (0xe000_0000 + device * 0x8000)) >>> 0 !== 0) {
			transport.pci.writeConfig(0x10, 4, 0xe000_0000 + device * 0x8000);
			transport.pci.writeConfig(4, 2, 6);
		}
		this.#write(device, 0x14, 1, 0);
		this.#write(device, 0x14, 1, 3);
		this.#write(device, 0x08, 4, 0);
		this.#write(
			device,
			0x0c,
			4,
			(transport.device.features & (this.#below(3) === 0 ? this.#next() : -1)) | (this.#next() & (1 << 29)),
		);
		this.#write(device, 0x08, 4, 1);
		this.#write(device, 0x0c, 4, 1);
		this.#write(device, 0x14, 1, odd(11));
		for (let queue = 0; queue < transport.queues.length; queue++) {
			const at = this.#ring(device, queue);
			this.memory.bytes.fill(0, at, at + 0x2000);
			this.#write(device, 0x16, 2, queue);
			this.#write(device, 0x18, 2, odd(this.#below(8) === 0 ? 1 << this.#below(7) : 64));
			this.#write(device, 0x20, 4, odd(at));
			this.#write(device, 0x28, 4, odd(at + 0x1000));
			this.#write(device, 0x30, 4, odd(at + 0x1800));
			this.#write(device, 0x1a, 2, odd(queue));
			this.#write(device, 0x1c, 2, 1);
		}
		this.#write(device, 0x14, 1, odd(15));
	}

	#ring(device: number, queue: number): number {
		return RINGS + ((device * 8 + (queue & 7)) % 60) * 0x2000;
	}

	/** A chain with a request in it that may be well-formed, made available in one of the device's queues. */
	#request(device: number): void {
		const transport = this.board.virtio[device];
		const usable =
			transport.pci.get32(0x10) !== 0 && transport.queues.every(({ enabled, broken }) => enabled && !broken);
		if (!usable && this.#below(3) === 0) this.#bringUp(device);
		const queue = this.#below(transport.queues.length);
		const { size } = transport.queues[queue];
		const at = this.#ring(device, queue);
		const view = new DataView(this.memory.bytes.buffer);
		const message = this.#message(transport.device);
		const pieces: { address: number; length: number; flags: number }[] = [];
		let buffer = BUFFERS + this.#below(0x4_0000);
		for (let done = 0; done < message.length; ) {
			const length = Math.min(message.length - done, 1 + this.#below(5000));
			this.memory.bytes.set(message.subarray(done, done + length), buffer);
			pieces.push({ address: buffer, length, flags: 0 });
			buffer += length;
			done += length;
		}
		for (let i = this.#below(4); i >= 0; i--)
			pieces.push({ address: BUFFERS + this.#below(0x4_0000), length: this.#below(9000), flags: 2 });
		for (const piece of pieces) {
			if (this.#below(300) === 0) piece.address = this.#number();
			if (this.#below(300) === 0) piece.length = this.#number();
			if (this.#below(300) === 0) piece.flags = this.#below(8);
		}
		const indirect = this.#below(3) === 0;
		const table = indirect ? BUFFERS + 0x7_0000 : at;
		const wrap = indirect ? pieces.length : Math.max(1, size);
		const head = this.#below(Math.max(1, size));
		const first = indirect ? 0 : head;
		for (const [i, { address, length, flags }] of pieces.entries()) {
			const index = (first + i) % wrap;
			const next = this.#below(300) === 0 ? this.#below(300) : (index + 1) % wrap;
			this.#descriptor(view, table + 16 * index, address, length, flags | (i + 1 < pieces.length ? 1 : 0), next);
		}
		if (indirect)
			this.#descriptor(
				view,
				at + 16 * head,
				table,
				16 * pieces.length + (this.#below(40) === 0 ? this.#number() : 0),
				4,
				0,
			);
		const available = at + 0x1000;
		const index = view.getUint16(available + 2, true);
		view.setUint16(available + 4 + 2 * (index % Math.max(1, size)), this.#below(200) === 0 ? this.#next() : head, true);
		view.setUint16(available + 2, this.#below(300) === 0 ? this.#next() : index + 1, true);
		if (this.#below(4) > 0) this.#write(device, 0x3000 + queue * 4, 2, queue);
	}

	#descriptor(view: DataView, at: number, address: number, length: number, flags: number, next: number): void {
		if (at + 16 > RAM_BYTES) return;
		view.setUint32(at, address, true);
		view.setUint32(at + 4, this.#below(200) === 0 ? this.#next() : 0, true);
		view.setUint32(at + 8, length, true);
		view.setUint16(at + 12, flags, true);
		view.setUint16(at + 14, next, true);
	}

	#message(device: VirtioDevice): Uint8Array {
		const message = this.#goodMessage(device);
		for (let i = this.#below(3) === 0 ? this.#below(6) : 0; i > 0 && message.length > 0; i--) {
			message[this.#below(message.length)] = this.#next();
		}
		return this.#below(30) === 0 ? message.slice(0, this.#below(message.length + 1)) : message;
	}

	#goodMessage(device: VirtioDevice): Uint8Array {
		switch (device.type) {
			case 2: {
				const request = this.#bytes(16 + 512 * this.#below(9));
				const view = new DataView(request.buffer);
				view.setUint32(0, [0, 1, 4, 8, 11, 13, this.#next()][this.#below(7)], true);
				view.setUint32(8, this.#below(2100), true);
				view.setUint32(12, 0, true);
				return request;
			}
			case 1:
				return this.#below(4) === 0 ? this.#control() : this.#outgoing();
			case 26:
				return this.#fuse();
			case 9:
				return this.#nineP();
			case 3: {
				const control = new Uint8Array(8);
				const view = new DataView(control.buffer);
				view.setUint32(0, this.#below(4), true);
				view.setUint16(4, this.#below(9), true);
				view.setUint16(6, this.#below(2), true);
				return this.#below(2) === 0 ? control : this.#bytes(this.#below(2000));
			}
			default:
				return this.#bytes(this.#below(100));
		}
	}

	#control(): Uint8Array {
		const [group, command] = [this.#below(6), this.#below(6)];
		return Uint8Array.of(group, command, ...this.#bytes(this.#below(30)));
	}

	/** A frame behind a virtio-net header: sometimes TCP to be segmented, sometimes DHCP, DNS or ARP that is none. */
	#outgoing(): Uint8Array {
		const frame = this.#ethernet();
		const message = new Uint8Array(12 + frame.length);
		message.set(frame, 12);
		if (this.#below(2) === 0) return message;
		const view = new DataView(message.buffer);
		message[0] = this.#below(4);
		message[1] = [0, 1, 3, 4, 5, 0x81, this.#next()][this.#below(7)];
		view.setUint16(2, this.#below(100), true);
		view.setUint16(4, [0, 1, 100, 1460, this.#next()][this.#below(5)], true);
		view.setUint16(6, this.#below(60), true);
		view.setUint16(8, [16, 6, 2, this.#below(2000)][this.#below(4)], true);
		return message;
	}

	#ethernet(): Uint8Array {
		const kind = this.#below(6);
		const payload = this.#bytes(this.#below(this.#below(5) === 0 ? 20_000 : 1200));
		const frame = new Uint8Array(54 + payload.length);
		const view = new DataView(frame.buffer);
		frame.fill(0xff, 0, 6);
		if (this.#below(2) === 0) frame.set([2, 0, 0x0a, 0, 2, 2]);
		frame.set([2, 0, 0, 0, 0, 1], 6);
		view.setUint16(12, [0x0800, 0x0800, 0x86dd, 0x0806, 0x8100, this.#next() & 0xffff][kind]);
		frame.set(payload, 54);
		frame[14] = kind === 2 ? 0x60 : 0x45;
		view.setUint16(kind === 2 ? 18 : 16, Math.min(65_535, frame.length - (kind === 2 ? 54 : 14)));
		frame[kind === 2 ? 20 : 23] = [6, 17, 1, 58, this.#next()][this.#below(5)];
		frame.set([10, 0, 2, 15, 10, 0, 2, 2], 26);
		if (this.#below(2) === 0) frame.set([0, 0, 0, 0, 255, 255, 255, 255], 26);
		view.setUint16(34, [68, 67, 53, this.#below(65_536)][this.#below(4)]);
		view.setUint16(36, [67, 53, 80, this.#below(65_536)][this.#below(4)]);
		view.setUint16(38, payload.length + 20);
		frame[46] = this.#below(2) === 0 ? 0x50 : this.#next();
		frame[47] = this.#next();
		return frame;
	}

	#field(): Field {
		switch (this.#below(6)) {
			case 0:
				return this.#below(8);
			case 1:
				return this.#number();
			case 2:
				return BigInt(this.#below(12));
			case 3:
				return (BigInt(this.#next()) << 32n) | BigInt(this.#next());
			default:
				return this.#bytes(this.#below(40));
		}
	}

	#fuse(): Uint8Array {
		const name = (): string => NAMES[this.#below(NAMES.length)];
		const node = BigInt(this.#below(4) === 0 ? this.#number() : 1 + this.#below(this.#below(3) === 0 ? 8 : 1));
		const handle = BigInt(1 + this.#below(8));
		const offset = BigInt(this.#below(4) === 0 ? this.#number() : this.#below(100));
		const data = this.#bytes(this.#below(3000));
		const good: readonly (() => Uint8Array)[] = [
			() => fuseRequest(OP.LOOKUP, node, name()),
			() => fuseRequest(OP.CREATE, node, this.#below(4), 0o644, 0, 0, name()),
			() => fuseRequest(OP.OPEN, node, this.#below(2048), 0),
			() => fuseRequest(OP.OPENDIR, node, 0, 0),
			() => fuseRequest(OP.READ, node, handle, offset, this.#number(), 0, 0n, 0, 0),
			() => fuseRequest(OP.WRITE, node, handle, offset, data.length, 0, 0n, 0, 0, data),
			() => fuseRequest(OP.READDIRPLUS, node, handle, offset, this.#number(), 0, 0n, 0, 0),
			() => fuseRequest(OP.READDIR, node, handle, offset, this.#number(), 0, 0n, 0, 0),
			() => fuseRequest(OP.MKDIR, node, 0o755, 0, name()),
			() => fuseRequest(OP.RENAME, node, node, name(), name()),
			() => fuseRequest(OP.LINK, node, node, name()),
			() => fuseRequest(OP.SYMLINK, node, name(), "target"),
			() => fuseRequest(OP.UNLINK, node, name()),
			() =>
				fuseRequest(OP.SETATTR, node, this.#below(512), 0, handle, offset, ...[0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0]),
			() => fuseRequest(OP.RELEASE, node, handle, 0, 0, 0n),
			() => fuseRequest(OP.FORGET, node, BigInt(this.#number())),
			() => fuseRequest(OP.BATCH_FORGET, 0n, this.#number(), 0, node, 1n),
			() => fuseRequest(this.#below(64), node, ...Array.from({ length: this.#below(8) }, () => this.#field())),
		];
		if (this.#below(100) === 0) return fuseRequest(OP.INIT, 0n, 7, 31 + this.#below(10), 65_536, 0xffff_ffff);
		return good[this.#below(good.length)]();
	}

	#nineP(): Uint8Array {
		const name = (): Uint8Array => string16(NAMES[this.#below(NAMES.length)]);
		if (this.#below(100) === 0) return p9Message(T.VERSION, 4096 + this.#below(100_000), string16("9P2000.L"));
		const fid = this.#below(6) === 0 ? this.#number() : 1 + this.#below(this.#below(2) === 0 ? 12 : 1);
		const to = 1 + this.#below(12);
		const offset = BigInt(this.#below(4) === 0 ? this.#number() : this.#below(100));
		const data = this.#bytes(this.#below(3000));
		const good: readonly (() => Uint8Array)[] = [
			() => p9Message(T.ATTACH, 1, 0xffff_ffff, name(), name(), 0),
			() => p9Message(T.WALK, fid, to, Uint8Array.of(1, 0), name()),
			() => p9Message(T.WALK, fid, to, Uint8Array.of(0, 0)),
			() => p9Message(T.LCREATE, fid, name(), this.#below(4), 0o644, 0),
			() => p9Message(T.LOPEN, fid, this.#below(2048)),
			() => p9Message(T.READ, fid, offset, this.#number()),
			() => p9Message(T.WRITE, fid, offset, data.length, data),
			() => p9Message(T.READDIR, fid, offset, this.#number()),
			() => p9Message(T.MKDIR, fid, name(), 0o755, 0),
			() => p9Message(T.RENAMEAT, fid, name(), to, name()),
			() => p9Message(T.LINK, fid, to, name()),
			() => p9Message(T.UNLINKAT, fid, name(), this.#below(2) * 0x200),
			() => p9Message(T.SETATTR, fid, this.#below(512), 0, 0, 0, offset, 0n, 0n, 0n, 0n),
			() => p9Message(T.GETATTR, fid, 0n),
			() => p9Message(T.CLUNK, fid),
			() => p9Message(this.#below(256), ...Array.from({ length: this.#below(8) }, () => this.#field())),
		];
		return good[this.#below(good.length)]();
	}

	/** Something comes in by the cable, from a peer that is no better. */
	#frame(): void {
		const offload: Offload | undefined =
			this.#below(2) === 0
				? undefined
				: {
						...{ needsCsum: this.#below(2) === 0, dataValid: this.#below(2) === 0, ecn: this.#below(2) === 0 },
						...{ csumStart: this.#below(100), csumOffset: this.#below(100), hdrLen: this.#below(100) },
						gsoType: (["none", "tcpv4", "tcpv6"] as const)[this.#below(3)],
						gsoSize: [0, 1, 100, 1460][this.#below(4)],
					};
		try {
			this.#peer.send(this.#ethernet(), offload);
		} catch (error) {
			// Too long for the link: the peer's own fault.
			if (!(error instanceof Error) || error.name !== "LinkError") throw error;
		}
	}

	/** Writes anywhere, rings included, behind the devices' backs. */
	#scribble(): void {
		const at = this.#below(2) === 0 ? this.#below(RAM_BYTES) : RINGS + this.#below(0x8_0000);
		this.memory.bytes.set(this.#bytes(Math.min(this.#below(64), RAM_BYTES - at)), at);
	}

	#machine(): void {
		const choice = this.#below(60);
		if (choice === 0) this.board.reset();
		else if (choice === 1) this.board.restore(JSON.parse(JSON.stringify(this.board.save())));
		else if (choice === 2) this.console.input(this.#below(2), this.#bytes(this.#below(5000)));
		else if (choice === 3) this.console.resize(this.#number(), this.#number());
		else if (choice === 4) this.console.setOpen(1, this.#below(2) === 0);
		else this.board.advance();
		this.board.flush();
	}
}
