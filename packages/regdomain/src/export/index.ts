/**
 * Channels, domains and databases as JSON, CSV, Markdown, C, Kaitai Struct and SVG.
 *
 * @packageDocumentation
 */
export * from "./chart.ts";
export * from "./kaitai.ts";
export * from "./tables.ts";
