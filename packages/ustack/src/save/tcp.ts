import type { Stack } from "../ip/stack.ts";
import type { TcpConfig } from "../tcp/config.ts";
import { TcpConnection, type TcpHandlers } from "../tcp/connection.ts";
import { EVENT_READABLE, EVENT_WRITABLE, notify, wantOutput } from "../tcp/events.ts";
import { TcpLayer } from "../tcp/layer.ts";
import { Listener, type ListenOptions } from "../tcp/listener.ts";
import { appendSegment } from "../tcp/queue.ts";
import { distance } from "../tcp/seq.ts";
import { rearm } from "../tcp/timers.ts";
import type { TimeWait } from "../tcp/timewait.ts";
import { toAddress } from "../wire/address.ts";
import { assignFields, bytesToText, fieldsOf, fromPlain, type Plain, type PlainFields, textToBytes } from "./plain.ts";

interface SavedConnection {
	local: string;
	localPort: number;
	remote: string;
	remotePort: number;
	fields: PlainFields;
	congestion: PlainFields;
	/** The retransmission queue, and which of it is looked at next for being lost. */
	segments: PlainFields[];
	resendHint: number;
	/** What the peer has not acknowledged; what the user has not read, with ranges ahead of holes behind it. */
	unacknowledged: string;
	unread: string;
	readable: number;
	/** Of a handshake under way, or of a connection its user does not have yet: the listener's place in the list. */
	listener: number;
	waitingFor: number;
	owner?: Plain;
	events: number;
}

interface SavedListener {
	port: number;
	address?: string;
	ipv6Only: boolean;
	fields: PlainFields;
	/** Established connections nobody accepted yet: places in the list. */
	queue: number[];
}

/** Everything of a TCP layer. */
export interface SavedTcp {
	config: PlainFields;
	secret: string;
	cookieKey: string;
	nextPort: number;
	stats: PlainFields;
	connections: SavedConnection[];
	listeners: SavedListener[];
	timeWaits: PlainFields[];
}

/** Who takes up again what was saved. */
export interface TcpUsers {
	/** The handlers of a connection that was its user's; {@link TcpConnection.owner} is what it was, if it was plain. */
	connection?: ((connection: TcpConnection) => TcpHandlers | undefined) | undefined;
	/** The callbacks of a listener. */
	listener?:
		| ((port: number, address: string | undefined) => Pick<ListenOptions, "onConnection" | "onSyn" | "configure">)
		| undefined;
}

const CONNECTION_PARTS = new Set([
	...["timerIndex", "timerAt", "layer", "path", "localPort", "remotePort", "listener", "handlers", "owner", "chain"],
	...["sendRing", "recvRing", "firstSegment", "lastSegment", "resendHint", "congestion", "error"],
	...["events", "needsOutput"],
]);
const LISTENER_PARTS = new Set(["layer", "port", "address", "ipv6Only", "options", "queue", "closed"]);
const LINKS = new Set(["next", "previous"]);

function saveConnection(c: TcpConnection, listeners: readonly Listener[]): SavedConnection {
	const segments: PlainFields[] = [];
	let resendHint = -1;
	for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) {
		if (segment === c.resendHint) resendHint = segments.length;
		segments.push(fieldsOf(segment, LINKS));
	}
	const unacknowledged = new Uint8Array(c.sendRing.length);
	c.sendRing.copyTo(0, unacknowledged, 0, unacknowledged.length);
	const ahead = c.receiveShut || c.ahead.length === 0 ? 0 : distance(c.ahead.at(-1)!, c.rcvNxt);
	const unread = new Uint8Array(c.recvRing.length + ahead);
	c.recvRing.copyTo(0, unread, 0, unread.length);
	const owner = c.owner instanceof Listener ? undefined : c.owner;
	const plainOwner = typeof owner === "string" || typeof owner === "number" ? owner : undefined;
	return {
		local: c.localAddress.toString(),
		localPort: c.localPort,
		remote: c.remoteAddress.toString(),
		remotePort: c.remotePort,
		fields: fieldsOf(c, CONNECTION_PARTS),
		congestion: fieldsOf(c.congestion),
		segments,
		resendHint,
		unacknowledged: bytesToText(unacknowledged),
		unread: bytesToText(unread),
		readable: c.recvRing.length,
		listener: c.listener === undefined ? -1 : listeners.indexOf(c.listener),
		waitingFor: c.owner instanceof Listener ? listeners.indexOf(c.owner) : -1,
		...(plainOwner !== undefined && { owner: plainOwner }),
		events: c.events,
	};
}

export function saveTcp(tcp: TcpLayer): SavedTcp {
	const connections = [...tcp.connections()];
	const listeners = [...tcp.listeners.all()];
	return {
		config: fieldsOf(tcp.config),
		secret: bytesToText(tcp.secret),
		cookieKey: bytesToText(tcp.cookies!.key),
		nextPort: tcp.nextPort,
		stats: fieldsOf(tcp.stats),
		connections: connections.map((c) => saveConnection(c, listeners)),
		listeners: listeners.map((listener) => ({
			port: listener.port,
			...(listener.address && { address: listener.address.toString() }),
			ipv6Only: listener.ipv6Only,
			fields: fieldsOf(listener, LISTENER_PARTS),
			queue: listener.queue.map((c) => connections.indexOf(c)),
		})),
		timeWaits: [...tcp.timeWaits.entries.values()].map((entry) => fieldsOf(entry)),
	};
}

function restoreConnection(tcp: TcpLayer, saved: SavedConnection): TcpConnection | undefined {
	const path = tcp.stack.path(toAddress(saved.remote), toAddress(saved.local));
	if (path === undefined) return undefined;
	const c = new TcpConnection(tcp, path, saved.localPort, saved.remotePort, undefined);
	for (const [i, fields] of saved.segments.entries()) {
		const segment = assignFields(tcp.segments.take(0, 0, 0), fields);
		appendSegment(c, segment);
		if (i === saved.resendHint) c.resendHint = segment;
	}
	assignFields(c, saved.fields);
	c.congestion = assignFields(
		tcp.createCongestion(saved.congestion["name"] === "reno" ? "reno" : "cubic"),
		saved.congestion,
	);
	for (const [ring, text] of [
		[c.sendRing, saved.unacknowledged],
		[c.recvRing, saved.unread],
	] as const) {
		const bytes = textToBytes(text);
		if (bytes.length > 0) ring.write(0, bytes, 0, bytes.length);
		ring.length = bytes.length;
	}
	c.recvRing.length = saved.readable;
	if (saved.owner !== undefined) c.owner = fromPlain(saved.owner);
	tcp.table.add(c);
	rearm(c);
	wantOutput(c);
	return c;
}

export function restoreTcp(stack: Stack, saved: SavedTcp, users: TcpUsers): TcpLayer {
	const tcp = new TcpLayer(stack, assignFields({}, saved.config) as Partial<TcpConfig>);
	tcp.secret.set(textToBytes(saved.secret));
	tcp.cookies!.key.set(textToBytes(saved.cookieKey));
	tcp.nextPort = saved.nextPort;
	assignFields(tcp.stats, saved.stats);
	const connections = saved.connections.map((connection) => restoreConnection(tcp, connection));
	const listeners = saved.listeners.map(({ port, address, ipv6Only, fields, queue }) => {
		const listener = tcp.listen({
			port,
			...(address !== undefined && { address: toAddress(address) }),
			ipv6Only,
			...users.listener?.(port, address),
		});
		assignFields(listener, fields);
		for (const at of queue) if (connections[at] !== undefined) listener.queue.push(connections[at]);
		return listener;
	});
	for (const [i, c] of connections.entries()) {
		if (c === undefined) continue;
		const { listener, waitingFor, events } = saved.connections[i]!;
		if (listener >= 0) c.listener = listeners[listener];
		else if (waitingFor >= 0) c.owner = listeners[waitingFor];
		else if (!c.orphan) c.handlers = users.connection?.(c);
		// What the user was told before and has not acted on is told again.
		const readable = c.recvRing.length > 0 ? EVENT_READABLE : 0;
		const again = events | readable | (c.wantsWritable ? EVENT_WRITABLE : 0);
		if (again !== 0) notify(c, again);
	}
	for (const fields of saved.timeWaits) {
		const entry = assignFields({}, fields) as TimeWait;
		tcp.timeWaits.entries.set(entry.key, entry);
		tcp.timeWaits.arm(entry.expires);
	}
	return tcp;
}
