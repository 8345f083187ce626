/** Bytes to look for and what to put in their place. */
export interface Replacement {
	readonly find: Uint8Array;
	readonly put: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/**
 * Replaces byte strings in a stream, however it is cut: the leftmost first, the longest of those. What may be the
 * beginning of one is held back, less than the longest of them.
 */
export class StreamReplacer {
	private readonly replacements: readonly Replacement[];
	private readonly starts: Uint8Array;
	private held: Uint8Array = EMPTY;
	/** Replacements made. */
	count = 0;

	constructor(replacements: readonly Replacement[]) {
		this.replacements = replacements
			.filter(({ find }) => find.length > 0)
			.sort((x, y) => y.find.length - x.find.length);
		this.starts = new Uint8Array(256);
		for (const { find } of this.replacements) this.starts[find[0]!] = 1;
	}

	/** Takes a piece; returns what may go on. */
	push(piece: Uint8Array): Uint8Array {
		return this.scan(piece, false);
	}

	/** The rest, when no piece follows. */
	end(): Uint8Array {
		return this.scan(EMPTY, true);
	}

	private scan(piece: Uint8Array, last: boolean): Uint8Array {
		let bytes = piece;
		if (this.held.length > 0) {
			bytes = new Uint8Array(this.held.length + piece.length);
			bytes.set(this.held);
			bytes.set(piece, this.held.length);
			this.held = EMPTY;
		}
		const out: Uint8Array[] = [];
		let from = 0;
		let at = 0;
		for (; at < bytes.length; at++) {
			if (this.starts[bytes[at]!] === 0) continue;
			const match = this.matchAt(bytes, at, last);
			if (match === undefined) continue;
			if (match === "perhaps") break;
			if (at > from) out.push(bytes.subarray(from, at));
			out.push(match.put);
			this.count++;
			at += match.find.length - 1;
			from = at + 1;
		}
		if (at > from) out.push(bytes.subarray(from, at));
		if (at < bytes.length) this.held = bytes.slice(at);
		return out.length === 1 ? out[0]! : joined(out);
	}

	private matchAt(bytes: Uint8Array, at: number, last: boolean): Replacement | "perhaps" | undefined {
		const left = bytes.length - at;
		for (const replacement of this.replacements) {
			const { find } = replacement;
			const count = Math.min(find.length, left);
			let i = 0;
			while (i < count && bytes[at + i] === find[i]) i++;
			if (i < count) continue;
			if (count === find.length) return replacement;
			if (!last) return "perhaps";
		}
		return undefined;
	}
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
	const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}
