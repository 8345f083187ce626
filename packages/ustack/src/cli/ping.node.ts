import { type CommandIo, EXIT, UsageError } from "./io.ts";
import { LINK_OPTIONS, openHost, parse, stringOf } from "./options.node.ts";

const INTERVAL_MS = 1_000;
const TIMEOUT_MS = 2_000;

/** `ustack ping HOST`. */
export async function pingCommand(args: readonly string[], io: CommandIo): Promise<number> {
	const { values, positionals } = parse(args, {
		...LINK_OPTIONS,
		count: { type: "string", short: "c" },
		size: { type: "string", short: "s" },
	});
	const [name] = positionals;
	if (name === undefined || positionals.length > 1) throw new UsageError("ping takes one HOST");
	const count = Number(stringOf(values, "count") ?? 4);
	const size = Number(stringOf(values, "size") ?? 56);
	if (!Number.isInteger(count) || count < 1)
		throw new UsageError(`--count "${stringOf(values, "count")}" is no whole number above 0`);
	if (!Number.isInteger(size) || size < 0 || size > 65_000)
		throw new UsageError(`--size "${stringOf(values, "size")}" is not 0-65000`);
	const host = await openHost(values, io);
	const json = values["json"] === true;
	try {
		const [address] = await host.resolve(name);
		const { stack } = host;
		const sentAt = new Map<number, number>();
		const times: number[] = [];
		let waiting: (() => void) | undefined;
		const identifier = stack.icmp.openEcho(
			{
				onReply: (packet, reply) => {
					const started = sentAt.get(reply.sequence);
					if (started === undefined) return;
					sentAt.delete(reply.sequence);
					const time = host.driver.now() - started;
					times.push(time);
					const line = {
						schemaVersion: 1,
						from: packet.source().toString(),
						sequence: reply.sequence,
						hopLimit: reply.hopLimit,
						bytes: reply.payload.length,
						timeMs: time,
					};
					io.stdout.write(
						json
							? `${JSON.stringify(line)}\n`
							: `${reply.payload.length} bytes from ${line.from}: seq=${reply.sequence} ttl=${reply.hopLimit} time=${time.toFixed(3)} ms\n`,
					);
					waiting?.();
				},
				onError: (kind, sequence) => {
					io.stderr.write(`seq=${sequence}: ${kind}\n`);
					waiting?.();
				},
			},
			stack.randomInt() & 0xffff,
		);
		for (let sequence = 1; sequence <= count && !io.signal.aborted; sequence++) {
			const started = host.driver.now();
			sentAt.set(sequence, started);
			const path = stack.path(address!);
			if (path === undefined) throw Object.assign(new Error(`no route to ${address}`), { code: "ENETUNREACH" });
			stack.icmp.sendEcho(undefined, path, identifier, sequence, new Uint8Array(size), 0);
			await new Promise<void>((resolve) => {
				const timer = setTimeout(resolve, TIMEOUT_MS);
				waiting = () => {
					clearTimeout(timer);
					resolve();
				};
			});
			if (sequence < count)
				await new Promise((resolve) => setTimeout(resolve, Math.max(0, INTERVAL_MS - (host.driver.now() - started))));
		}
		stack.icmp.closeEcho(identifier);
		io.stderr.write(`${count} sent, ${times.length} received\n`);
		return times.length > 0 ? EXIT.ok : EXIT.failed;
	} finally {
		host.close();
	}
}
