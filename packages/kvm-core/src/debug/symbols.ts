/** A named address. */
export interface GuestSymbol {
	readonly name: string;
	/** `nm`'s letter: t and T code, d and D data, b and B zeroed data, r and R constants, a and A absolute, w and W weak. */
	readonly type: string;
	readonly address: bigint;
}

/** Symbols by name and by address. */
export class SymbolTable {
	readonly symbols: readonly GuestSymbol[];
	readonly #byName = new Map<string, GuestSymbol>();

	/** @param symbols - in any order */
	constructor(symbols: readonly GuestSymbol[]) {
		this.symbols = [...symbols].sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
		for (const symbol of this.symbols) if (!this.#byName.has(symbol.name)) this.#byName.set(symbol.name, symbol);
	}

	/** The first symbol of a name. */
	find(name: string): GuestSymbol | undefined {
		return this.#byName.get(name);
	}

	/** The symbol that an address lies behind, and how far; undefined below the first. */
	at(address: bigint): { symbol: GuestSymbol; offset: bigint } | undefined {
		let low = 0;
		let high = this.symbols.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.symbols[middle]!.address <= address) low = middle + 1;
			else high = middle;
		}
		const symbol = this.symbols[low - 1];
		return symbol === undefined ? undefined : { symbol, offset: address - symbol.address };
	}

	/** `name+0xoffset`, or the bare address where no symbol is near. */
	describe(address: bigint): string {
		const found = this.at(address);
		if (found === undefined || found.offset > FARTHEST) return `0x${address.toString(16)}`;
		return found.offset === 0n ? found.symbol.name : `${found.symbol.name}+0x${found.offset.toString(16)}`;
	}
}

/** Farther from a symbol than this, an address has nothing to do with it. */
const FARTHEST = 0x10_0000n;
