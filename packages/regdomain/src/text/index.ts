/**
 * Text of `iw`, rendered and parsed.
 *
 * @packageDocumentation
 */
export * from "./iw-channels.ts";
export * from "./iw-reg.ts";
