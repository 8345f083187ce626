import type { Suite } from "../suite.ts";
import { besideTheKernel } from "../ustack/paths.ts";

/** The last part of the suite `ustack`, alone. */
const suite: Suite = besideTheKernel;

export default suite;
