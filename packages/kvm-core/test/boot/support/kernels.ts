import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

/**
 * Real kernels on this machine: those named in XKVM_TEST_KERNELS (separated like PATH), and those of images that
 * `xkvm image build` has made.
 */
export function realKernels(): string[] {
	const named = (process.env["XKVM_TEST_KERNELS"] ?? "").split(delimiter).filter(Boolean);
	const images = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "xkvm", "images");
	const built = existsSync(images) ? readdirSync(images).map((name) => join(images, name, "vmlinuz")) : [];
	return [...named, ...built].filter((path) => existsSync(path));
}
