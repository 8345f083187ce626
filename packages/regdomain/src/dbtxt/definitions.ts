/** A band or power under a name. */
export interface Definition<T> {
	value: T;
	/** The name an equal definition had before, or its own. */
	canonical: string;
	line: number;
	used: boolean;
}

/** Names of bands or powers, with the original's bookkeeping of duplicates. */
export class Definitions<T> {
	readonly byName: Map<string, Definition<T>> = new Map();
	readonly #nameOf = new Map<string, string>();

	/** Returns the name an equal definition had before. */
	add(name: string, value: T, key: string, line: number): string | undefined {
		const earlier = this.#nameOf.get(key);
		const used = this.byName.get(name)?.used ?? false;
		this.byName.set(name, { value, canonical: earlier ?? name, line, used });
		this.#nameOf.set(key, name);
		return earlier;
	}

	/** Definitions never used that are not duplicates. */
	*unused(): Generator<{ name: string; line: number }> {
		for (const [name, { used, canonical, line }] of this.byName) {
			if (!used && canonical === name) yield { name, line };
		}
	}
}
