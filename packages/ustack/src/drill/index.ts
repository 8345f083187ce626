/**
 * packetdrill's scripts against this stack, in virtual time.
 *
 * @packageDocumentation
 */
export { type DrillOptions, type DrillProfile, type DrillResult, runScript } from "./runner.ts";
export { parseScript, type Script, type ScriptEvent, type ScriptSegment } from "./script.ts";
