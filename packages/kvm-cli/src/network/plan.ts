import { randomBytes } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { parseCidr } from "@x/ustack";
import { SandboxError } from "../sandbox/errors.ts";
import { AT_FDCWD, type GuestKernel } from "../sandbox/system-calls.ts";
import { type GatewayThread, startGatewayThread } from "./gateway-thread.ts";
import { configureInterface, leaseAddress, writeResolver } from "./guest-network.ts";
import { GUEST, type LinkNetwork, type SandboxNetwork, type UserNetwork } from "./options.ts";
import { createRingCable, type RingLinkHandle } from "./ring-link.ts";

const MTU = 1500;
/** A card that shares its cable with a gateway only: nobody else can have the same. */
const ALONE = Uint8Array.of(0x02, 0, 0, 0, 0, 0x0f);
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";
const OWN_CERTIFICATES = "/etc/xkvm/certificates.pem";
/** Variables by which programs are told whom to trust. */
const TRUST_VARIABLES = [
	"SSL_CERT_FILE",
	"CURL_CA_BUNDLE",
	"REQUESTS_CA_BUNDLE",
	"NODE_EXTRA_CA_CERTS",
	"GIT_SSL_CAINFO",
];

/** How a sandbox's card is connected. */
export interface NetworkPlan {
	readonly mac: Uint8Array;
	/** The other end is a thread's, or a netchannel URL. */
	readonly cable: RingLinkHandle | string;
	readonly gateway: GatewayThread | undefined;
	/** Configures the guest, once its card has a driver, as every guest at such a network is. */
	readonly configure: ((kernel: GuestKernel) => Promise<void>) | undefined;
	/**
	 * Does what is this guest's own, and gives what its commands' environment gets.
	 *
	 * @param run - runs a program of the guest's to its end
	 */
	setUp(
		kernel: GuestKernel,
		run: (argv: readonly string[]) => Promise<unknown>,
	): Promise<Readonly<Record<string, string>>>;
}

function formatMac(mac: Uint8Array): string {
	return [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/**
 * Starts what a network needs.
 *
 * @throws SandboxError ERR_SANDBOX_OPTION
 */
export async function planNetwork(network: SandboxNetwork): Promise<NetworkPlan | undefined> {
	if (network === "none") return undefined;
	if (network === "user") return planUser({});
	return "link" in network ? planLink(network, Uint8Array.from([0x02, ...randomBytes(5)])) : planUser(network);
}

async function planUser(network: UserNetwork): Promise<NetworkPlan> {
	const mac = ALONE;
	const [guestEnd, gatewayEnd] = createRingCable(MTU);
	// The first thread of a process takes half of what a turn may.
	await nextTurn();
	const gateway = startGatewayThread(network, gatewayEnd, formatMac(mac));
	return {
		mac,
		cable: guestEnd,
		gateway,
		async configure(kernel) {
			await Promise.all([
				configureInterface(
					kernel,
					{ address: GUEST.address, prefix: GUEST.prefix, router: GUEST.router },
					{ address: GUEST.address6, prefix: GUEST.prefix6, router: GUEST.router6 },
				),
				writeResolver(kernel),
			]);
		},
		async setUp(kernel) {
			const { environment, certificate } = await gateway.ready;
			return { ...environment, ...(certificate !== undefined && (await trust(kernel, certificate))) };
		},
	};
}

/** Makes the guest's programs trust the gateway's authority besides those they trust already. */
async function trust(kernel: GuestKernel, certificate: string): Promise<Readonly<Record<string, string>>> {
	const theirs = await kernel.readFile(CERTIFICATES).catch(() => "");
	await kernel.attempt("mkdirat", [AT_FDCWD, "/etc/xkvm", 0o755]);
	await kernel.writeFile(OWN_CERTIFICATES, `${theirs}\n${certificate}\n`);
	return Object.fromEntries(TRUST_VARIABLES.map((name) => [name, OWN_CERTIFICATES]));
}

function planLink({ link, address, gateway }: LinkNetwork, mac: Uint8Array): NetworkPlan {
	const cidr = address === undefined ? undefined : parseCidr(address);
	if (address !== undefined && cidr?.family !== 4) {
		throw new SandboxError(
			"ERR_SANDBOX_OPTION",
			`network.address ${address}: expected an IPv4 address with its prefix, for instance 192.168.7.2/24`,
			{ value: address },
		);
	}
	return {
		mac,
		cable: link,
		gateway: undefined,
		configure: undefined,
		async setUp(kernel, run) {
			const v4 = cidr && { address: String(cidr.address), prefix: cidr.prefix, router: gateway };
			await configureInterface(kernel, v4, undefined);
			if (v4 === undefined) await leaseAddress(kernel, run);
			return {};
		},
	};
}
