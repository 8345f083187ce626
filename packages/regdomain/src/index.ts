/**
 * Every decision the Linux kernel makes about Wi-Fi channels. This entry is the evaluator alone, without data.
 *
 * @packageDocumentation
 */
export * from "./channel/beacon.ts";
export * from "./channel/definition.ts";
export * from "./channel/dfs.ts";
export * from "./channel/plan.ts";
export * from "./channel/usable.ts";
export * from "./errors.ts";
export * from "./model/bands.ts";
export * from "./model/domain.ts";
export * from "./model/flags.ts";
export { contiguousBandwidthKHz, effectiveBandwidthKHz } from "./rules/bandwidth.ts";
export { DEFAULT_CAC_MS, type Quirks } from "./rules/decide.ts";
export * from "./rules/evaluate.ts";
export * from "./rules/explain.ts";
export * from "./rules/intersect.ts";
export * from "./rules/optimize.ts";
export * from "./rules/search.ts";
