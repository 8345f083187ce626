/**
 * Checks of hostapd, OpenWrt UCI and NetworkManager configurations.
 *
 * @packageDocumentation
 */
export type { ConfigFinding } from "./finding.ts";
export { checkHostapd } from "./hostapd.ts";
export { checkNetworkManager } from "./network-manager.ts";
export { checkUci } from "./uci.ts";
