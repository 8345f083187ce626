/**
 * /dev/kvm's objects over two engines: the real device, and a software x86-64 engine that runs anywhere; and the machine around them.
 *
 * @packageDocumentation
 */
export * from "./machine/index.ts";
