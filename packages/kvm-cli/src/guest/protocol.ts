import { type Kernel, type KernelProtocol, kernelProtocols } from "@x/kvm-core";
import { CliError, EXIT } from "../exit.ts";

/**
 * Checks `--boot` against what the kernel offers.
 *
 * @throws CliError BAD_OPTION
 */
export function kernelProtocol(wanted: string | undefined, kernel: Kernel): KernelProtocol | undefined {
	if (wanted === undefined) return undefined;
	const possible = kernelProtocols(kernel);
	const found = possible.find((protocol) => protocol === wanted);
	if (found !== undefined) return found;
	throw new CliError(
		EXIT.usage,
		"BAD_OPTION",
		`--boot ${wanted}: this kernel can be entered by ${possible.join(", ")}`,
	);
}
