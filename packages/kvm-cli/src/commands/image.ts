import { type Command, Option } from "commander";
import { CliError, EXIT } from "../exit.ts";
import { type BuildOptions, buildImage, KERNELS, type KernelName, recipe } from "../image/build.ts";
import { cacheFolder, checkImageName, ImageStore, type StoredImage } from "../image/store.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { progressOn } from "../terminal/progress.ts";

/** The image `xkvm run` uses when none is named. */
export const DEFAULT_IMAGE: BuildOptions = {
	kernel: "cloud",
	name: "default",
	packages: [],
	gzip: false,
	force: false,
};

interface BuildFlags {
	kernel?: KernelName;
	architecture?: string;
	name?: string;
	package: string[];
	gzip?: boolean;
	force?: boolean;
	json?: boolean;
}

function describeImage({
	folder,
	kernel,
	initrd,
	id,
	name,
	architecture,
	kernelRelease,
	packages,
	size,
}: StoredImage): object {
	return { id, name, architecture, kernelRelease, size, folder, kernel, initrd, packages };
}

function kernelFor({ kernel, architecture }: BuildFlags): KernelName {
	const chosen = kernel ?? (architecture === "i386" ? "686" : "cloud");
	if (architecture !== undefined && KERNELS[chosen].architecture !== architecture) {
		throw new CliError(
			EXIT.usage,
			"BAD_ARCHITECTURE",
			`the ${chosen} kernel is for ${KERNELS[chosen].architecture}, not ${architecture}`,
		);
	}
	return chosen;
}

/** Builds with a progress bar. */
export async function buildWithProgress(
	options: BuildOptions,
	io: CliIo,
): Promise<{ image: StoredImage; built: boolean }> {
	const progress = progressOn(io);
	try {
		const store = new ImageStore(cacheFolder(io.env));
		return await buildImage(options, { store, signal: io.signal, progress });
	} finally {
		progress.end();
	}
}

/**
 * The image of this name, built first if it is the default one and missing or made by another version of xkvm.
 *
 * @throws CliError NO_IMAGE
 */
export async function imageFor(name: string | undefined, io: CliIo): Promise<StoredImage> {
	const store = new ImageStore(cacheFolder(io.env));
	const wanted = name ?? DEFAULT_IMAGE.name;
	const found = await store.find(wanted);
	const isDefault = wanted === DEFAULT_IMAGE.name;
	if (found !== undefined && !(isDefault && found.recipe !== recipe())) return found;
	if (isDefault) return (await buildWithProgress(DEFAULT_IMAGE, io)).image;
	throw new CliError(
		EXIT.notFound,
		"NO_IMAGE",
		`no image ${wanted}; \`xkvm image list\` shows those there are, \`xkvm image build\` makes one`,
	);
}

export function addImageCommand(program: Command, io: CliIo, outcome: Outcome): void {
	const image = program.command("image").description("build, list and remove guest images");

	image
		.command("build")
		.description("make an image of a Debian kernel and busybox, fetched with the system's apt")
		.addOption(new Option("--kernel <kernel>", "which of Debian's kernels").choices(Object.keys(KERNELS)))
		.addOption(new Option("--architecture <arch>", "Debian architecture of the guest").choices(["amd64", "i386"]))
		.option("--name <name>", 'what to call the image (default: "default", or the kernel\'s name)')
		.option(
			"--package <name>",
			"unpack this Debian package into it too, with what it depends on (repeatable)",
			(value, all: string[]) => [...all, value],
			[],
		)
		.option("--gzip", "compress the initrd: smaller, slower to start")
		.option("--force", "build even if the image is up to date")
		.option("--json", "print one JSON object")
		.action(async (flags: BuildFlags) => {
			const kernel = kernelFor(flags);
			const name = checkImageName(flags.name ?? (kernel === DEFAULT_IMAGE.kernel ? DEFAULT_IMAGE.name : kernel));
			for (const wanted of flags.package) {
				if (!/^[a-z0-9][a-z0-9+.-]+$/.test(wanted)) {
					throw new CliError(
						EXIT.usage,
						"BAD_PACKAGE_NAME",
						`--package ${JSON.stringify(wanted)}: expected a Debian package name`,
					);
				}
			}
			const result = await buildWithProgress(
				{ kernel, name, packages: flags.package, gzip: flags.gzip ?? false, force: flags.force ?? false },
				io,
			);
			if (flags.json) {
				io.stdout.write(jsonDocument({ built: result.built, image: describeImage(result.image) }));
				return;
			}
			io.stderr.write(result.built ? "Built:\n" : "Up to date:\n");
			io.stdout.write(`${result.image.id}\t${result.image.kernelRelease}\n`);
		});

	image
		.command("list")
		.description("list the images in the cache")
		.option("--json", "print one JSON object")
		.action(async (flags: { json?: boolean }) => {
			const images = await new ImageStore(cacheFolder(io.env)).list();
			if (flags.json) {
				io.stdout.write(jsonDocument({ images: images.map(describeImage) }));
				return;
			}
			if (images.length === 0) io.stderr.write("No images; `xkvm image build` makes one.\n");
			for (const { id, name, kernelRelease, size } of images) {
				io.stdout.write(`${id}\t${name}\t${kernelRelease}\t${(size / 1e6).toFixed(1)} MB\n`);
			}
		});

	image
		.command("rm")
		.description("remove images by name or id")
		.argument("<image...>")
		.option("--json", "print one JSON object")
		.action(async (wanted: string[], flags: { json?: boolean }) => {
			const store = new ImageStore(cacheFolder(io.env));
			const removed: string[] = [];
			for (const name of wanted) {
				const found = await store.find(name);
				if (found === undefined) {
					if (!flags.json) io.stderr.write(`xkvm: no image ${name}\n`);
					outcome.exitCode = EXIT.notFound;
					continue;
				}
				await store.remove(found);
				removed.push(found.id);
				if (!flags.json) io.stdout.write(`${found.id}\n`);
			}
			if (flags.json) io.stdout.write(jsonDocument({ removed }));
		});
}
