import type { SharedFolder, ShareListing, ShareNode } from "./directory.ts";

/** A place in the names of a folder. Protocols read them in pieces, and may come back to any place they were told of. */
export class FolderCursor {
	readonly node: ShareNode;
	readonly #folder: SharedFolder;
	#listing: ShareListing;
	/** Names given so far. */
	#position = 0;
	/** Given, and given back: there was no room for it. */
	#pending: string | undefined;

	constructor(folder: SharedFolder, node: ShareNode) {
		this.#folder = folder;
		this.node = node;
		this.#listing = folder.list(node);
	}

	/** What to come back to for the names behind the last one given. */
	get position(): number {
		return this.#position;
	}

	/** Goes to a place; beyond the end there are no more names. */
	seek(position: number): void {
		if (position < this.#position) {
			const again = this.#folder.list(this.node);
			this.#listing.close();
			this.#listing = again;
			this.#position = 0;
			this.#pending = undefined;
		}
		while (this.#position < position && this.next() !== undefined);
	}

	next(): string | undefined {
		const name = this.#pending ?? this.#listing.next();
		this.#pending = undefined;
		if (name !== undefined) this.#position++;
		return name;
	}

	/** The name `next` gave last will be the next again. */
	putBack(name: string): void {
		this.#pending = name;
		this.#position--;
	}

	close(): void {
		this.#listing.close();
	}
}
