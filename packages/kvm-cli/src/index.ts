/**
 * xkvm: disposable Linux machines from npm. No daemon, no root, no KVM required.
 *
 * The package is a command; `main` is that command as a function, for embedding and for tests.
 *
 * @packageDocumentation
 */
export { EXIT } from "./exit.ts";
export type { CliIo, Input, Output } from "./io.ts";
export { main } from "./main.ts";
