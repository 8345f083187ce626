/**
 * Country elements and operating classes of IEEE 802.11.
 *
 * @packageDocumentation
 */
export * from "./country.ts";
export * from "./operating-class.ts";
