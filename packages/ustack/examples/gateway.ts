import { createLinkPair } from "@x/netchannel";
import { createGateway } from "@x/ustack/gateway";
import { createHttpInterceptor, createNodeOutbound } from "@x/ustack/node";

// A guest's end and the gateway's.
const [, link] = createLinkPair();
const interceptor = createHttpInterceptor({
	hooks: { onRequest: ({ method }) => (method === "DELETE" ? { action: "block", reason: "read only" } : undefined) },
	secrets: [{ name: "token", placeholder: "placeholder-token", value: "s3cr3t-value", hosts: ["api.example.com"] }],
});
const gateway = createGateway({
	link,
	outbound: createNodeOutbound(),
	interceptor,
	policy: { allow: ["*.example.com:443", { network: "192.0.2.0/24", ports: [8000, 8100] }] },
	decide: async ({ names, port }) => port === 443 && names.length > 0,
	onAudit: (event) => void event,
	limits: { connections: 100, bytesPerSecondOut: 10_000_000 },
});
const forward = await gateway.publish({ hostPort: 0, guestPort: 80 });
gateway.unpublish(forward);
gateway.setPolicy({ deny: ["*"] });
gateway.close();
