import { canBeacon } from "../channel/beacon.ts";
import { checkChannelDefinition } from "../channel/usable.ts";
import type { RegulatoryState, RunningInterface } from "./state.ts";

/** The interfaces whose channel the domain no longer allows (`reg_leave_invalid_chans`). */
export function interfacesToLeave(state: RegulatoryState): RunningInterface[] {
	return state.interfaces.filter(({ radio, type, definition }) => {
		const channels = state.radios.find(({ name }) => name === radio)?.channels ?? [];
		if (type === "station" || type === "p2p-client") return !checkChannelDefinition(channels, definition).usable;
		return !canBeacon(channels, definition, { type, indoor: state.indoor }).usable;
	});
}
