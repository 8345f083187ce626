import type { TcpConnection } from "../tcp/connection.ts";
import { CA_CWR, CA_DISORDER, CA_LOSS, CA_OPEN, CA_RECOVERY } from "../tcp/state.ts";

const CONSTANTS: Record<string, number> = {
	TCPI_OPT_TIMESTAMPS: 1,
	TCPI_OPT_SACK: 2,
	TCPI_OPT_WSCALE: 4,
	TCPI_OPT_ECN: 8,
	TCPI_OPT_ECN_SEEN: 16,
	TCPI_OPT_SYN_DATA: 32,
	TCP_CA_Open: CA_OPEN,
	TCP_CA_Disorder: CA_DISORDER,
	TCP_CA_CWR: CA_CWR,
	TCP_CA_Recovery: CA_RECOVERY,
	TCP_CA_Loss: CA_LOSS,
	TCP_INFINITE_SSTHRESH: 0x7fffffff,
};

/** Linux's numbers of the states, by ours. */
const LINUX_STATES: Record<string, number> = {
	ESTABLISHED: 1,
	"SYN-SENT": 2,
	"SYN-RECEIVED": 3,
	"FIN-WAIT-1": 4,
	"FIN-WAIT-2": 5,
	"TIME-WAIT": 6,
	CLOSED: 7,
	"CLOSE-WAIT": 8,
	"LAST-ACK": 9,
	LISTEN: 10,
	CLOSING: 11,
};

for (const [name, value] of Object.entries(LINUX_STATES))
	CONSTANTS[
		`TCP_${name.replace("SYN-RECEIVED", "SYN_RECV").replace("CLOSED", "CLOSE").replace(/-(\d)/, "$1").replace("-", "_")}`
	] = value;

/** What a name in an assert stands for: a field of tcp_info or one of its constants. */
export function infoNames(c: TcpConnection | undefined, name: string): number | undefined {
	const constant = CONSTANTS[name.replace(/^socket\./, "")];
	if (constant !== undefined) return constant;
	if (!name.startsWith("tcpi_")) return undefined;
	if (c === undefined) return name === "tcpi_state" ? LINUX_STATES["CLOSED"] : undefined;
	const info = c.info();
	const { options } = info;
	switch (name) {
		case "tcpi_state":
			return LINUX_STATES[info.state];
		case "tcpi_ca_state":
			return c.caState;
		case "tcpi_options":
			return (
				(options.timestamps ? 1 : 0) |
				(options.sack ? 2 : 0) |
				(options.wscale ? 4 : 0) |
				(options.ecn ? 8 : 0) |
				(options.ecnSeen ? 16 : 0) |
				(options.synData ? 32 : 0)
			);
		default: {
			const key = name.slice(5).replace(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase());
			const value = (info as unknown as Record<string, unknown>)[key];
			return typeof value === "number" ? value : undefined;
		}
	}
}
