import type { ShareFile, ShareKind, ShareNode } from "@x/kvm-core";

/** Names of one file a guest may know at once; hard links beyond are found again by looking them up. */
const MAX_NAMES = 64;

/** A name of a node. */
export interface HostName {
	readonly folder: HostNode;
	readonly name: string;
}

/** What a guest knows of one file of the host: which it is, and where it was last seen. */
export class HostNode implements ShareNode {
	readonly kind: ShareKind;
	/** Device and inode number. */
	readonly identity: string;
	references = 0;
	/** Open files: through them a file can be reached that has no name any more. */
	readonly files: Set<ShareFile & { readonly descriptor: number }> = new Set();
	#names: HostName[] = [];

	constructor(kind: ShareKind, identity: string) {
		this.kind = kind;
		this.identity = identity;
	}

	/** Where it was seen, last first. */
	names(): readonly HostName[] {
		return this.#names;
	}

	addName(folder: HostNode, name: string): void {
		const first = this.#names[0];
		if (first?.folder === folder && first.name === name) return;
		// A folder has one name only: where it was seen last.
		const others = this.kind === "folder" ? [] : this.#without(folder, name);
		this.#names = [{ folder, name }, ...others].slice(0, MAX_NAMES);
	}

	removeName(folder: HostNode, name: string): void {
		this.#names = this.#without(folder, name);
	}

	anyFile(): (ShareFile & { readonly descriptor: number }) | undefined {
		for (const file of this.files) return file;
		return undefined;
	}

	#without(folder: HostNode, name: string): HostName[] {
		return this.#names.filter((one) => one.folder !== folder || one.name !== name);
	}
}
