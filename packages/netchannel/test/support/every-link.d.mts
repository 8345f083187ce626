import type { Link } from "../../src/index.ts";

export function everyLink(
	core: object,
	node: object,
	options: { folder: string; space: string | undefined; tag: string; mapped: boolean },
): Record<string, () => Promise<Link[]>>;

export function someFrame(medium: "ethernet" | "ip"): Uint8Array;
