import { createLinkPair } from "@x/netchannel";
import { createHost, type Host } from "@x/ustack";

/** Two hosts back to back on one wire in memory. */
export interface Pair {
	a: Host;
	b: Host;
	close(): void;
}

export function pair(mtu = 1500, offload = false): Pair {
	const [left, right] = createLinkPair({
		mtu,
		...(offload ? { features: { checksum: true, tso4: true, tso6: true } } : {}),
	});
	const a = createHost();
	const b = createHost();
	a.attach(left, { addresses: ["10.0.0.1/24"] });
	b.attach(right, { addresses: ["10.0.0.2/24"] });
	return {
		a,
		b,
		close() {
			a.close();
			b.close();
		},
	};
}
