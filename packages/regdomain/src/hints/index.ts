/**
 * The hint engine: who may set the regulatory domain, in virtual time.
 *
 * @packageDocumentation
 */
export * from "./compare.ts";
export * from "./engine.ts";
export * from "./events.ts";
export { domainFollowed } from "./radio.ts";
export * from "./scenario.ts";
export * from "./state.ts";
export type { Decision, Treatment } from "./treatment.ts";
