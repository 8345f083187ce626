/**
 * Networks in virtual time, for tests of what uses the stack.
 *
 * @packageDocumentation
 */
export { seededBytes, seededRandom, VirtualNetwork, type WireOptions } from "./link/model.ts";
