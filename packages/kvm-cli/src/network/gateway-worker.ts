/** The thread a sandbox's gateway runs in. */
import { parentPort, workerData } from "node:worker_threads";
import { createGateway } from "@x/ustack/gateway";
import { createHttpInterceptor, createNodeOutbound } from "@x/ustack/node";
import type { FromGateway, GatewaySetup, ToGateway } from "./gateway-messages.ts";
import { RingLink } from "./ring-link.ts";

const port = parentPort!;
const setup = workerData as GatewaySetup;

function tell(message: FromGateway): void {
	port.postMessage(message);
}

function reasonOf(error: unknown): { code: string; message: string } {
	const { code, message } = error as Error & { code?: unknown };
	return { code: String(code ?? "FAILED"), message: String(message) };
}

async function run(): Promise<void> {
	const asked = new Map<number, (allowed: boolean) => void>();
	let question = 0;
	const interceptor =
		setup.secrets.length === 0
			? undefined
			: createHttpInterceptor({
					secrets: setup.secrets,
					serverAuthorities: setup.serverAuthorities,
					ports: "any",
				});
	const link = new RingLink(setup.link);
	const gateway = createGateway({
		...setup.config,
		outbound: createNodeOutbound(setup.dnsServers === undefined ? {} : { dnsServers: setup.dnsServers }),
		link,
		...(interceptor !== undefined && { interceptor }),
		onAudit: (event) => tell({ type: "audit", event }),
		...(setup.decides && {
			decide: (request) =>
				new Promise<boolean>((resolve) => {
					const id = question++;
					asked.set(id, resolve);
					tell({ type: "decide", id, request });
				}),
		}),
	});
	port.on("message", (message: ToGateway) => {
		switch (message.type) {
			case "publish":
				gateway.publish(message.options).then(
					(forward) => tell({ type: "published", id: message.id, forward }),
					(error: unknown) => tell({ type: "refused", id: message.id, ...reasonOf(error) }),
				);
				break;
			case "unpublish":
				gateway.unpublish(message.forward);
				tell({ type: "unpublished", id: message.id });
				break;
			case "decided":
				asked.get(message.id)?.(message.allowed);
				asked.delete(message.id);
				break;
			case "close":
				gateway.close();
				link.close();
				port.close();
				break;
		}
	});
	tell({ type: "ready", forwards: await gateway.ready, certificate: interceptor?.authority.certificate });
}

run().catch((error: unknown) => {
	tell({ type: "failed", ...reasonOf(error) });
	port.close();
});
