import { createLinkPair, type LinkPairOptions } from "@x/netchannel";
import { createHost, type Host } from "../src/socket/host.ts";
import type { TcpConfig } from "../src/tcp/config.ts";

/** Two hosts in real time on an in-memory wire: 10.0.0.1 / fd00::1 and 10.0.0.2 / fd00::2. */
export function hosts(link: LinkPairOptions = {}, tcp: Partial<TcpConfig> = {}): { a: Host; b: Host; close(): void } {
	const [left, right] = createLinkPair(link);
	const a = createHost({ tcp });
	const b = createHost({ tcp });
	a.attach(left, { addresses: ["10.0.0.1/24", "fd00::1/64"] });
	b.attach(right, { addresses: ["10.0.0.2/24", "fd00::2/64"] });
	return {
		a,
		b,
		close() {
			a.close();
			b.close();
		},
	};
}
