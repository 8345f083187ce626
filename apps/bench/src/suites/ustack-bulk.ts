import type { Suite } from "../suite.ts";
import { bulk } from "../ustack/bulk.ts";

/** The first part of the suite `ustack`, alone: bulk TCP. */
const suite: Suite = bulk;

export default suite;
