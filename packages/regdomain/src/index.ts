/**
 * Every decision the Linux kernel makes about Wi-Fi channels, and the regulatory databases behind it.
 *
 * @packageDocumentation
 */
export {};
