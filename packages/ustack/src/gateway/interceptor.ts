import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { FirstBytes } from "./first-bytes.ts";
import type { AuditEvent, EgressRequest } from "./options.ts";
import type { OutboundStream } from "./outbound.ts";
import type { Verdict } from "./policy.ts";

/** A guest's connection on its way to an {@link Interceptor}. */
export interface InterceptedConnection {
	readonly request: EgressRequest;
	/** What its first bytes are: TLS with a server name, or HTTP. */
	readonly first: FirstBytes;
	readonly host: Host;
	/** The guest's end; nothing has been read from it. */
	readonly connection: TcpConnection;
	/** The outside's end, connected and paused. */
	readonly stream: OutboundStream;
	/** Another connection to the same place outside. */
	reconnect(): OutboundStream;
	/** Whether the policy lets this connection name a server. */
	decideName(name: string): Verdict;
	/** Tells the audit log; the flow's own fields are filled in. */
	audit(event: Pick<AuditEvent, "action" | "protocol" | "reason"> & Partial<AuditEvent>): void;
	/** The connection is over. */
	done(): void;
}

/** Takes connections over that it understands, instead of the plain relay. */
export interface Interceptor {
	/** Whether the first bytes of connections to this place are worth looking at. */
	listens(request: EgressRequest): boolean;
	/** Whether it takes this connection. */
	wants(request: EgressRequest, first: FirstBytes): boolean;
	take(connection: InterceptedConnection): void;
}
