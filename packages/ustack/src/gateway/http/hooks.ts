/** Header fields in order, names as they came. */
export type HeaderList = readonly (readonly [string, string])[];

/** A guest's request as a hook sees it: with placeholders, never with secrets. Plain data. */
export interface HttpRequestInfo {
	/** Counts an interceptor's requests from 1. */
	readonly id: number;
	/** The flow's number in the audit. */
	readonly flow: number;
	/** The guest's MAC address. */
	readonly guest: string;
	readonly method: string;
	/** Absolute. */
	readonly url: string;
	readonly headers: HeaderList;
}

/** A server's response as a hook sees it: secrets are placeholders again. Plain data. */
export interface HttpResponseInfo {
	readonly request: HttpRequestInfo;
	readonly status: number;
	readonly headers: HeaderList;
}

/** A body as it streams; the peer waits while it is not read. */
export type BodyStream = AsyncIterable<Uint8Array>;

/** A body a hook gives. */
export type BodyInit = string | Uint8Array | BodyStream;

/** Answers in the server's place. */
export interface HttpAnswer {
	readonly action: "answer";
	readonly status: number;
	readonly headers?: HeaderList;
	readonly body?: BodyInit;
}

/** Refuses: 403 and an audit line with `reason`. */
export interface HttpBlock {
	readonly action: "block";
	/** @default 403 */
	readonly status?: number;
	readonly reason?: string;
}

/** Goes on, changed. What is absent stays as it is; the host cannot be changed. */
export interface HttpForward {
	readonly action: "forward";
	readonly method?: string;
	/** Path and query. */
	readonly path?: string;
	readonly headers?: HeaderList;
	/** In place of the guest's; for a change of it, made of the hook's `body`. */
	readonly body?: BodyInit;
}

/** Goes back to the guest, changed. What is absent stays as it is. */
export interface HttpRespond {
	readonly action: "respond";
	readonly status?: number;
	readonly headers?: HeaderList;
	readonly body?: BodyInit;
}

/** What an owner has to say about guests' HTTP. An error a hook throws is a 502, and nothing goes out. */
export interface HttpHooks {
	/** Sees a request before anything of it goes out; nothing returned lets it go as it is. A body it reads it must give. */
	readonly onRequest?: (
		request: HttpRequestInfo,
		body: BodyStream,
	) => HttpAnswer | HttpBlock | HttpForward | undefined | Promise<HttpAnswer | HttpBlock | HttpForward | undefined>;
	/** Sees a response before anything of it reaches the guest. */
	readonly onResponse?: (
		response: HttpResponseInfo,
		body: BodyStream,
	) => HttpBlock | HttpRespond | undefined | Promise<HttpBlock | HttpRespond | undefined>;
}
