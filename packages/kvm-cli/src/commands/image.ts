import { type Command, Option } from "commander";
import { CliError, EXIT } from "../exit.ts";
import {
	type BuildOptions,
	buildImage,
	checkPackageName,
	DEFAULT_IMAGE,
	KERNELS,
	type KernelName,
	packageImage,
	ROOT_FORMATS,
	type RootFormat,
	type RootSource,
	recipe,
} from "../image/build.ts";
import { cacheFolder, checkImageName, ImageStore, type StoredImage } from "../image/store.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { dropOldStarts, startsFolder } from "../sandbox/kept-start.ts";
import { progressOn } from "../terminal/progress.ts";

interface BuildFlags {
	kernel?: KernelName;
	architecture?: string;
	name?: string;
	packages: string[];
	fromFolder?: string;
	fromTar?: string;
	root?: RootFormat;
	gzip?: boolean;
	force?: boolean;
	json?: boolean;
}

/** Splits `--packages a,b`, which may come several times. */
export function packageList(value: string, before: readonly string[]): string[] {
	return [...before, ...value.split(",").filter(Boolean).map(checkPackageName)];
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
	root,
	rootFile,
	size,
}: StoredImage): object {
	const rootDisk = root && { root: { ...root, file: rootFile } };
	return { id, name, architecture, kernelRelease, size, folder, kernel, initrd, ...rootDisk, packages };
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

function sourceOf({ packages, fromFolder, fromTar }: BuildFlags): RootSource {
	const given = [packages.length > 0 && "--packages", fromFolder && "--from-folder", fromTar && "--from-tar"];
	const names = given.filter(Boolean);
	if (names.length > 1) {
		throw new CliError(
			EXIT.usage,
			"BAD_OPTION",
			`${names.join(" and ")}: a root comes from one place; give one of them`,
		);
	}
	if (fromFolder !== undefined) return { kind: "folder", path: fromFolder };
	if (fromTar !== undefined) return { kind: "archive", path: fromTar };
	return { kind: "packages", packages };
}

function buildOptions(flags: BuildFlags): BuildOptions {
	const kernel = kernelFor(flags);
	const source = sourceOf(flags);
	const plain = source.kind === "packages" && source.packages.length === 0;
	const name = flags.name ?? (plain ? (kernel === DEFAULT_IMAGE.kernel ? DEFAULT_IMAGE.name : kernel) : undefined);
	const defaults = source.kind === "packages" && !plain ? packageImage(source.packages, kernel) : DEFAULT_IMAGE;
	if (name === undefined && source.kind !== "packages") {
		throw new CliError(EXIT.usage, "NO_NAME", "give the image a --name: `xkvm run NAME` starts it");
	}
	return {
		...defaults,
		kernel,
		source,
		name: name === undefined ? defaults.name : checkImageName(name),
		root: flags.root ?? (plain ? "initramfs" : "squashfs"),
		gzip: flags.gzip ?? false,
		force: flags.force ?? false,
	};
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
 * The image with these packages, built first if there is none yet.
 *
 * @throws CliError
 */
export async function imageWithPackages(packages: readonly string[], io: CliIo): Promise<StoredImage> {
	const options = packageImage(packages);
	const found = await new ImageStore(cacheFolder(io.env)).find(options.name);
	return found?.recipe === recipe() ? found : (await buildWithProgress(options, io)).image;
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
	const image = program.command("image").description("build, list, remove and prune guest images");

	image
		.command("build")
		.description("make an image of a Debian kernel and a root file system: busybox, Debian packages, a folder or a tar")
		.addOption(new Option("--kernel <kernel>", "which of Debian's kernels").choices(Object.keys(KERNELS)))
		.addOption(new Option("--architecture <arch>", "Debian architecture of the guest").choices(["amd64", "i386"]))
		.option(
			"--name <name>",
			'what to call the image (default: "default", the kernel\'s name, or one made of the packages)',
		)
		.option(
			"--packages <list>",
			"Debian packages for it, with what they depend on, separated by commas (repeatable)",
			packageList,
			[],
		)
		.option("--from-folder <folder>", "take this folder as the root file system")
		.option("--from-tar <file>", "take this tar archive (.tar, .tar.gz), e.g. an exported container, as the root")
		.addOption(
			new Option(
				"--root <format>",
				"how the root reaches the guest: all in RAM, or read from a disk when needed (default: squashfs if there is more than busybox)",
			).choices(ROOT_FORMATS),
		)
		.option("--gzip", "compress initrd and root: smaller, slower to start")
		.option("--force", "build even if the image is up to date")
		.option("--json", "print one JSON object")
		.addHelpText(
			"after",
			`
Examples:
  xkvm image build                                        the default image
  xkvm image build --packages python3 --name python       xkvm run python -- python3 -c 'print(2**100)'
  xkvm image build --from-tar rootfs.tar --name mine      xkvm run mine -- /bin/sh -c 'cat /etc/os-release'`,
		)
		.action(async (flags: BuildFlags) => {
			const result = await buildWithProgress(buildOptions(flags), io);
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

	image
		.command("prune")
		.description("remove images that newer ones have replaced, all kept starts, and what killed builds left")
		.option("--all", "remove every image")
		.option("--json", "print one JSON object")
		.action(async (flags: { all?: boolean; json?: boolean }) => {
			const store = new ImageStore(cacheFolder(io.env));
			const removed = flags.all ? await store.list() : await store.unnamed();
			for (const old of removed) await store.remove(old);
			await store.sweep();
			const starts = await dropOldStarts(startsFolder(store.root), 0);
			const bytes = removed.reduce((sum, { size }) => sum + size, starts);
			if (flags.json) {
				io.stdout.write(jsonDocument({ removed: removed.map(({ id }) => id), bytes }));
				return;
			}
			for (const { id } of removed) io.stdout.write(`${id}\n`);
			io.stderr.write(`${removed.length} images removed, ${(bytes / 1e6).toFixed(1)} MB\n`);
		});
}
