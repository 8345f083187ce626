export {
	type TablePlace,
	writeGdt,
	writeIdt,
	writeVectors,
} from "./descriptor-tables.ts";
export { HOLE, HOLE_SLOTS, type HoledMemory, mapWithHole } from "./memory-layout.ts";
export { longMode, protectedMode, realMode, SELECTORS } from "./modes.ts";
export { type PageRights, type PageSize, PageTables, type PagingFormat } from "./page-tables.ts";
export { encodeDescriptor, encodeGate, type FlatSegment, flatSegment, type Gate } from "./segments.ts";
