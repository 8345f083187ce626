import { Virtio9p, type VirtioDevice, VirtioFs, VirtioNet } from "@x/kvm-core";
import { type Link, LinkError } from "@x/netchannel";
import { openLink } from "@x/netchannel/node";
import type { RunRequest } from "../commands/run-options.ts";
import { CliError, EXIT } from "../exit.ts";
import type { CliIo } from "../io.ts";
import { planNetwork } from "../network/plan.ts";
import { linkFailure, openRequestedNetwork, tellPublished } from "../network/requested-network.ts";
import { RingLink } from "../network/ring-link.ts";
import { SandboxError } from "../sandbox/errors.ts";
import { NodeFolder } from "../share/node-folder.ts";

/** Devices that lead out of a machine, and what is behind them. */
export interface Attachments {
	readonly devices: readonly VirtioDevice[];
	close(): Promise<void>;
}

/**
 * Opens the network and the folders of a guest that configures itself: its card finds a DHCP server and router
 * advertisements where the gateway is, and each folder is there by virtio-fs and by 9p, whichever its kernel knows.
 *
 * @throws CliError
 */
export async function openAttachments(request: RunRequest, io: CliIo): Promise<Attachments> {
	const devices: VirtioDevice[] = [];
	const closers: (() => unknown)[] = [];
	const close = async (): Promise<void> => {
		for (const closer of closers.reverse()) await closer();
	};
	try {
		const { network, close: closeLog } = await openRequestedNetwork(request.network);
		closers.push(closeLog);
		const plan = await planNetwork(network);
		if (plan !== undefined) {
			const { cable, gateway, mac } = plan;
			if (gateway !== undefined) {
				closers.push(() => gateway.terminate());
				const { forwards } = await gateway.ready;
				tellPublished(
					request.network,
					forwards.map(({ port }) => port),
					request.json,
					io,
				);
			}
			const link: Link = typeof cable === "string" ? await openLink(cable) : new RingLink(cable);
			closers.push(() => link.close());
			devices.push(new VirtioNet({ link, mac }));
		}
		for (const { host, tag, readonly = false } of request.mounts) {
			for (const Device of [VirtioFs, Virtio9p]) {
				const folder = new NodeFolder(host, { readonly });
				closers.push(() => folder.close());
				devices.push(new Device({ folder, tag }));
			}
		}
	} catch (error) {
		await close();
		if (error instanceof LinkError) throw linkFailure(error);
		if (error instanceof SandboxError) {
			const exitCode = error.code === "ERR_SANDBOX_OPTION" ? EXIT.usage : EXIT.io;
			throw new CliError(exitCode, String(error.value ?? error.code), error.message, { cause: error });
		}
		throw error;
	}
	return { devices, close };
}
