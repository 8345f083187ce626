/**
 * The model of the 2006 regulatory-domain patch, and the legacy ids of EEPROMs.
 *
 * @packageDocumentation
 */
export * from "./domain.ts";
export * from "./ids.ts";
export * from "./sub-bands.ts";
