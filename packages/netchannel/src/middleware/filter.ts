import type { FilterProgram } from "../filter/program.ts";
import type { Link, Offload } from "../link/link.ts";
import { WrappedLink } from "./wrap.ts";

/** A link that lets only what `program` matches through, both ways or one; the rest is dropped and counted. */
export interface FilteredLink extends Link {
	readonly dropped: { sent: number; received: number };
}

class Filtered extends WrappedLink implements FilteredLink {
	readonly dropped: { sent: number; received: number } = { sent: 0, received: 0 };
	private readonly program: FilterProgram;
	private readonly direction: "in" | "out" | "both";

	constructor(link: Link, program: FilterProgram, direction: "in" | "out" | "both") {
		super(link);
		this.program = program;
		this.direction = direction;
	}

	override send(frame: Uint8Array, offload?: Offload): boolean {
		if (this.direction === "in" || this.program.matches(frame)) return super.send(frame, offload);
		this.dropped.sent++;
		return true;
	}

	protected override input(frame: Uint8Array, offload?: Offload): void {
		if (this.direction === "out" || this.program.matches(frame)) super.input(frame, offload);
		else this.dropped.received++;
	}
}

/** Wraps a link in a filter of {@link compileFilter}. */
export function filterFrames(
	link: Link,
	program: FilterProgram,
	direction: "in" | "out" | "both" = "both",
): FilteredLink {
	return new Filtered(link, program, direction);
}
