/**
 * Disposable Linux machines from npm: no daemon, no root, no KVM required. `createSandbox` gives one; the `xkvm` command
 * is made of it, and `main` is that command as a function.
 *
 * @packageDocumentation
 */
export { EXIT } from "./exit.ts";
export type { CliIo, Input, Output } from "./io.ts";
export { main } from "./main.ts";
export type {
	LinkNetwork,
	SandboxExpose,
	SandboxNetwork,
	SandboxSecret,
	UserNetwork,
} from "./network/options.ts";
export {
	GuestSystemError,
	SandboxError,
	type SandboxErrorCode,
} from "./sandbox/errors.ts";
export type { ExecExit, ExecOptions, ExecOutput, Execution } from "./sandbox/execution.ts";
export type { DownloadReport, GuestEntry, GuestFiles, GuestFileType, GuestStat } from "./sandbox/files.ts";
export {
	createSandbox,
	type PublishedPort,
	type Sandbox,
	type SandboxImage,
	type SandboxOptions,
} from "./sandbox/sandbox.ts";
export type { Moment, StartTimings } from "./sandbox/timings.ts";
