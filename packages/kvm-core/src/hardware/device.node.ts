import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
import type { KvmDevice } from "../kvm/optional.ts";
import { KVM } from "./ioctls.ts";
import type { Libc } from "./libc.node.ts";

/** A device inside the kernel. */
export class HardwareDevice implements KvmDevice {
	readonly #libc: Libc;
	readonly #fd: number;
	#closed = false;

	constructor(libc: Libc, vmFd: number, type: number, flags: number) {
		this.#libc = libc;
		const bytes = new Uint8Array(Uint32Array.of(type, 0, flags).buffer);
		libc.ioctlBuffer(vmFd, KVM.CREATE_DEVICE, bytes, "KVM_CREATE_DEVICE");
		this.#fd = new DataView(bytes.buffer).getInt32(4, true);
	}

	hasAttr(group: number, attr: bigint): boolean {
		try {
			this.#attr(KVM.HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR", group, attr, 0n);
			return true;
		} catch (error) {
			if (error instanceof KvmError && (error.code === "ENXIO" || error.code === "EINVAL")) return false;
			throw error;
		}
	}

	setAttr(group: number, attr: bigint, value: Uint8Array): void {
		this.#attr(KVM.SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR", group, attr, this.#libc.addressOf(value));
	}

	getAttr(group: number, attr: bigint, value: Uint8Array): void {
		this.#attr(KVM.GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR", group, attr, this.#libc.addressOf(value));
	}

	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		closeSync(this.#fd);
	}

	#attr(request: number, name: string, group: number, attr: bigint, address: bigint): void {
		if (this.#closed) throw new KvmError("ENODEV", name, "the device is closed");
		const bytes = new Uint8Array(24);
		const view = new DataView(bytes.buffer);
		view.setUint32(4, group, true);
		view.setBigUint64(8, attr, true);
		view.setBigUint64(16, address, true);
		this.#libc.ioctlBuffer(this.#fd, request, bytes, name);
	}
}
