import { randomBytes } from "node:crypto";
import { Worker } from "node:worker_threads";
import type { Forward, PublishOptions } from "@x/ustack/gateway";
import { SandboxError } from "../sandbox/errors.ts";
import { workerFile } from "../sandbox/worker-file.ts";
import type { FromGateway, GatewaySetup, ToGateway } from "./gateway-messages.ts";
import { GUEST, type UserNetwork } from "./options.ts";
import type { RingLinkHandle } from "./ring-link.ts";

/** What the guest is to be given of its gateway. */
export interface GatewayReady {
	/** Environment: placeholders by secret's name. */
	readonly environment: Readonly<Record<string, string>>;
	/** The authority whose certificates the guest is to trust, in PEM. */
	readonly certificate: string | undefined;
	/** Ports that were to be published from the start, in order. */
	readonly forwards: readonly Forward[];
}

/** A gateway in a thread of its own. */
export interface GatewayThread {
	readonly ready: Promise<GatewayReady>;
	publish(options: PublishOptions): Promise<Forward>;
	unpublish(forward: Forward): Promise<void>;
	terminate(): Promise<void>;
}

function toGuest(options: PublishOptions): PublishOptions {
	return { guestAddress: GUEST.address, ...options };
}

/** Starts a guest's gateway at its end of the cable. */
export function startGatewayThread(network: UserNetwork, link: RingLinkHandle, mac: string): GatewayThread {
	const secrets = (network.secrets ?? []).map((secret) => ({
		...secret,
		placeholder: `xkvm-${randomBytes(12).toString("hex")}`,
		parts: ["header", "url", "body"] as const,
	}));
	const setup: GatewaySetup = {
		config: {
			policy: { allow: network.allow ?? [], deny: network.deny ?? [] },
			fixed: { [mac]: GUEST.address },
			publish: (network.publish ?? []).map(toGuest),
			expose: (network.expose ?? []).map(({ port, address, hostPort }) => ({
				port,
				hostPort,
				address: address ?? "127.0.0.1",
			})),
			...(network.limits !== undefined && { limits: network.limits }),
			...(network.zones !== undefined && { zones: network.zones }),
		},
		link,
		dnsServers: network.dnsServers,
		secrets,
		serverAuthorities: network.serverAuthorities ?? [],
		decides: network.decide !== undefined,
	};
	const worker = new Worker(workerFile("gateway-worker"), { workerData: setup, execArgv: [], stdin: false });
	const tell = (message: ToGateway): void => worker.postMessage(message);
	const waiting = new Map<number, { resolve(forward: Forward): void; reject(error: Error): void }>();
	let next = 0;
	let fail: (error: SandboxError) => void = () => {};
	let succeed: (ready: GatewayReady) => void = () => {};
	const ready = new Promise<GatewayReady>((resolve, reject) => {
		succeed = resolve;
		fail = reject;
	});
	ready.catch(() => {});
	const lost = (message: string, value?: unknown): void => {
		const error = new SandboxError("ERR_SANDBOX_NETWORK", `the gateway: ${message}`, { value });
		fail(error);
		for (const { reject } of waiting.values()) reject(error);
		waiting.clear();
	};
	worker.on("message", (message: FromGateway) => {
		switch (message.type) {
			case "ready":
				succeed({
					environment: Object.fromEntries(secrets.map(({ name, placeholder }) => [name, placeholder])),
					certificate: message.certificate,
					forwards: message.forwards,
				});
				break;
			case "failed":
				lost(message.message, message.code);
				break;
			case "audit":
				network.onAudit?.(message.event);
				break;
			case "decide":
				Promise.resolve(message.request)
					.then((request) => network.decide?.(request) ?? false)
					.then(
						(allowed) => tell({ type: "decided", id: message.id, allowed }),
						() => tell({ type: "decided", id: message.id, allowed: false }),
					);
				break;
			default: {
				const waiter = waiting.get(message.id);
				waiting.delete(message.id);
				if (message.type === "published") waiter?.resolve(message.forward);
				else if (message.type === "unpublished") waiter?.resolve({ id: 0, port: 0 });
				else
					waiter?.reject(
						new SandboxError("ERR_SANDBOX_NETWORK", `publish: ${message.message}`, { value: message.code }),
					);
			}
		}
	});
	worker.on("error", (error) => lost(error.message));
	worker.on("exit", () => lost("it has ended"));
	const request = (make: (id: number) => ToGateway): Promise<Forward> =>
		new Promise((resolve, reject) => {
			const id = next++;
			waiting.set(id, { resolve, reject });
			tell(make(id));
		});
	return {
		ready,
		publish: (options) => request((id) => ({ type: "publish", id, options: toGuest(options) })),
		async unpublish({ id: forward }) {
			await request((id) => ({ type: "unpublish", id, forward }));
		},
		async terminate() {
			await worker.terminate();
		},
	};
}
