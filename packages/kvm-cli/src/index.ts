/**
 * xkvm: disposable Linux machines from npm. No daemon, no root, no KVM required.
 *
 * @packageDocumentation
 */
export {};
