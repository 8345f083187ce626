/**
 * The interface that /dev/kvm had in 2006 (Linux 2.6.20), over either engine.
 *
 * @packageDocumentation
 */
export { ClassicKvm, type ClassicOptions, type ClassicStats, openClassic } from "./classic-kvm.ts";
export {
	CLASSIC,
	CLASSIC_API_VERSION,
	CLASSIC_BYTES,
	CLASSIC_EXIT,
	CLASSIC_EXIT_TYPE,
	CLASSIC_LIMITS,
	CLASSIC_LOG_DIRTY_PAGES,
	CLASSIC_MSRS,
	CLASSIC_RUN,
} from "./interface.ts";
