import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { ShareError } from "@x/kvm-core";
import type { HostNode } from "./host-node.ts";

const O_PATH = 0o10000000;
const FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Descriptors kept open. */
const LIMIT = 64;
/** Longest way from the root to a folder. */
const MAX_DEPTH = 1024;

/**
 * Descriptors of a share's folders. Each is opened from its parent's by one name, without following a link, and must turn
 * out to be the folder it is to be; so it is inside of the share, or was when it was opened.
 */
export class FolderDescriptors {
	readonly #root: HostNode;
	readonly #rootDescriptor: number;
	/** In order of use. */
	readonly #open = new Map<HostNode, number>();
	#closed = false;

	constructor(root: HostNode, descriptor: number) {
		this.#root = root;
		this.#rootDescriptor = descriptor;
	}

	/**
	 * A descriptor of a folder, good for names below it until the call after next.
	 *
	 * @throws ShareError ESTALE when the folder is not where it was
	 */
	open(folder: HostNode): number {
		if (this.#closed) throw new ShareError("ESTALE");
		if (folder.kind !== "folder") throw new ShareError("ENOTDIR");
		if (folder === this.#root) return this.#rootDescriptor;
		const known = this.#open.get(folder);
		if (known !== undefined) {
			this.#open.delete(folder);
			this.#open.set(folder, known);
			return known;
		}
		const way: HostNode[] = [folder];
		let from = this.#rootDescriptor;
		for (let node = parentOf(folder); node !== this.#root; node = parentOf(node)) {
			const descriptor = this.#open.get(node);
			if (descriptor !== undefined) {
				from = descriptor;
				break;
			}
			if (way.length >= MAX_DEPTH) throw new ShareError("ELOOP");
			way.push(node);
		}
		const descriptor = descend(from, way.reverse());
		this.#open.set(folder, descriptor);
		if (this.#open.size > LIMIT) {
			const [oldest] = this.#open.keys();
			this.forget(oldest!);
		}
		return descriptor;
	}

	/** Closes a folder's descriptor. */
	forget(folder: HostNode): void {
		const descriptor = this.#open.get(folder);
		if (descriptor === undefined) return;
		this.#open.delete(folder);
		closeSync(descriptor);
	}

	close(): void {
		if (this.#closed) return;
		for (const folder of [...this.#open.keys()]) this.forget(folder);
		closeSync(this.#rootDescriptor);
		this.#closed = true;
	}
}

function parentOf(node: HostNode): HostNode {
	const name = node.names()[0];
	if (name === undefined) throw new ShareError("ESTALE");
	return name.folder;
}

/** Opens folder after folder, and keeps the last. */
function descend(from: number, way: readonly HostNode[]): number {
	let current = from;
	for (const node of way) {
		const next = openStep(current, node, current !== from);
		current = next;
	}
	return current;
}

function openStep(parent: number, node: HostNode, closeParent: boolean): number {
	try {
		const descriptor = openSync(`/proc/self/fd/${parent}/${node.names()[0]!.name}`, FLAGS);
		const stats = fstatSync(descriptor, { bigint: true });
		if (`${stats.dev}:${stats.ino}` === node.identity) return descriptor;
		closeSync(descriptor);
		throw new ShareError("ESTALE");
	} finally {
		if (closeParent) closeSync(parent);
	}
}
