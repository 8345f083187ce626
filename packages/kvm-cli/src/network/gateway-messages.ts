import type { AuditEvent, EgressRequest, Forward, GatewayConfig, PublishOptions } from "@x/ustack/gateway";
import type { Secret } from "@x/ustack/node";
import type { RingLinkHandle } from "./ring-link.ts";

/** What the gateway's thread is started with. */
export interface GatewaySetup {
	readonly config: GatewayConfig;
	readonly link: RingLinkHandle;
	readonly dnsServers: readonly string[] | undefined;
	readonly secrets: readonly Secret[];
	readonly serverAuthorities: readonly string[];
	/** Ask about what the rules allow. */
	readonly decides: boolean;
}

/** What it tells. */
export type FromGateway =
	| { readonly type: "ready"; readonly forwards: readonly Forward[]; readonly certificate: string | undefined }
	| { readonly type: "failed"; readonly code: string; readonly message: string }
	| { readonly type: "audit"; readonly event: AuditEvent }
	| { readonly type: "decide"; readonly id: number; readonly request: EgressRequest }
	| { readonly type: "published"; readonly id: number; readonly forward: Forward }
	| { readonly type: "unpublished"; readonly id: number }
	| { readonly type: "refused"; readonly id: number; readonly code: string; readonly message: string };

/** What it is told. */
export type ToGateway =
	| { readonly type: "publish"; readonly id: number; readonly options: PublishOptions }
	| { readonly type: "unpublish"; readonly id: number; readonly forward: number }
	| { readonly type: "decided"; readonly id: number; readonly allowed: boolean }
	| { readonly type: "close" };
