import { closeSync, readSync } from "node:fs";
import type { KvmStats } from "../kvm/optional.ts";
import { KVM } from "./ioctls.ts";
import type { Libc } from "./libc.node.ts";

/** struct kvm_stats_header and struct kvm_stats_desc. */
const HEADER = { bytes: 24, nameSize: 4, count: 8, descriptors: 16, data: 20 } as const;
const DESCRIPTOR = { bytes: 16, size: 6, offset: 8 } as const;

/** The values that KVM's statistics descriptor shows of a VM or vCPU; histograms are left out. */
export function readStats(libc: Libc, fd: number): KvmStats {
	const stats = libc.ioctl(fd, KVM.GET_STATS_FD, 0, "KVM_GET_STATS_FD");
	try {
		const read = (at: number, bytes: number): Buffer => {
			const buffer = Buffer.alloc(bytes);
			return buffer.subarray(0, readSync(stats, buffer, 0, bytes, at));
		};
		const header = read(0, HEADER.bytes);
		const nameSize = header.readUInt32LE(HEADER.nameSize);
		const count = header.readUInt32LE(HEADER.count);
		const stride = DESCRIPTOR.bytes + nameSize;
		const descriptors = read(header.readUInt32LE(HEADER.descriptors), count * stride);
		const found = Array.from({ length: Math.floor(descriptors.length / stride) }, (_, i) => {
			const at = i * stride;
			const name = descriptors.subarray(at + DESCRIPTOR.bytes, at + stride).toString("latin1");
			return {
				name: name.slice(0, name.indexOf("\0")),
				values: descriptors.readUInt16LE(at + DESCRIPTOR.size),
				offset: descriptors.readUInt32LE(at + DESCRIPTOR.offset),
			};
		}).filter(({ values }) => values === 1);
		const data = read(
			header.readUInt32LE(HEADER.data),
			found.reduce((end, { offset }) => Math.max(end, offset + 8), 0),
		);
		return Object.fromEntries(found.map(({ name, offset }) => [name, data.readBigUInt64LE(offset)]));
	} finally {
		closeSync(stats);
	}
}
