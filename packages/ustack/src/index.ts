/**
 * A complete TCP/IP stack in user space with node:net's face, and a gateway for guests.
 *
 * @packageDocumentation
 */
export {};
