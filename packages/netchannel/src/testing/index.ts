/**
 * The compliance suite every link of this package passes, for links of your own.
 *
 * @packageDocumentation
 */
export { type ComplianceContext, type ComplianceHarness, linkCompliance } from "./compliance.ts";
