/**
 * Regulatory databases: db.txt, regulatory.db (version 20) and regulatory.bin (version 19), read, written and compared.
 *
 * @packageDocumentation
 */
export { type DataOrigin, databaseModule } from "../data/generate.ts";
export * from "../dbtxt/compile.ts";
export { formatDbTxt } from "../dbtxt/format.ts";
export * from "../dbtxt/lint.ts";
export { type DbTxt, type DbTxtItem, type DbTxtWarning, parseDbTxt } from "../dbtxt/parse.ts";
export * from "../dbtxt/write.ts";
export * from "./diff.ts";
export { type RegulatoryBin, readRegulatoryBin, writeRegulatoryBin } from "./regulatory-bin.ts";
export { readRegulatoryDb } from "./regulatory-db.ts";
export { writeRegulatoryDb } from "./regulatory-db-write.ts";
export type { SourceCountry, SourceRule } from "./source.ts";
